// SPDX-License-Identifier: Apache-2.0
// block.h - the state of one block (32 pages) of the arena: an entry of the logical page table.
//
// Each fact is a mask with one bit a page. For page p, with n over all nodes, host = node 0, devices = 1 ..
//   allocated   set: somebody's memory.            clear: nobody's; the CPU's touch is SIGSEGV
//   starts      set: the first page of an allocation. clear: not
//   backed      set: a memfd page may exist.       clear: none does, reading the memfd gives zero
//   readable    set: the CPU has it mapped.        clear: the CPU's next touch faults
//   busy        set: moves of it are in flight.    clear: valid sets are final. Only the last move clears it
//   parked      set: a CPU thread may sleep on it and is woken when what it waits for is over
//   willneed    set: advised and not yet there
//   valid[n]    set: node n holds a current copy.  No node valid: NOMAP, the page reads as zero
//   writable[n] set: node n may write. For the host: mapped writable. For a device: it was last to get the page to
//               write
//   dirty[n]    devices only. set: its copy is newer than what the host last held
//   pinned[n]   set: gm_pin holds it there
// Invariants, checked by debug_validate(); a busy page is exempt from I1 to I3 until its moves have ended:
//   I1 writable[n] => valid = {n}.                  I2 two nodes valid => nobody writable.
//   I3 readable => valid[0]; writable[0] => readable.
//   I4 valid[d] => the block has a frame of d, and the frame's owner is this block.
//   I5 an open scope's pages are valid on its node, or busy.   a frame with leases or pins is never given back
//   I6 NOMAP => not readable, not dirty, not backed.
//   and: host memory that is registered, or about to be => all pages backed;  valid[0] => backed; readable =>
//   allocated, until the memory of a free has been reclaimed.
// Locking: every field is guarded by lock, save that busy may be read and waited on without it.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "base/mutex.h"
#include "base/page_mask.h"
#include "base/units.h"
#include "frame/frame_pool.h"

namespace gm {

struct transition;  // transition.h

enum class registration : std::uint8_t { none, registering, registered, unregistering };  // registrar.h

inline constexpr std::uint64_t piece_being_made = 1;

struct node_pages {
  page_mask valid;
  page_mask writable;
  page_mask dirty;
  page_mask pinned;
  std::uint32_t leases;          // active scopes on this node that touch the block
  std::uint32_t frame_plus_one;  // 0: no frame. Zeroed memory is a valid empty block
  std::uint64_t address;         // by which the device reaches the block's first byte; without a frame 0, or
                                 // piece_being_made while somebody waits for the device to make one

  frame_index frame() const { return frame_plus_one - 1; }
  bool has_frame() const { return frame_plus_one != 0; }
};
static_assert(sizeof(node_pages) == 32);

struct block {
  mutex<lock_rank::block> lock;
  page_mask allocated;
  page_mask starts;
  page_mask backed;
  page_mask readable;
  std::atomic<page_mask> busy;
  page_mask parked;
  page_mask willneed;
  std::uint32_t leases;        // sum over the nodes
  registration host_memory;    // registered with the copy engines? none: its pages may be given back
  std::uint16_t copied_pages;  // from or to host memory, since it was last considered for registering
  transition* transitions;     // the moves in flight, the newest first; busy is the union of their pages

  // The table lays the nodes out behind the block.
  node_pages& node(unsigned n) { return reinterpret_cast<node_pages*>(this + 1)[n]; }
  const node_pages& node(unsigned n) const { return reinterpret_cast<const node_pages*>(this + 1)[n]; }
  node_pages& host() { return node(host_node); }
  const node_pages& host() const { return node(host_node); }
};
static_assert(sizeof(block) == 48);

using block_guard = lock_guard<mutex<lock_rank::block>>;
using block_lock = std::unique_lock<mutex<lock_rank::block>>;  // where it is dropped half-way

// The pages of the block that belong to the same allocation as the page, which is allocated.
inline page_mask same_allocation(const block& b, unsigned page) {
  const page_mask begins_up_to = b.starts & pages_between(0, page + 1);
  const page_mask begins_behind = b.starts & ~pages_between(0, page + 1);
  const unsigned first = begins_up_to != 0 ? static_cast<unsigned>(std::bit_width(begins_up_to)) - 1 : 0;
  const unsigned last = begins_behind != 0 ? static_cast<unsigned>(std::countr_zero(begins_behind)) : pages_per_block;
  // Free pages may lie between it and the next.
  const unsigned end = page + static_cast<unsigned>(std::countr_one(b.allocated >> page));
  return pages_between(first, last < end ? last : end);
}

// Pages that some node holds a current copy of.
inline page_mask valid_anywhere(const block& b, unsigned nodes) {
  page_mask pages = no_pages;
  for (unsigned n = 0; n < nodes; ++n) pages |= b.node(n).valid;
  return pages;
}

// Pages that gm_pin holds on some device.
inline page_mask pinned_to_devices(const block& b, unsigned nodes) {
  page_mask pages = no_pages;
  for (unsigned n = 1; n < nodes; ++n) pages |= b.node(n).pinned;
  return pages;
}

// Pages that a node other than n holds a current copy of.
inline page_mask valid_elsewhere(const block& b, unsigned nodes, unsigned n) {
  page_mask pages = no_pages;
  for (unsigned other = 0; other < nodes; ++other)
    if (other != n) pages |= b.node(other).valid;
  return pages;
}

}  // namespace gm
