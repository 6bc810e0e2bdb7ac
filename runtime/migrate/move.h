// SPDX-License-Identifier: Apache-2.0
// move.h - one transaction: pages of one block get a current copy on one node.
//
//   begin --> in flight --complete--> recorded            only begin can fail; a failed copy cancels:
//                       \--cancel---> as before           the old state is in force, save that the CPU may have lost
//                                                         mappings of pages that stay valid on the host
// begin_move_locked() checks, takes write permission away from whoever has it, marks the pages busy and plans the
// copies. The caller then drops the block's lock and calls submit_move(). When the copies are done, a thread of the
// backend records the new valid sets, maps what the CPU waits for, wakes parked faults, and reports to the owner. While
// pages are busy nobody else changes them; their source copies stay valid and readable.
//
// A move to a device may combine host and peer sources; a move to the host has one source device.
//
// Followers. Pages in flight can be moved on without waiting for them: a follower is planned on what the moves ahead of
// it will leave (transition.h), on a stream that waits for their fences, so its callback comes behind theirs. If one
// ahead fails, the pages never reach the follower's source: it is asked before its first copy, fails in turn, and its
// destination keeps what it had. Its source may be its destination, where the pages are already or on their way: then
// it copies nothing, and has the pages waited for, and owned when the stream comes to it, if that has not failed.
//
// Pages that no node holds are filled with zeroes on a device (on the host, host_pages.h makes them). Moves come from a
// pool with a reserve for faults, which allocate nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "migrate/access_map.h"
#include "vm/vm_object.h"

namespace gm {

struct move;
// Called once when the move is over, with no lock held, on a thread of the backend, or in submit() when that fails.
using move_done = void (*)(void* owner, const move&, status result);

struct move : transition {
  vm_object* vm = nullptr;
  block_index index;
  unsigned source = host_node;       // of a move to the host, and of a follower
  page_mask grant = no_pages;        // of a move to the host: pages to map for the CPU afterwards
  page_mask filled = no_pages;       // pages that were NOMAP
  page_mask overwritten = no_pages;  // pages that change owner without their contents
  page_mask shown = no_pages;        // pages that the destination's kernels find as soon as they have arrived
  bool follows = false;
  move_done done = nullptr;
  void* owner = nullptr;
  device::stream* stream = nullptr;
  bool own_stream = false;  // the device's own copy stream: it ends whatever the program does
  move* next = nullptr;     // in the pool
};

// The copies of one move, built under the block's lock and given to the backend without it. Where they are written is
// of two sizes: a fault may be served on a signal's stack of 8 KiB.
struct planned_copies {
  planned_copies(device::copy_run* copies_at, device::fill_run* fills_at, device::fence* ahead_at,
                 entry_words* words_at = nullptr)
      : copies(copies_at), fills(fills_at), ahead(ahead_at), words(words_at) {}
  planned_copies(const planned_copies&) = delete;
  planned_copies& operator=(const planned_copies&) = delete;

  device::copy_run* const copies;
  device::fill_run* const fills;
  device::fence* const ahead;  // of the moves that a follower comes behind
  entry_words* const words;    // entries to be written behind the copies; null: none ever are
  std::size_t copy_count = 0;
  std::size_t fill_count = 0;
  std::size_t ahead_count = 0;
};

// Of any move.
struct copy_plan : planned_copies {
  copy_plan() : planned_copies(copies_, fills_, ahead_) {}

 private:
  device::copy_run copies_[pages_per_block];
  device::fill_run fills_[pages_per_block];
  device::fence ahead_[pages_per_block];
};

// Of a move whose pages a device's kernels wait for.
struct shown_copy_plan : planned_copies {
  shown_copy_plan() : planned_copies(copies_, fills_, nullptr, &words_) {}

 private:
  device::copy_run copies_[pages_per_block];
  device::fill_run fills_[pages_per_block];
  entry_words words_;
};

// Of a move to the host that follows none: from one device, which makes no more runs than every other page.
struct homeward_copy_plan : planned_copies {
  homeward_copy_plan() : planned_copies(copies_, nullptr, nullptr) {}

 private:
  device::copy_run copies_[pages_per_block / 2];
};

struct move_request {
  unsigned destination = host_node;
  unsigned source = host_node;  // to copy from: a device, for a move to the host; any node, for a follower
  page_mask pages = no_pages;   // none of them valid on the destination, none busy; of a follower any
  page_mask exclusive = no_pages;
  page_mask overwritten = no_pages;  // of a follower: of the exclusive ones, those whose contents are not needed
  page_mask grant = no_pages;
  page_mask shown = no_pages;     // of a move to a device that follows none: what its kernels are to find
  bool keep_cpu_mapping = false;  // the CPU keeps reading what is copied from the host and not exclusive
  bool follows = false;
  device::stream* stream = nullptr;            // null: the device's own copy streams; of a follower never
  const device::backend_table* api = nullptr;  // the stream's
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
void make_exclusive_locked(vm_object&, block_index, block&, unsigned node, page_mask pages);

// Whether the pages can be copied to the node without going through the host. Returns those that cannot.
page_mask unreachable_locked(const vm_object&, const block&, unsigned destination, page_mask pages);

// Whether moves can follow those in flight on the pages, on a stream of that backend.
enum class following : std::uint8_t {
  possible,       // also where nothing is in flight
  not_submitted,  // ... yet, by the thread that began them: vm.submissions rises when it has
  impossible,     // one is on a stream of another backend
};
following may_follow_locked(const block&, page_mask pages, const device::backend_table&);

// Fills the move and the plan. Host memory for a move to the host is backed here. A follower must be possible. On
// failure nothing is busy that was not.
status begin_move_locked(vm_object&, block_index, block&, const move_request&, move&, planned_copies&);

// Hands the copies to the backend. On failure the move has been cancelled and given to done; it is gone in any case.
// On success fence (may be null) receives the point where the move is recorded. A follower's stream waits for the moves
// ahead; all else that the copies must come behind is the caller's to have queued.
status submit_move(move_pool&, move*, const planned_copies&, device::fence* fence);

// Followers that copy nothing, of any blocks, on one stream: one unit of it, all or none.
class owning_moves {
 public:
  owning_moves(vm_object& vm, move_pool& pool) : vm_(vm), pool_(pool) {}
  owning_moves(const owning_moves&) = delete;
  owning_moves& operator=(const owning_moves&) = delete;

  // Begins one. On failure the block is as it was. May throw bad_alloc; then, too.
  status begin_locked(block_index, block&, const move_request&);
  // Its stream waits for all that is ahead of them. Refused: all are cancelled.
  status submit();
  ~owning_moves();  // cancels what has not been submitted

 private:
  struct begun {
    block* at;
    move* record;
    std::uint64_t serial;
  };
  static gm_status ready(void* first);
  static void done(void* first, gm_status result);

  vm_object& vm_;
  move_pool& pool_;
  move* first_ = nullptr;  // linked by next
  std::vector<begun> begun_;
  std::vector<device::fence> ahead_;  // the last on each stream
};

// Adds a fence to a list of what to wait for, which holds the last on each stream. May throw bad_alloc.
void add_fence(std::vector<device::fence>& list, device::fence fence);

}  // namespace gm
