// SPDX-License-Identifier: Apache-2.0
// gpu_queue.h - the units of one stream that the device or the host has still to do, in order, between those who
// enqueue and the one thread that waits for them and calls back.
//
//   free --take--> being filled in --push--> queued --next--> running --done--> free
//                         \--give_back--> free
// A unit that runs stays in the queue until done(), so that its end can be asked for. Units are numbered 1, 2, ... in
// the order of push(); the number is the position that fences are made of, and it goes on through restart().
// take() waits while capacity_units are in use, save on a stream's own thread, which is the one that makes room. The
// bound is well below what drivers queue before they block, and below what a gated stream may hold of theirs.
// Locking: one lock, for a few instructions; innermost. Threads: next() and done() one; all else any.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "device/backend.h"
#include "device/gpu/gpu_event.h"

namespace gm::device::gpu {

enum class unit_kind : std::uint8_t {
  transfer,       // runs are the device's: the unit is done when its end has happened
  host_transfer,  // runs are the thread's, behind `reached`; the device waits at the gate
  call,           // the function is the thread's, likewise
  wait,           // for another stream's fence; the device waits for an event of its own
  fence
};

struct unit {
  unit* next = nullptr;
  std::uint64_t position = 0;
  unit_kind kind = unit_kind::fence;
  gm_status status = GM_OK;  // known when it was enqueued: it is skipped, or was refused half-way
  std::string words;         // for that
  callback done = nullptr;
  readiness ready = nullptr;  // transfers: asked before the first run, by the thread
  void* argument = nullptr;
  void (*function)(void*) = nullptr;  // call
  fence awaited;                      // wait
  event_ref reached;                  // the device stands at the gate
  event_ref end;                      // everything up to here is done on the device
  std::uint64_t gate = 0;             // what the stream's flag must be for the device to go on; 0: no gate
  std::vector<fill_run> fills;        // host_transfer
  std::vector<copy_run> copies;
  std::vector<word_write> writes;  // behind them
  std::size_t runs_max = 0;        // so many of the runs are done before the unit fails by `status`
};

class unit_queue {
 public:
  static constexpr std::uint32_t capacity_units = 512;

  unit_queue() = default;
  unit_queue(const unit_queue&) = delete;
  unit_queue& operator=(const unit_queue&) = delete;
  ~unit_queue();

  // An empty unit. Null when there is no memory for one.
  unit* take() noexcept;
  void give_back(unit* unused) noexcept;
  // *completion (may be null) is written before the unit can run. The position.
  std::uint64_t push(unit* filled, stream* owner, fence* completion) noexcept;

  // The first unit, when there is one. Null after stop(), when the queue is empty.
  unit* next() noexcept;
  void done(unit* first) noexcept;

  void stop() noexcept;
  void restart() noexcept;

  std::uint64_t enqueued() const noexcept { return enqueued_.load(std::memory_order_acquire); }
  // The end of the unit with that position; empty when it is done. Never a later one's: that may be behind a gate which
  // only opens when the one who asks has been served.
  event_ref end_of(std::uint64_t position) const noexcept;

 private:
  void recycle_locked(unit* used) noexcept;

  mutable std::mutex mutex_;
  std::condition_variable has_room_;
  std::condition_variable has_work_;
  std::atomic<std::uint64_t> enqueued_{0};
  std::atomic<std::uint64_t> finished_{0};
  unit* first_ = nullptr;
  unit* last_ = nullptr;
  unit* free_ = nullptr;  // most recently used first
  std::uint32_t in_use_ = 0;
  std::uint32_t waiting_for_room_ = 0;
  bool runner_sleeps_ = false;
  bool is_stopped_ = false;
};

}  // namespace gm::device::gpu
