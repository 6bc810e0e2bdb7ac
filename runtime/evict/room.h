// SPDX-License-Identifier: Apache-2.0
// room.h - frames of a device for those who need them: free ones, else those of the least recently used blocks.
//
// The life of an eviction, for a piece whose blocks have no leases, no pins and nothing busy:
//   0 running kernels that fetched pages of it lose them, unless they hold on to one for long (remapping.h)
//   1 pages that only this device holds and that it wrote are moved home (a move to the host, many at once)
//   2 when those moves are recorded: the device's copies are struck from the table, clean ones without any copying
//   3 the blocks lose their frame, and the piece goes back to the device
// A write-back that fails leaves the piece where it is. Whoever touches the pages meanwhile finds them valid or busy.
// Locking: the caller holds the device's admission lock (so nobody else takes leases there, or evicts) and no block's.
// Write-backs are waited for; they are behind no user work. A block gets and loses its frame under the pieces lock.
#pragma once

#include "base/status.h"
#include "migrate/move.h"
#include "vm/vm_object.h"

namespace gm {

// Gives every block of the piece a frame of the device, unless they have them. evict: other pieces may be evicted; who
// does not ask for that needs no admission lock.
// no_memory: what could be evicted does not suffice.   busy: it would, once copies in flight have ended.
status acquire_piece(vm_object&, move_pool&, device_node&, const piece&, victim_class, bool evict);

// Evicts until so many frames are free. Fails as acquire_piece does.
status make_room(vm_object&, move_pool&, device_node&, std::uint32_t frames);

// One round: evicts up to so many frames, as far as they can be had now. Returns how many came free; in_vain: how often
// a piece was looked at that could not go.
std::uint32_t evict_some(vm_object&, move_pool&, device_node&, std::uint32_t frames, std::uint32_t* in_vain = nullptr);

// Takes the piece's frames from its blocks, which hold nothing valid on the device, and gives them back. Whoever takes
// the first block's frame releases the piece: the other one of two finds it gone. Needs no admission lock.
void release_piece(vm_object&, device_node&, const piece&);

// Gives the block's frame (a piece of one) back if nobody's memory is in the block any more. Needs no admission lock.
void release_unused_frame(vm_object&, device_node&, block_index);

// The same if its memory is somebody's, but nothing of it is there, or declared.
void release_empty_frame(vm_object&, device_node&, block_index);

// The piece that a block of an extent belongs to on this device: one block with a window, else all of the extent's.
piece piece_for(const device_node&, const extent&, block_index);

}  // namespace gm
