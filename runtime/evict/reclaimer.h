// SPDX-License-Identifier: Apache-2.0
// reclaimer.h - a thread that keeps some frames of one device free while kernels fetch their own pages, so that serving
// them waits for no write-back.
//
// It evicts when fewer than low() frames are free, until high() are, and sleeps otherwise. ask() is for whoever finds
// none. What is evicted is what make_room() would evict, save that frames whose pages kernels have touched since the
// last look get a second chance: their marks are read from the device and reset (access_map.h).
// Locking: takes the device's admission lock while it evicts. Threads: one of its own; all else any.
#pragma once

#include <atomic>
#include <cstdint>

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

  // Frames are wanted, or may soon be.
  void look() {
    if (device_.pool.free_frames() < low()) wanted_.happened();
  }
  std::uint32_t low() const;
  std::uint32_t high() const { return low() * 2; }
  // Rounds that have freed something, and that have freed nothing, though they should.
  std::uint64_t successes() const { return successes_.load(std::memory_order_acquire); }
  std::uint64_t failures() const { return failures_.load(std::memory_order_acquire); }

 private:
  void work();

  vm_object& vm_;
  move_pool& moves_;
  device_node& device_;
  thread thread_;
  event wanted_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> successes_{0};
  std::atomic<std::uint64_t> failures_{0};
};

}  // namespace gm
