// SPDX-License-Identifier: Apache-2.0
// gpu_event.h - the events of one device, used again and again: making one costs a call into the driver, taking one
// from the pool a few instructions.
//
//   idle --take--> held (by any number of references) --last reference goes--> idle
// Recording an event again is allowed as soon as nobody holds it: a stream that was told to wait for it waits for the
// recording of that time.
// Locking: one lock a pool, for a few instructions; innermost. Threads: any. The pool outlives its events.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <utility>

#include "device/gpu/vendor.h"

namespace gm::device::gpu {

class event_pool;

struct pooled_event {
  vendor::event handle = vendor::no_event;
  std::atomic<std::uint32_t> references{0};
  event_pool* pool = nullptr;
  pooled_event* next_idle = nullptr;
};

// A share in one event. Empty where there is none.
class event_ref {
 public:
  event_ref() = default;
  explicit event_ref(pooled_event* taken) noexcept : event_(taken) {}  // with a reference that is ours
  event_ref(const event_ref& other) noexcept : event_(other.event_) {
    if (event_ != nullptr) event_->references.fetch_add(1, std::memory_order_relaxed);
  }
  event_ref(event_ref&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  event_ref& operator=(event_ref other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~event_ref();

  explicit operator bool() const noexcept { return event_ != nullptr; }
  vendor::event handle() const noexcept { return event_->handle; }

 private:
  pooled_event* event_ = nullptr;
};

// Return when the event, of the current device, has happened, or everything on the stream is done. What is not final is
// asked twice; an error after that means that nobody knows when it will have.
vendor::error wait_for(const event_ref& event) noexcept;
vendor::error wait_for_all(vendor::stream on) noexcept;

class event_pool {
 public:
  event_pool() = default;
  event_pool(const event_pool&) = delete;
  event_pool& operator=(const event_pool&) = delete;

  // An event that nobody else holds, of the current device; empty, with *why, when the API has none to give.
  event_ref take(vendor::error* why) noexcept;
  // Before the device goes, on it. No event is held.
  void destroy_all() noexcept;

 private:
  friend class event_ref;
  void give_back(pooled_event* event) noexcept;

  std::mutex mutex_;
  std::deque<pooled_event> all_;
  pooled_event* idle_ = nullptr;
};

}  // namespace gm::device::gpu
