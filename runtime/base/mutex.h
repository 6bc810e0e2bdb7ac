// SPDX-License-Identifier: Apache-2.0
// mutex.h - the runtime's lock, four bytes (one stands in every block), and its way of waiting.
//
// mutex   futex-backed: 0 free, 1 held, 2 held and somebody may sleep. Spins briefly first. Has a rank (lock_rank.h).
// event   a counter that rises whenever something happened. A waiter reads it, looks at the world, and sleeps only
//         if the counter still is what it read: so no wake-up is lost, and no lock is held meanwhile.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/lock_rank.h"

namespace gm {

#ifdef GMEM_DEBUG_CHECKS
void rank_acquired(lock_rank);
void rank_released(lock_rank);
#else
inline void rank_acquired(lock_rank) {}
inline void rank_released(lock_rank) {}
#endif

template <lock_rank Rank>
class mutex {
 public:
  mutex() = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  void lock() {
    rank_acquired(Rank);
    std::uint32_t expected = 0;
    if (!state_.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed)) lock_slow();
  }
  bool try_lock() {
    std::uint32_t expected = 0;
    if (!state_.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed))
      return false;
    rank_acquired(Rank);
    return true;
  }
  void unlock() {
    if (state_.exchange(0, std::memory_order_release) == 2) state_.notify_one();
    rank_released(Rank);
  }

 private:
  [[gnu::noinline]] void lock_slow() {
    for (int spin = 0; spin < 64; ++spin) {
      std::uint32_t expected = 0;
      if (state_.load(std::memory_order_relaxed) == 0 &&
          state_.compare_exchange_weak(expected, 1, std::memory_order_acquire, std::memory_order_relaxed))
        return;
    }
    while (state_.exchange(2, std::memory_order_acquire) != 0) state_.wait(2, std::memory_order_relaxed);
  }

  std::atomic<std::uint32_t> state_{0};
};

template <typename Mutex>
class [[nodiscard]] lock_guard {
 public:
  explicit lock_guard(Mutex& mutex) : mutex_(&mutex) { mutex_->lock(); }
  lock_guard(const lock_guard&) = delete;
  lock_guard& operator=(const lock_guard&) = delete;
  ~lock_guard() {
    if (mutex_ != nullptr) mutex_->unlock();
  }
  void unlock() {
    mutex_->unlock();
    mutex_ = nullptr;
  }

 private:
  Mutex* mutex_;
};

class event {
 public:
  std::uint32_t now() const { return count_.load(std::memory_order_acquire); }
  void happened() {
    count_.fetch_add(1, std::memory_order_acq_rel);
    count_.notify_all();
  }
  void wait_past(std::uint32_t seen) const { count_.wait(seen, std::memory_order_acquire); }

 private:
  std::atomic<std::uint32_t> count_{0};
};

}  // namespace gm
