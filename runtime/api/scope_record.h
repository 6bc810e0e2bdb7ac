// SPDX-License-Identifier: Apache-2.0
// scope_record.h - one declared access, from begin to release: gm_access_begin/end, and with it prefetch, pin, discard,
// gm_memcpy and gm_memset, which are scopes that end at once.
//
// The life of a scope:
//   1 plan      ranges sorted; a reference to each allocation; for each block the pages to bring and to own
//   2 begin     the lease takes its place in the order of scopes (lease_table.h): waits for open ones, notes the
//               fences of ended ones
//   3 gather    with the device's admission lock: every block gets its lease count and its frame; others are evicted.
//               A block that has all it needs is finished here: one lock, a few masks. Without a window, what is free
//               may be in pieces too small: then all of the scope's own goes home as well, and is taken anew
//   4 copy      the rest, block by block: the CPU's and other devices' permissions are revoked, moves begin. Copies go
//               on the runtime's own copy streams, and on the scope's stream where they must follow an ended scope.
//               Pages in flight are followed (move.h), so that the host does not wait for the work they wait for
//     demand    ranges on demand bring nothing: their scope is given a number, by which its kernels' faults are served
//   5 order     the stream waits for the noted fences and for the copies
//   6 own       pages that are overwritten whole change owner without a copy, in stream order. From here nothing fails
//      ... the program queues its work ...
//   7 end       a fence behind the work; the lease is `ended`
//   8 release   when fence and moves are done: the lease goes, lease counts fall, parked faults wake, references drop
// Failure in 3 to 5 undoes 2 and 3 and waits for moves begun: contents are as before, though perhaps elsewhere.
// A copy that fails later fails the scope's stream, so that its kernels do not run, and end() reports it.
// Threads: a scope is used by one thread at a time; release runs on a thread of the backend.
#pragma once

#include <memory>
#include <vector>

#include "api/runtime.h"

namespace gm {

struct scope_request {
  std::vector<leased_range> ranges;  // of arena offsets, each inside one allocation
  unsigned node = host_node;
  stream_record* stream = nullptr;  // null: all is there when begin returns
  bool prefetch = false;            // the CPU's mapping goes with the pages (to a device) or comes (to the host)
  bool detached = false;            // a hint: nothing is waited for or evicted; with a null stream
  bool pins = false;                // refused where pages are pinned to a device (to the host, every scope is)
  bool own_late = false;            // step 6 is the caller's, when it knows that the contents will be overwritten
  bool revoke_cpu = false;          // host scopes with a stream: the CPU waits like everybody else
};

class scope_record {
 public:
  // On failure *begun is untouched and everything is as it was.
  static status begin(runtime&, scope_request&&, scope_record** begun);
  // The scope is gone afterwards, whatever is returned.
  static status end(scope_record*);

  // Step 6, for a request that put it off.
  void own_pages();

  // Of bytes that the scope has.
  status view(byte_range, gm_view_data& result) const;

  unsigned node() const { return request_.node; }
  stream_record* stream() const { return request_.stream; }
  // Kept until the scope is released: what its queued work uses.
  void keep(std::shared_ptr<void> what) { kept_ = std::move(what); }
  // Changes each block of the plan under its lock, between begin and end.
  template <typename F>
  void for_each_block(F&& each) {
    for (entry& e : plan_) {
      block_guard guard(e.target->lock);
      each(e.index, *e.target, e.need | e.write);
    }
  }

 private:
  struct entry {
    block* target;
    block_index index;
    page_mask need;   // pages whose contents are wanted
    page_mask write;  // pages to own
    page_mask moved;  // of those: what our own moves bring
    bool leased;
    bool missing;     // had no frame
    bool unfinished;  // steps 4 and 6 have work here
  };

  scope_record(runtime& rt, scope_request&& request) : rt_(rt), vm_(rt.vm), request_(std::move(request)) {}
  bool on_device() const { return request_.node != host_node; }
  device_node& device() const { return vm_.device(request_.node); }

  status make_plan();
  void add_blocks(byte_range);
  entry& entry_of(block_index);
  status try_begin();
  status gather();
  status lease_blocks(std::uint32_t& missing_frames);
  status lease_and_get_frames();
  status gather_anew();
  std::uint32_t count_missing();
  status get_frames(std::uint32_t missing_frames);
  status get_piece(const piece&);
  bool finish_resident_locked(entry&);
  status no_room(status);
  bool may_find_room_later() const;
  void touch_frames();
  status copy_blocks(const lease_order&);
  block_lock lock_for_planning(const entry&);
  page_mask in_flight_locked(const entry&, page_mask) const;
  status copy_to_device(entry&, const lease_order&, device::stream* ordered);
  status copy_to_host(entry&, device::stream* ordered);
  status bring_home_first(entry&, const lease_order&, page_mask far, block_lock&);
  bool plan_follower_locked(const entry&, page_mask, move_request&) const;
  status host_pages_for(entry&, block_lock&, page_mask);
  status start_move(entry&, move_request, block_lock&);
  void come_behind_others_locked(const entry&);
  bool own_in_stream_order();
  status order_stream(const lease_order&);
  status begin_demand();
  status wait_for_map(const device::fence& ready) const;
  void end_demand();
  static void demand_failed(void* self, status, const char* why);
  void wait_for_moves();
  void undo();
  void drop_leases();
  void give_up_lease();
  void end_lease(work_fence);
  void release();
  void finish_one();
  static void move_ended(void* self, const move&, status);
  static void work_done(void* self, gm_status);
  status failure() const;

  runtime& rt_;
  vm_object& vm_;
  scope_request request_;
  lease lease_;
  std::vector<extent*> extents_;
  std::vector<entry> plan_;
  std::vector<piece> pieces_;        // without a window: what the plan's blocks come in, the largest first
  device_faults* demand_ = nullptr;  // serves the ranges on demand, from begin_demand() to end_demand()
  unsigned demand_number_ = 0;
  std::atomic<int> demand_failed_{GM_OK};  // of a scope without a stream, and why
  char demand_words_[256] = {};
  std::shared_ptr<void> kept_;
  std::vector<device::fence> copies_;  // what the stream waits for: the last on each other stream
  // Moves in flight, and one for the scope itself until its fence is done. Whoever takes it to zero releases.
  std::atomic<std::uint32_t> pending_{1};
  std::atomic<int> failed_{GM_OK};
  // From here on a failed move fails the stream; before, begin() itself reports it.
  std::atomic<bool> begun_{false};
  std::atomic<bool> told_{false};  // a failure has been reported, in one of the two ways
  // Why gather() found no room, vm.room_changes when it looked, and whether others may make some.
  enum class room : std::uint8_t { enough, scopes, copies };
  room short_of_room_ = room::enough;
  bool scattered_ = false;  // no contiguous room, although the frames are free
  std::uint32_t retry_after_ = 0;
  bool try_again_ = false;
};

// Ranges of user pointers, checked: not null, not empty, inside one live allocation.
status managed_range(runtime&, const void* pointer, std::size_t bytes, byte_range& range);

}  // namespace gm
