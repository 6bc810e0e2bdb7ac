// SPDX-License-Identifier: Apache-2.0
// reclaimer.h - a thread that keeps some frames of one device free while kernels fetch their own pages, so that serving
// them waits for no write-back.
//
// It evicts when fewer than low() frames are free, until high() are, and sleeps otherwise; where all that scopes have
// on demand is there, or nearly, no more than is still to come is kept free. look() is for whoever takes frames,
// starved() for who found none, or no memory of the device's for one: then one is evicted, whatever the figures say.
// What goes is judged by policy (policy/victim_order.h), from what kernels have touched since the last look: their
// marks are read from the device, all at once, and those of frames that were looked at reset. What is chosen is put
// where make_room() looks first. Locking: takes the device's admission lock while it evicts. Threads: one of its own;
// all else any.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "migrate/move.h"
#include "platform/thread.h"
#include "vm/vm_object.h"

namespace gm {

class reclaimer {
 public:
  reclaimer(vm_object& vm, move_pool& moves, device_node& device) : vm_(vm), moves_(moves), device_(device) {}
  reclaimer(const reclaimer&) = delete;
  reclaimer& operator=(const reclaimer&) = delete;

  status start();
  void stop();

  // Of the newest streamed frames, so many are in use by the streams.
  void streams_use(std::uint32_t frames) { streams_use_.store(frames, std::memory_order_relaxed); }
  // Frames are wanted, or may soon be.
  void look() {
    if (device_.pool.free_frames() < enough()) wanted_.happened();
  }
  // It sleeps, and nothing has asked for it.
  bool at_rest() const { return seen_.load(std::memory_order_acquire) == wanted_.now(); }
  // Somebody has found no free frame; or (of_memory) one, but no memory of the device's for it.
  void starved(bool of_memory) {
    (of_memory ? no_memory_ : no_frame_).store(true, std::memory_order_relaxed);
    wanted_.happened();
  }
  std::uint32_t low() const { return no_more_than_to_come(enough()); }
  std::uint32_t high() const { return no_more_than_to_come(enough() * 2); }

 private:
  void work();
  std::uint32_t enough() const;
  std::uint32_t no_more_than_to_come(std::uint32_t frames) const;
  void choose_victims(std::uint32_t frames);
  bool read_marks();
  bool is_marked(block_index) const;
  void evict(std::uint32_t frames);

  vm_object& vm_;
  move_pool& moves_;
  device_node& device_;
  thread thread_;
  event wanted_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint32_t> streams_use_{0};
  std::atomic<bool> no_frame_{false};   // somebody found none
  std::atomic<bool> no_memory_{false};  // ... found a frame and no memory for it
  // Of the thread alone.
  std::vector<block_index> owners_;   // sorted; blocks whose marks were read
  std::vector<std::uint8_t> marked_;  // for each: whether any page was touched
  std::vector<device::copy_run> runs_;
  std::vector<device::fill_run> resets_;
  std::uint32_t turn_ = 0;
  std::uint32_t left_ = 0;  // of those that were to go, so many could not: leases, pins or kernels hold them
  std::atomic<std::uint32_t> seen_{~0u};  // of wanted_, and done; nothing yet
};

}  // namespace gm
