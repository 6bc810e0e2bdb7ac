// SPDX-License-Identifier: Apache-2.0
// device_faults.h - serving one device's kernels: the requests for pages that they post while they run.
//
// The life of a request:
//   1 a kernel finds an entry without the permission it needs and posts the page in the ring     (gmem/access_map.h)
//   2 work() takes what has come, sorts it by page and joins it to what is still waiting
//   3 serve_block(), for each block, under its lock:
//       being copied or remapped, or declared by a scope ahead -> later
//       the CPU has just taken it     -> later, for a moment (access_map::hold_until_ns)
//       goes to and fro too often     -> stays where it is for a while (bounces.h), later
//       in use by another device's kernels, in a way that excludes this one -> taken from them, later
//       no frame                      -> one is taken; without free ones the reclaimer is asked, later
//       valid here                    -> others lose it when it is to be written; shown
//       only on a device that this one cannot copy from -> a move to the host, later
//       else                          -> a move here, with the pages that policy takes along (policy/bring_plan.h),
//                                        which shows them; blocks further on are brought as far as frames are free
//   4 the kernel sees the entry change, and goes on
// "Later" means with the next round: the thread goes round while anything waits or kernels may ask, and sleeps when
// there is no on-demand scope. It waits for nothing but locks, and copies are behind no user work: kernels that wait
// never keep it from serving them.
// What cannot be served: pages whose copy or entries fail, and pages for which no frame came free in stuck_ns although
// nobody else holds any. Their scopes get no more pages, and their streams fail with the reason; contents stand. So it
// is with a device that stops answering altogether (device_answers.h), which the log tells as well.
// Threads: work() is one thread; the rest may be called from any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "evict/reclaimer.h"
#include "fault/bounces.h"
#include "fault/device_answers.h"
#include "migrate/access_map.h"
#include "migrate/move.h"
#include "platform/thread.h"
#include "policy/bring_plan.h"
#include "vm/vm_object.h"

namespace gm {

// Told once, by any thread, why a scope gets no more pages. The words stay until the call returns.
struct demand_failure {
  void (*failed)(void* owner, status, const char* why) = nullptr;
  void* owner = nullptr;
};

class device_faults {
 public:
  static constexpr std::uint64_t stuck_ns = 2'000'000'000;

  device_faults(vm_object& vm, move_pool& moves, device_node& device, bounces& thrash);
  ~device_faults() { stop(); }
  // The map, and the threads. Nothing is left when it fails.
  status start();
  void stop();

  access_map& map() { return map_; }
  device_answers& answers() { return answers_; }
  // Of a scope, whose lease is in the table; the ranges stay until end_scope(). Until then failures are told.
  void begin_scope(unsigned scope, std::span<const leased_range>, const device::stream*, demand_failure);
  void end_scope(unsigned scope);
  // Without a scope: both threads sleep, and nothing has asked for them. This one first: it is who asks for the other.
  bool at_rest() const { return (asleep_.load() || map_.in_use()) && reclaimer_.at_rest(); }

 private:
  struct posted_page {
    std::uint64_t page;
    std::uint64_t scopes;    // one bit each
    std::uint64_t since_ns;  // when it came
    bool write;
    bool planned;   // what comes along with it has been thought of
    bool streamed;  // ... and its block's data looks as if used once
  };
  struct wanted_pages {
    page_mask pages = no_pages;
    page_mask to_write = no_pages;
    page_mask fresh = no_pages;  // those that have just been asked for
    // Nobody has asked for these: they are left away where anything is in the way.
    page_mask along = no_pages;
    page_mask along_to_write = no_pages;  // of those, or of what is here
  };
  struct begun_work;

  void work();
  bool take_requests();
  bool serve();
  page_mask serve_block(block_index, wanted_pages);
  page_mask drop_gone_locked(block_index, const block&, page_mask wanted);
  page_mask serve_block_locked(block_index, block&, wanted_pages, begun_work&);
  page_mask take_from_others_locked(block_index, block&, wanted_pages, begun_work&);
  bool has_place(block_index, block&, bool asked_for);
  page_mask declared_locked(block_index, const block&) const;
  void plan(block_index, block&, wanted_pages&, bool first_asked_for);
  void bring_ahead();
  page_mask unneeded_elsewhere_locked(block_index, const block&, page_mask, bool to_write) const;
  void give_up_stuck(std::uint64_t now);
  void report_silence(std::uint64_t now);
  void give_up_on(std::uint64_t scopes, status, const char* why);
  void give_up_pages(block_index, page_mask, status, const char* what);
  static void entries_failed(void* self, const remapping&, status);
  void give_up_again();
  void ask_again(block_index, page_mask pages, page_mask to_write);
  std::uint64_t scopes_over(block_index, page_mask);
  static void move_ended(void* self, const move&, status);

  vm_object& vm_;
  move_pool& moves_;
  device_node& device_;
  bounces& thrash_;
  access_map map_;
  device_answers answers_;
  reclaimer reclaimer_;
  thread thread_;
  device_streams streams_{};  // of the thread alone, as is the plan
  bool streamed_ = false;     // what is being served looks as if used once
  returning_data returning_;
  bring_plan ahead_{};  // what to bring before it is asked for, from the second entry on
  event work_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> asleep_{false};      // a thread that has not started yet does not sleep, either
  std::vector<posted_page> unanswered_;  // requests whose answer has failed; under scopes_lock_
  std::vector<posted_page> waiting_;     // sorted by page
  bool starved_ = false;                 // this round found no frame
  bool may_be_served_soon_ = false;      // something waits for more than scopes to end
  std::uint64_t starved_since_ns_ = 0;
  std::uint64_t evictions_seen_ = 0;

  struct scope_entry {
    std::span<const leased_range> ranges;
    const device::stream* stream = nullptr;
    demand_failure told;
  };
  mutex<lock_rank::demand_scopes> scopes_lock_;
  std::array<scope_entry, GM_MAP_SCOPES> scopes_;
  std::atomic<std::uint64_t> unheard_{0};  // given up, but the device did not take the word yet
};

}  // namespace gm
