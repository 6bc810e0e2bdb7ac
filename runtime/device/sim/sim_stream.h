// SPDX-License-Identifier: Apache-2.0
// sim_stream.h - one stream of a simulated device: a queue of units and the thread that runs them in order.
//
//   idle --start--> live --retire--> idle --start--> ...
// A stream's struct lives as long as its backend and is used again for the next stream that is created, on any device.
// Positions only ever grow, so a fence of an earlier life is complete for ever.
// S1 completed <= enqueued; retire() leaves them equal.   S2 a unit's callback has returned before its position is
// completed.   S3 an independent stream never has a failure.
// Failure: a unit of an ordinary stream that fails, or stream_fail, sets the stream's failure; the first one stays.
// While it is set, transfers, calls and kernels are skipped. Waits are not: a fence behind one covers it nonetheless.
// Locking: the queue's and the failure's own; innermost. Threads: start() and retire() one; all else any.
#pragma once

#include <cstdint>
#include <thread>

#include "device/backend.h"
#include "device/parts/completions.h"
#include "device/parts/stream_failure.h"
#include "device/sim/sim_queue.h"

namespace gm::device {

struct stream {
 public:
  // False when there is no memory for the queue; once, before the first start().
  bool create_storage() noexcept { return queue_.create_storage(); }

  gm_status start(device* where, std::uint32_t flags) noexcept;
  void retire() noexcept;  // runs what is queued, then ends the thread

  gm_status push(const sim::unit_request& request, fence* completion) noexcept {
    return queue_.push(request, this, completion);
  }
  gm_status synchronize() noexcept;
  void set_failure(gm_status why, const char* text) noexcept {
    if (!is_independent_) failure_.set(why, text);
  }
  gm_status current_failure() noexcept { return failure_.current(); }

  device* owner() const noexcept { return device_; }
  fence last_enqueued() noexcept { return {this, queue_.enqueued()}; }
  bool is_complete(std::uint64_t position) const noexcept { return completed_.reached(position); }
  void wait_complete(std::uint64_t position) noexcept { completed_.wait(position); }

 private:
  void thread_main() noexcept;

  void run_unit(const sim::unit_entry* unit) noexcept;
  gm_status run_work(const sim::unit_entry* unit) noexcept;
  gm_status run_transfer(const sim::unit_entry* unit) noexcept;
  gm_status run_fills(const sim::unit_entry* unit) noexcept;
  gm_status run_copies(const sim::unit_entry* unit) noexcept;
  void write_words(const sim::unit_entry* unit) noexcept;
  gm_status run_call(const sim::unit_entry* unit) noexcept;
  gm_status run_launch(const sim::unit_entry* unit) noexcept;
  gm_status run_finish(const sim::unit_entry* unit) noexcept;
  std::uint64_t book_links(const sim::unit_entry* unit) noexcept;

  sim::sim_queue queue_;
  device* device_ = nullptr;
  bool is_independent_ = false;
  std::thread thread_;

  completions completed_;
  stream_failure failure_;
};

}  // namespace gm::device
