// SPDX-License-Identifier: Apache-2.0
// stress_flavours.h - what the stress tests run on: which kinds of runtime, and from which seed.
#pragma once

#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "model/live_runtime.h"

namespace gm::test {

// How this executable was built; what the sanitizer cannot do is left out.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool under_tsan = true;
#else
inline constexpr bool under_tsan = false;
#endif

// A budget is all the memory that the device has; without one (0) it is what the library leaves of 64 MiB.
inline flavour stress_flavour(const char* name, bool window, const char* fault_mode,
                              std::uint64_t device_budget_bytes = 0) {
  flavour f{.name = name, .window = window, .fault_mode = fault_mode, .arena_bytes = 512 * mebibyte};
  f.device_budget_bytes = device_budget_bytes;
  if (device_budget_bytes != 0) f.sim_memory_bytes = device_budget_bytes;
  return f;
}

// How devices are addressed, and who serves a CPU's faults.
inline std::vector<flavour> every_flavour(std::uint64_t device_budget_bytes = 0,
                                          std::initializer_list<flavour> and_also = {}) {
  std::vector<flavour> all = {stress_flavour("window", true, "thread", device_budget_bytes),
                              stress_flavour("no_window", false, "thread", device_budget_bytes),
                              stress_flavour("window_inline", true, "inline", device_budget_bytes),
                              stress_flavour("no_window_inline", false, "inline", device_budget_bytes)};
  all.insert(all.end(), and_also);
  return all;
}

// Two frames a device: every scope is in need of somebody's.
inline const flavour tight = stress_flavour("tight", true, "thread", 2 * block_size);

inline std::string flavour_name(const testing::TestParamInfo<flavour>& info) { return info.param.name; }

inline gm_stats stats_now() {
  gm_stats stats{};
  stats.size = sizeof stats;
  EXPECT_EQ(gm_stats_get(&stats), GM_OK) << gm_last_error();
  return stats;
}

// Once everything has been freed.
inline void expect_nothing_is_kept() {
  EXPECT_TRUE(table_is_valid_at_rest());
  const gm_stats stats = stats_now();
  EXPECT_EQ(stats.allocations, 0u);
  EXPECT_EQ(stats.allocated_bytes, 0u);
  for (std::uint64_t n = 0; n < stats.node_count; ++n)
    EXPECT_EQ(stats.node[n].frames_used, 0u) << "of freed memory, on node " << n;
}

// GM_TEST_SEED, else another one each time. Tests print it when they fail.
inline std::uint64_t stress_seed() {
  static const std::uint64_t seed = [] {
    std::uint64_t given = 0;
    return given_seed(given) ? given : std::random_device{}();
  }();
  return seed;
}

}  // namespace gm::test
