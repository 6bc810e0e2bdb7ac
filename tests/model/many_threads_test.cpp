// SPDX-License-Identifier: Apache-2.0
// many_threads_test.cpp - crowds (crowd.h), some seeds in every flavour.
#include "model/crowd.h"

namespace gm::test {
namespace {

constexpr std::uint64_t crowds_each = 30;
constexpr std::uint64_t steps_each = 400;
constexpr unsigned threads_each = 4;

class many_threads : public testing::TestWithParam<flavour> {};

TEST_P(many_threads, agree_with_plain_arrays) {
  const live_runtime live(GetParam());
  ASSERT_TRUE(live.started());
  std::uint64_t seed = first_seed();
  const bool repeat = given_seed(seed);
  const std::uint64_t crowds = repeat ? 1 : scaled(crowds_each);
  for (std::uint64_t i = 0; i < crowds; ++i) {
    crowd c(GetParam(), threads_each, seed + i);
    const std::string failure = c.run(steps_each);
    ASSERT_EQ(failure, "");
  }
}

// The device holds a third of the crowd's blocks where it is tight: shared memory alone is four.
flavour named(const char* name, std::uint32_t devices, bool window, const char* mode, std::uint64_t device_bytes) {
  flavour f;
  f.name = name;
  f.devices = devices;
  f.window = window;
  f.fault_mode = mode;
  f.sim_memory_bytes = device_bytes;
  f.device_budget_bytes = device_bytes;
  return f;
}

std::string name_of(const testing::TestParamInfo<flavour>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(model, many_threads,
                         testing::Values(named("plain", 2, true, "thread", 64 * mebibyte),
                                         named("inline_faults", 2, true, "inline", 64 * mebibyte),
                                         named("tight", 2, true, "thread", 8 * mebibyte),
                                         named("tight_inline", 3, true, "inline", 8 * mebibyte),
                                         named("no_window", 2, false, "thread", 64 * mebibyte),
                                         named("no_window_tight", 1, false, "inline", 12 * mebibyte)),
                         name_of);

}  // namespace
}  // namespace gm::test
