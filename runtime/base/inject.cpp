// SPDX-License-Identifier: Apache-2.0
#include "base/inject.h"

namespace gm::inject {
namespace {
struct counter {
  std::atomic<std::uint64_t> left{0};
  std::atomic<std::uint64_t> passes{0};
  std::atomic<bool> counting{false};
};
counter counters[static_cast<unsigned>(point::count_)];
counter& of(point where) { return counters[static_cast<unsigned>(where)]; }
}  // namespace

std::atomic<std::uint32_t> armed{0};

bool fails_armed(point where) {
  counter& c = of(where);
  if (!c.counting.load(std::memory_order_acquire)) return false;
  c.passes.fetch_add(1, std::memory_order_relaxed);
  std::uint64_t left = c.left.load(std::memory_order_relaxed);
  while (left != 0)
    if (c.left.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel)) return left == 1;
  return false;
}

void fail_nth(point where, std::uint64_t n) {
  counter& c = of(where);
  c.left.store(n, std::memory_order_relaxed);
  c.passes.store(0, std::memory_order_relaxed);
  const bool was = c.counting.exchange(n != 0, std::memory_order_acq_rel);
  if (was == (n != 0)) return;
  if (n != 0)
    armed.fetch_add(1, std::memory_order_relaxed);
  else
    armed.fetch_sub(1, std::memory_order_relaxed);
}

std::uint64_t passes(point where) { return of(where).passes.load(std::memory_order_relaxed); }

}  // namespace gm::inject
