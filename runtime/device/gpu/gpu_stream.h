// SPDX-License-Identifier: Apache-2.0
// gpu_stream.h - one stream of a GPU: a queue of the vendor's, and a thread of ours that follows it.
//
//   idle --start--> live --retire--> idle --start--> ...
// Whoever enqueues gives the work to the device at once and leaves a unit with an event in the queue; the stream's
// thread waits for the events in order, calls back, and completes the positions that fences are made of.
//
// Host steps. What the host must do in the stream's order (functions given to call(), and copies whose host memory is
// not registered: a driver would block the caller for those, or read the source too early; and copies that first ask
// whether their source has arrived) is done by the thread:
//   device:  ... earlier work | reached | gate: waits until the flag is n | end | later work ...
//   thread:                     waits for `reached`, does its step, sets the flag to n
// So work launched on the native handle behind it waits too, and a blocked step holds up this stream and nothing else.
// Host copies go over a native stream of the thread's own, through pinned memory (staged_copies.h) where theirs is not
// registered. Copies to and from mapped frames of another device, where neither can be given access to the other's, are
// host steps too, from device to host to device. Without stream memory
// operations the gate is a host function that blocks: with drivers that run those on one thread, a step that waits for
// another stream's step then never ends.
//
// stream_wait is an event for the device, and a unit that makes the thread wait for the other stream's thread, so that
// callbacks keep the order too. Threads wait along fences that were there before, never in a circle.
//
// Failure. What the API refuses before anything of a unit has been queued is the caller's error. A unit refused
// half-way is a unit that failed, and units enqueued behind it are skipped, as on sim. What is on the device already
// when stream_fail comes, or when it fails by itself, runs; its callback is told of the failure. A device that fails by
// itself is lost as a rule (gpu_device.h), and runs nothing more.
// S1 completed <= enqueued; retire() leaves them equal.   S2 a unit's callback has returned before its position is
// completed.   S3 an independent stream has neither a failure nor a refusal.   S4 flags are set in rising order.
// Locking: enqueue_mutex_ makes one call's work stay together on the device and puts units into the queue in the
// device's order; calls of the API are made under it, and the queue's lock inside it. No callback runs under any lock.
// Threads: start() and retire() one; all else any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "device/backend.h"
#include "device/gpu/gpu_device.h"
#include "device/gpu/gpu_queue.h"
#include "device/parts/completions.h"
#include "device/parts/stream_failure.h"

namespace gm::device {

namespace gpu {
class staged_copies;
}

// What a transfer is asked for: fills, then copies, then words.
struct transfer_work {
  const fill_run* fills;
  std::size_t fill_count;
  const copy_run* copies;
  std::size_t copy_count;
  const word_write* words;
  std::size_t word_count;
};

struct stream {
 public:
  // A stream of our own, or over one of the program's.
  gm_status start(device* where, std::uint32_t flags) noexcept;
  gm_status start_from(device* where, gpu::vendor::stream native) noexcept;
  void retire() noexcept;  // waits for the work, also for what the program launched
  // The device closes, and is current; the stream is nobody's.
  void forget(const device& closing) noexcept;

  gm_status transfer(readiness ready, const transfer_work& what, callback done, void* argument,
                     fence* completion) noexcept;
  gm_status wait_for(fence awaited) noexcept;
  gm_status record(callback done, void* argument, fence* completion) noexcept;
  gm_status call(void (*function)(void*), void* argument) noexcept;
  gm_status synchronize() noexcept;
  void set_failure(gm_status why, const char* words) noexcept {
    if (!is_independent_) failure_.set(why, words);
  }

  device* owner() const noexcept { return device_; }
  gpu::vendor::stream native() const noexcept { return native_; }
  gm_status current_failure() noexcept {
    gm_status why = device_->loss.current();
    if (why == GM_OK) why = failure_.current();
    return why == GM_OK ? refusal_.current() : why;
  }
  bool has_failed() const noexcept { return failure_.is_set() || refusal_.is_set() || device_->loss.is_set(); }
  bool is_complete(std::uint64_t position) const noexcept { return completed_.reached(position); }
  void wait_complete(std::uint64_t position) noexcept { completed_.wait(position); }

 private:
  // How a copy gets there.
  enum class run_path : std::uint8_t {
    by_stream,         // the copy engine does it, in the order of a native stream
    staged_to_device,  // through pinned memory
    staged_to_host,
    out_of_reach  // from or to a device that this one does not reach
  };

  // gpu_stream.cpp: under enqueue_mutex_, on the device, unless they say otherwise.
  gm_status begin(device* where, std::uint32_t flags) noexcept;  // no lock: the stream is nobody's yet
  gm_status take_flag(device* where) noexcept;                   // no lock
  bool needs_host(const transfer_work& what) const noexcept;     // no lock
  run_path path_of(const copy_run& run) const noexcept;          // no lock
  device* out_of_reach(std::uint64_t address) const noexcept;    // no lock
  bool keep(gpu::unit* u, const transfer_work& what) noexcept;   // no lock
  void redirect(gpu::unit* u) noexcept;                          // no lock
  std::uint64_t where_kernels_look(std::uint64_t address, std::uint64_t bytes) const noexcept;  // no lock
  bool skip_if_failed(gpu::unit* u) noexcept;
  gm_status submit(gpu::unit* u, const transfer_work& what) noexcept;
  gm_status submit_fills(gpu::unit* u, const transfer_work& what, bool* any) noexcept;
  gm_status submit_copies(gpu::unit* u, const transfer_work& what, bool* any) noexcept;
  gm_status submit_words(const transfer_work& what) noexcept;
  void count_runs(gpu::unit* u) noexcept;
  gm_status submit_host_step(gpu::unit* u) noexcept;
  gm_status close_gate(std::uint64_t value) noexcept;
  gm_status take_event(gpu::event_ref* event) noexcept;
  void record_end(gpu::unit* u) noexcept;
  void doom(gpu::unit* u, gm_status why) noexcept;
  template <class Submit>
  gm_status enqueue(gpu::unit* u, fence* completion, Submit submit) noexcept;

  // gpu_stream_thread.cpp: on the stream's thread.
  void thread_main() noexcept;
  void run(gpu::unit* u) noexcept;
  gm_status run_work(gpu::unit* u) noexcept;
  gm_status ask(const gpu::unit* u) noexcept;
  gm_status run_call(const gpu::unit* u) noexcept;
  gm_status carry_out(const gpu::unit* u) noexcept;
  gpu::vendor::error carry_out_runs(const gpu::unit* u) noexcept;
  gpu::vendor::error write_words(const gpu::unit* u) noexcept;
  gpu::vendor::error carry_out_run(const copy_run& run, run_path path, gpu::staged_copies* staged) noexcept;
  gpu::vendor::error carry_out_of_reach(const copy_run& run) noexcept;
  gm_status happened(const gpu::event_ref& event) noexcept;
  void open_gate(std::uint64_t value) noexcept;

  // Either: on any native stream of this device.
  gpu::vendor::error copy_one(const copy_run& run, gpu::vendor::stream on) noexcept;
  gpu::vendor::error fill_one(const fill_run& run, bool by_copies, gpu::vendor::stream on) noexcept;

  gpu::unit_queue queue_;
  device* device_ = nullptr;
  bool is_independent_ = false;
  bool owns_native_ = false;
  gpu::vendor::stream native_ = gpu::vendor::no_stream;
  gpu::vendor::stream helper_ = gpu::vendor::no_stream;  // the thread's own, for host copies
  std::unique_ptr<std::uint8_t[]> between_;              // the thread's, between devices that do not reach each other
  std::thread thread_;

  std::mutex enqueue_mutex_;
  gpu::vendor::flag flag_{};      // for gates
  device* flag_owner_ = nullptr;  // where it was made; null: there is none
  std::uint64_t gates_ = 0;       // so many have been closed
  stream_failure refusal_;        // of a unit in the queue: what is enqueued behind it is skipped
  std::uint64_t refused_at_ = 0;  // its position

  completions completed_;
  stream_failure failure_;  // of a unit that is through, or by stream_fail
};

}  // namespace gm::device
