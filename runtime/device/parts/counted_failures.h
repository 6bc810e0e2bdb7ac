// SPDX-License-Identifier: Apache-2.0
// counted_failures.h - counted failures of one backend's operations, for tests (fail_nth).
//
// One counter an operation: n > 0 means that the n-th pass from now is due to fail; 0 is off, and one load.
// Passes are counted where the operation would do its work: a submit where nothing else can refuse it any more but
// memory, a run when it is about to run. Skipped work passes nothing. copy_run and fill_run count single runs.
// Threads: any; the n-th pass is exactly one, whoever makes it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "device/backend.h"

namespace gm::device {

class counted_failures {
 public:
  // False for an operation that does not exist.
  bool arm(operation what, std::uint64_t n) noexcept {
    if (what >= operation::count_) return false;
    counter(what).store(n, std::memory_order_relaxed);
    return true;
  }

  // Counts one pass; true when it is the one to fail.
  bool is_due(operation what) noexcept {
    std::atomic<std::uint64_t>& left = counter(what);
    std::uint64_t n = left.load(std::memory_order_relaxed);
    while (n != 0) {
      if (left.compare_exchange_weak(n, n - 1, std::memory_order_relaxed)) return n == 1;
    }
    return false;
  }

 private:
  std::atomic<std::uint64_t>& counter(operation what) noexcept { return left_[static_cast<std::size_t>(what)]; }

  std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(operation::count_)> left_{};
};

}  // namespace gm::device
