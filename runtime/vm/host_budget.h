// SPDX-License-Identifier: Apache-2.0
// host_budget.h - how many host pages exist in the memfd, and how many may. A page is charged before it is populated
// and uncharged after it is punched. Threads: any, no lock.
#pragma once

#include <atomic>
#include <cstdint>

namespace gm {

class host_budget {
 public:
  void create(std::uint64_t limit_pages) { limit_ = limit_pages; }

  bool charge(std::uint64_t pages) {
    std::uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      if (used + pages > limit_) return false;
    } while (!used_.compare_exchange_weak(used, used + pages, std::memory_order_relaxed));
    return true;
  }
  void uncharge(std::uint64_t pages) { used_.fetch_sub(pages, std::memory_order_relaxed); }

  std::uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  std::uint64_t limit() const { return limit_; }

 private:
  std::atomic<std::uint64_t> used_{0};
  std::uint64_t limit_ = 0;
};

}  // namespace gm
