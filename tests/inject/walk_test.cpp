// SPDX-License-Identifier: Apache-2.0
// walk_test.cpp - for each thing that can fail, and n = 1, 2, ...: a walk (scenario.h) in which its n-th time fails,
// until a walk meets no n-th time any more.
#include <csignal>
#include <memory>

#include "base/inject.h"
#include "inject/scenario.h"

namespace gm::test {
namespace {

// Sanitizers pay tenfold: then every second, third ... time is tried. So it is in the flavours that come after the
// first.
std::uint64_t stride(const flavour& f) {
  const std::uint64_t base = std::string(f.name) == "thread" ? 1 : 3;
  return test_scale() < 1 ? static_cast<std::uint64_t>(static_cast<double>(base) / test_scale() + 0.5) : base;
}

constexpr std::uint64_t most_times = 2000;

flavour walked(const char* name, bool window, const char* fault_mode) {
  flavour f;
  f.name = name;
  f.window = window;
  f.fault_mode = fault_mode;
  f.arena_bytes = 32 * mebibyte;
  f.sim_memory_bytes = 8 * mebibyte;
  f.device_budget_bytes = 8 * mebibyte;
  return f;
}

const flavour flavours[] = {walked("thread", true, "thread"), walked("inline", true, "inline"),
                            walked("no_window", false, "thread")};

const char* name_of(inject::point p) {
  static constexpr const char* names[] = {"table_memory",  "host_memory", "record_memory", "map_pages",   "zero_pages",
                                          "protect_pages", "drop_pages",  "punch_pages",   "thread_start"};
  return names[static_cast<unsigned>(p)];
}

const char* name_of(device::operation o) {
  static constexpr const char* names[] = {"piece_create", "stream_create", "copy_submit",   "copy_run",
                                          "fill_submit",  "fill_run",      "launch_submit", "launch_run",
                                          "wait_submit",  "fence_record",  "call_submit"};
  return names[static_cast<unsigned>(o)];
}

// gmem hands what is an offence to who took the signal before it was started: scenario.cpp's handler.
struct walk_of_one_runtime {
  explicit walk_of_one_runtime(const flavour& f) : live(f) {}
  live_runtime live;
  scenario walk;
};

testing::AssertionResult good(const scenario& s, const std::string& what, std::uint64_t n) {
  if (s.wrong().empty()) return testing::AssertionSuccess();
  testing::AssertionResult result = testing::AssertionFailure() << what << ", time " << n << ": " << s.wrong();
  for (const std::string& failure : s.failures()) result << "\n  failed: " << failure;
  return result;
}

class points : public testing::TestWithParam<std::tuple<flavour, inject::point>> {};
class operations : public testing::TestWithParam<std::tuple<flavour, device::operation>> {};

TEST_P(points, n_th_time_fails) {
  const auto& [f, point] = GetParam();
  std::uint64_t hit = 0;
  for (std::uint64_t n = 1; n <= most_times; n += stride(f)) {
    install_landing();
    walk_of_one_runtime run(f);
    ASSERT_TRUE(run.live.started());
    inject::fail_nth(point, n);
    run.walk.walk();
    const bool met = inject::passes(point) >= n;
    inject::fail_nth(point, 0);
    ASSERT_TRUE(good(run.walk, name_of(point), n));
    if (!met) break;
    ++hit;
  }
  RecordProperty("times", static_cast<int>(hit));
  std::printf("[          ] %llu times\n", static_cast<unsigned long long>(hit));
  EXPECT_LT(hit, most_times);
}

// A backend does not count for us: a walk in which nothing failed, several times over, has met none. (Some failures do
// not show: a frame that could not be had is asked for again after an eviction, hints fail silently.)
TEST_P(operations, n_th_time_fails) {
  const auto& [f, operation] = GetParam();
  const unsigned quiet_walks_enough = test_scale() < 1 ? 3 : 10;
  unsigned quiet_walks = 0;
  std::uint64_t hit = 0;
  for (std::uint64_t n = 1; n <= most_times && quiet_walks < quiet_walks_enough; n += stride(f)) {
    install_landing();
    walk_of_one_runtime run(f);
    ASSERT_TRUE(run.live.started());
    debug_fail_device(operation, n);
    run.walk.walk();
    debug_fail_device(operation, 0);
    ASSERT_TRUE(good(run.walk, name_of(operation), n));
    quiet_walks = run.walk.failures().empty() ? quiet_walks + 1 : 0;
    hit += run.walk.failures().empty() ? 0 : 1;
  }
  RecordProperty("times", static_cast<int>(hit));
  std::printf("[          ] %llu times\n", static_cast<unsigned long long>(hit));
}

// A start that fails leaves nothing behind.
TEST(start, n_th_time_fails) {
  for (const auto point : {inject::point::thread_start, inject::point::table_memory, inject::point::record_memory}) {
    for (std::uint64_t n = 1; n < 50; ++n) {
      inject::fail_nth(point, n);
      gm_options options{};
      options.size = sizeof options;
      options.backend = "sim";
      options.arena_size_bytes = 16 * mebibyte;
      options.fault_threads = 3;
      const gm_status got = gm_init(&options);
      const bool met = inject::passes(point) >= n;
      inject::fail_nth(point, 0);
      if (!met) {
        EXPECT_EQ(got, GM_OK) << gm_last_error();
        EXPECT_EQ(gm_shutdown(), GM_OK);
        break;
      }
      EXPECT_NE(got, GM_OK) << name_of(point) << ", time " << n;
      if (got == GM_OK) {
        EXPECT_EQ(gm_shutdown(), GM_OK);
        continue;
      }
      EXPECT_STRNE(gm_last_error(), "");
      EXPECT_EQ(gm_init(&options), GM_OK) << gm_last_error();
      EXPECT_EQ(gm_shutdown(), GM_OK) << gm_last_error();
    }
  }
}

template <typename What>
std::string name_of_run(const testing::TestParamInfo<std::tuple<flavour, What>>& info) {
  return std::string(name_of(std::get<1>(info.param))) + "_" + std::get<0>(info.param).name;
}

INSTANTIATE_TEST_SUITE_P(inject, points,
                         testing::Combine(testing::ValuesIn(flavours),
                                          testing::Values(inject::point::table_memory, inject::point::host_memory,
                                                          inject::point::record_memory, inject::point::map_pages,
                                                          inject::point::zero_pages, inject::point::protect_pages,
                                                          inject::point::drop_pages, inject::point::punch_pages)),
                         name_of_run<inject::point>);

INSTANTIATE_TEST_SUITE_P(
    inject, operations,
    testing::Combine(testing::ValuesIn(flavours),
                     testing::Values(device::operation::piece_create, device::operation::stream_create,
                                     device::operation::copy_submit, device::operation::copy_run,
                                     device::operation::fill_submit, device::operation::fill_run,
                                     device::operation::launch_submit, device::operation::launch_run,
                                     device::operation::wait_submit, device::operation::fence_record,
                                     device::operation::call_submit)),
    name_of_run<device::operation>);

}  // namespace
}  // namespace gm::test
