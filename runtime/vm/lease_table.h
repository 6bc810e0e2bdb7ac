// SPDX-License-Identifier: Apache-2.0
// lease_table.h - the declared accesses that are going on, and their order.
//
//   begin --> open --end--> ended --release--> released --remove--> gone
// A lease says: this node reads or writes these pages, from begin until its fence. Two leases conflict where they share
// a page and one of them writes.
//   open    its owner may still queue work. A conflicting lease cannot begin.
//   ended   its last work is queued and `fence` follows it. A conflicting lease may begin, and must order its own work
//           behind that fence.
//   released its work is done; blocks still count it. It conflicts with nothing, but who waits for frames waits for its
//   end
// A range on demand stays nowhere, and no CPU access waits for it. It conflicts with every range that is not on demand,
// and one of those that comes later waits for its release, since what it would plan with changes until then.
// begin() takes all ranges at once or none, under one lock: leases never wait for each other half-taken.
// Waiting: begin_or_wait() sleeps on the table's event, with nothing held; a CPU access that conflicts sleeps in its
// fault. Threads that hold open leases and wait for one another in either way would sleep for ever: the last of the
// circle gets busy, or its access is an offence. Who waits for whom is kept with what it needs no memory for: a waiter
// on the stack of begin_or_wait(), a parked fault in an open lease of its thread. (A thread without an open lease
// closes no circle.) A record is forgotten when either lease ends, and when its thread is known to have gone on. CPU
// accesses ask cpu_verdict() or admit_cpu() under their block's lock; blocks count their leases, so it is asked only
// where any are. Locking: rank leases, held while the active leases are walked (there are as many as scopes in flight).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "base/page_mask.h"
#include "base/status.h"
#include "base/units.h"
#include "device/backend.h"
#include "platform/thread.h"
#include "platform/user_mapping.h"
#include "vm/advice_map.h"

namespace gm {

struct leased_range {
  byte_range bytes;
  gm_mode mode;
  bool on_demand = false;  // kernels fetch it through views: its pages may come and go
  bool writes() const { return mode != GM_READ; }
  page_range pages() const { return {page_of(bytes.begin), page_of(bytes.end + page_bytes - 1)}; }
};

struct work_fence {
  const device::backend_table* api = nullptr;
  device::fence at;
};

enum class lease_state : std::uint8_t { none, open, ended, released };

struct lease {
  std::span<const leased_range> ranges;  // sorted by address; the owner keeps them alive until remove()
  unsigned node = host_node;
  thread_id owner = 0;
  lease_state state = lease_state::none;
  bool gathered = false;                   // its blocks count it: frames stay for it
  bool resident = false;                   // everything was brought in: I5 holds from here on
  work_fence fence;                        // once ended
  const device::stream* stream = nullptr;  // whose work the lease is for; null: of no stream
  // The owner's thread sleeps in a CPU fault until that open lease is released. Of an owner's open leases one says so.
  const lease* owner_parked_on = nullptr;
  mutable bool behind = false;  // for frames_held_elsewhere()
  lease* next = nullptr;
  lease* previous = nullptr;
};

// What a beginning lease must come behind.
struct lease_order {
  std::vector<work_fence> fences;
  std::vector<byte_range> ranges;  // of the leases that the fences belong to
};

// How a beginning lease deals with those it conflicts with.
enum class conflicts : std::uint8_t {
  order,  // waits for open ones; ended ones are noted, to be ordered behind
  wait,   // waits for open and ended ones
  never,  // busy, at once
};

class lease_table {
 public:
  // busy: it would wait for this thread, or in a circle. no_memory. Nothing has begun then.
  status begin_or_wait(lease&, conflicts, lease_order& order);
  void end(lease&, work_fence);
  // Also for a lease that is still open (its begin was given up). Wakes whoever waits, as remove() does again.
  void release(lease&);
  void remove(lease&);
  void set_gathered(lease&);
  void set_resident(lease&);

  enum class verdict {
    free,
    wait,        // for a lease's release
    own,         // never: the thread itself has a conflicting lease open
    own_stream,  // never: the thread runs work of a stream, and a conflicting lease is released behind that work
    circle,      // never: a conflicting lease's owner waits for an open lease of this thread, directly or not
  };
  // May the CPU access the page now? running: the unit of stream work that the thread is running, if any.
  verdict cpu_verdict(page_index, cpu_access, thread_id, device::fence running = {}) const;
  // The same, for a thread that is about to sleep when it has to wait: that is remembered.
  verdict admit_cpu(page_index, cpu_access, thread_id, device::fence running = {});
  // Is the page in any active lease?
  bool covers(page_index) const;
  // ... on that node?
  bool covers(page_index, unsigned node) const;
  // Whether leases that have gathered are in the way of frames on the node (the host's too: what it works on is not
  // evicted onto), and whether waiting for them can help this thread.
  enum class room { none, wait, own };
  room room_on(unsigned node, thread_id) const;
  // The pages of the block that on-demand leases on the node cover: kernels may be using them, or will. Only resident:
  // without those that have only begun, whose kernels are not queued yet.
  page_mask on_demand(unsigned node, block_index, bool only_resident = false) const;
  // Of those, the ones that kernels may write.
  page_mask written_on_demand(unsigned node, block_index) const;
  // The ranges on demand of leases on the node, as many as fit. Returns how many there are.
  std::size_t ranges_on_demand(unsigned node, std::span<byte_range> ranges) const;
  // The pages of the block that leases have declared, and that kernels of the node which fetch pages so have no
  // business with yet: save where a lease of the node has the same page both ways.
  page_mask declared(unsigned node, block_index) const;
  // The pages around this one that an on-demand lease on the node covers; none: {page, page}.
  page_range on_demand_around(unsigned node, page_index) const;
  // Do leases hold frames on the node whose work is not behind that of the streams, as far as the order of leases
  // tells?
  bool frames_held_elsewhere(unsigned node, std::span<const device::stream* const>) const;
  // Is there an open lease over any page of the range?
  bool open_over(byte_range) const;
  std::size_t active() const;

  // Rises whenever a lease ends or goes.
  event& changes() { return changes_; }

  template <typename F>
  void for_each(F&& each) const {
    lock_guard guard(lock_);
    for (const lease* l = first_; l != nullptr; l = l->next) each(*l);
  }

 private:
  struct waiter {
    thread_id thread;
    const lease* waits_on;  // null again when it has ended, though its thread may not have woken yet
    waiter* next;
  };
  static bool conflict(const lease&, std::span<const leased_range>, byte_range* shared);
  const lease* awaited_by_locked(thread_id) const;
  bool would_circle_locked(thread_id self, thread_id blocker) const;
  verdict judge_locked(page_index, cpu_access, thread_id, device::fence running, const lease*& in_the_way) const;
  void forget_waits_locked(const lease&);
  void set_parked_locked(thread_id, const lease*);

  mutable mutex<lock_rank::leases> lock_;
  lease* first_ = nullptr;
  lease* last_ = nullptr;
  waiter* waiters_ = nullptr;
  std::size_t active_ = 0;
  std::size_t parked_ = 0;  // leases with owner_parked_on
  event changes_;
};

// Sorts the ranges, and calls look(block_index) for each block that they touch, once and in order, until it is false.
template <class F>
void each_block_of(std::span<byte_range> ranges, F&& look) {
  std::sort(ranges.begin(), ranges.end(), [](const byte_range& a, const byte_range& b) { return a.begin < b.begin; });
  block_index next{0};
  for (const byte_range& range : ranges)
    for (next = std::max(next, block_of(range.begin)); offset_of(next) < range.end; ++next)
      if (!look(next)) return;
}

}  // namespace gm
