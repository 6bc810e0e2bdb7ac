// SPDX-License-Identifier: Apache-2.0
// completions.h - how far a stream is: the position that its fences are asked about, and those who sleep for it.
//
// The stream's one thread advances it; positions only grow, also from one life of a stream to the next, so a fence of
// an earlier life is complete for ever. Threads: complete() one, all else any.
#pragma once

#include <atomic>
#include <cstdint>

#include "device/parts/clock.h"

namespace gm::device {

class completions {
 public:
  bool reached(std::uint64_t position) const noexcept { return last_.load(std::memory_order_acquire) >= position; }

  void complete(std::uint64_t position) noexcept {
    last_.store(position, std::memory_order_release);
    // Sequentially consistent, as notify's test for sleepers must not come before it.
    changes_.fetch_add(1, std::memory_order_seq_cst);
    changes_.notify_all();
  }

  void wait(std::uint64_t position) noexcept {
    constexpr std::uint64_t waiter_spin_ns = 10'000;
    if (spin_for_ns(waiter_spin_ns, [=, this] { return reached(position); })) return;
    while (true) {
      const std::uint32_t seen = changes_.load(std::memory_order_seq_cst);
      if (reached(position)) return;
      changes_.wait(seen, std::memory_order_seq_cst);
    }
  }

 private:
  alignas(64) std::atomic<std::uint64_t> last_{0};  // position of the last unit that is done
  std::atomic<std::uint32_t> changes_{0};           // changes after last_ has: what waiters sleep on
};

}  // namespace gm::device
