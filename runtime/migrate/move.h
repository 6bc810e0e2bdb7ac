// SPDX-License-Identifier: Apache-2.0
// move.h - one transaction: pages of one block get a current copy on one node.
//
//   begin --> in flight --complete--> recorded            only begin can fail; a failed copy cancels:
//                       \--cancel---> as before           the old state is in force, save that the CPU may have lost
//                                                         mappings of pages that stay valid on the host
// begin_locked() checks, takes write permission away from whoever has it, marks the pages busy and plans the copies.
// The caller then drops the block's lock and calls submit(). When the copies are done, on a thread of the backend:
// complete() records the new valid sets, maps what the CPU waits for, wakes parked faults, and reports to the owner.
// While pages are busy nobody else changes them; their source copies stay valid and readable.
//
// A move to a device may combine host and peer sources; a move to the host has one source device.
// Pages that no node holds are filled with zeroes on a device (on the host, host_pages.h makes them).
// Moves come from a pool with a reserve for faults, which allocate nothing.
#pragma once

#include <cstdint>

#include "base/mutex.h"
#include "base/status.h"
#include "vm/vm_object.h"

namespace gm {

struct move;
// Called once when the move is over, with no lock held, on a thread of the backend, or in submit() when that fails.
using move_done = void (*)(void* owner, const move&, status result);

struct move {
  vm_object* vm = nullptr;
  block_index index;
  unsigned destination = host_node;
  unsigned source = host_node;  // of a move to the host
  page_mask pages = no_pages;
  page_mask exclusive = no_pages;  // of those: afterwards the destination alone is valid, and may write
  page_mask grant = no_pages;      // of a move to the host: pages to map for the CPU afterwards
  page_mask filled = no_pages;     // pages that were NOMAP
  page_mask inherited = no_pages;  // pages whose source is a device with a newer copy than the host's
  move_done done = nullptr;
  void* owner = nullptr;
  device::stream* stream = nullptr;
  device::fence fence;  // after submit(): completes behind the recording
  move* next = nullptr;
};

// The copies of one move, built under the block's lock and given to the backend without it.
struct copy_plan {
  device::copy_run copies[pages_per_block];
  device::fill_run fills[pages_per_block];
  std::size_t copy_count = 0;
  std::size_t fill_count = 0;
};

struct move_request {
  unsigned destination = host_node;
  unsigned source = host_node;  // device to copy from, for a move to the host
  page_mask pages = no_pages;   // none of them valid on the destination, none busy
  page_mask exclusive = no_pages;
  page_mask grant = no_pages;
  bool keep_cpu_mapping = false;     // the CPU keeps reading what is copied from the host and not exclusive
  device::stream* stream = nullptr;  // null: the device's own copy streams
  move_done done = nullptr;
  void* owner = nullptr;
};

class move_pool {
 public:
  // Records that faults can count on.
  static constexpr unsigned reserve = 256;

  move_pool() = default;
  move_pool(const move_pool&) = delete;
  move_pool& operator=(const move_pool&) = delete;
  ~move_pool();
  status create(counter& metadata_bytes);

  // Null: without memory, or (for_fault) the reserve is in use; then moves are in flight that will come back.
  move* take(bool for_fault);
  void give_back(move*);

 private:
  mutex<lock_rank::moves> lock_;
  move* free_ = nullptr;
  unsigned free_count_ = 0;
  counter* metadata_bytes_ = nullptr;
};

// The node alone holds a current copy from now on, and a device may write it. The CPU has lost the pages already where
// the node is a device; nothing is busy. What was there is the caller's business: it was copied, or is not needed.
void make_exclusive_locked(vm_object&, block&, unsigned node, page_mask pages);

// Whether the pages can be copied to the node without going through the host. Returns those that cannot.
page_mask unreachable_locked(const vm_object&, const block&, unsigned destination, page_mask pages);

// Fills the move and the plan. Host memory for a move to the host is backed here. On failure nothing is busy.
status begin_move_locked(vm_object&, block_index, block&, const move_request&, move&, copy_plan&);

// Hands the copies to the backend. On failure the move has been cancelled and given to done; it is gone in any case.
// On success fence (may be null) receives the point where the move is recorded.
status submit_move(move_pool&, move*, const copy_plan&, device::fence* fence);

}  // namespace gm
