// SPDX-License-Identifier: Apache-2.0
// counters.h - what gm_stats reports: relaxed atomic counters, exact, written where the thing happens.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/units.h"

namespace gm {

class counter {
 public:
  void add(std::uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  void subtract(std::uint64_t n) { value_.fetch_sub(n, std::memory_order_relaxed); }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }
  void reset() { value_.store(0, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

struct node_counters {
  counter faults, pages_in, pages_out, evictions, writebacks, writebacks_skipped;
};

struct counters {
  node_counters node[max_nodes];
  counter spurious_faults, parked_faults, fault_time_ns;
  counter metadata_bytes;  // a level, not reset

  void reset() {
    for (node_counters& n : node)
      for (counter* c : {&n.faults, &n.pages_in, &n.pages_out, &n.evictions, &n.writebacks, &n.writebacks_skipped})
        c->reset();
    for (counter* c : {&spurious_faults, &parked_faults, &fault_time_ns}) c->reset();
  }
};

}  // namespace gm
