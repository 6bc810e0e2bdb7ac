// SPDX-License-Identifier: Apache-2.0
// host_budget_test.cpp - more data than the host may hold: what a device has as well gives way, and what does not fit
// is refused with everything intact.
#include <vector>

#include "model/oracle_kernel.h"
#include "model/peek.h"
#include "stress/stress_flavours.h"

namespace gm::test {
namespace {

constexpr std::size_t budget_pages = 40;
constexpr std::size_t part = 32 * page_size;  // two of them are more than the budget

class host_budget : public testing::TestWithParam<flavour> {
 protected:
  static flavour with_budget(flavour f) {
    f.host_budget_bytes = budget_pages * page_size;
    return f;
  }
  void SetUp() override { ASSERT_TRUE(live_.started()); }
  void TearDown() override { expect_nothing_is_kept(); }

  struct memory {
    std::uint8_t* base = nullptr;
    std::vector<std::uint8_t> now;
  };
  memory made(std::uint64_t seed) {
    memory m{static_cast<std::uint8_t*>(gm_calloc(part, 1)), std::vector<std::uint8_t>(part)};
    EXPECT_NE(m.base, nullptr) << gm_last_error();
    fill_with(m.base, part, seed);
    fill_with(m.now.data(), part, seed);
    return m;
  }
  static void expect_right(const memory& m) {
    EXPECT_TRUE(table_is_valid_at_rest());
    EXPECT_EQ(peek(m.base, m.now.data(), part), "");
    EXPECT_LE(stats_now().node[GM_HOST].frames_used, budget_pages);
  }
  // The device writes all of it: the host's copy is old.
  static void change_on(int node, memory& m, std::uint64_t seed) {
    fill_with(m.now.data(), part, seed);
    ASSERT_EQ(gm_memcpy(m.base, m.now.data(), part, node, nullptr), GM_OK) << gm_last_error();
  }

  live_runtime live_{with_budget(GetParam())};
};

TEST_P(host_budget, old_host_pages_give_way_to_a_cpu_touch) {
  memory a = made(1);
  change_on(1, a, 2);
  memory b = made(3);
  expect_right(a);
  expect_right(b);
  gm_free(a.base);
  gm_free(b.base);
}

TEST_P(host_budget, copies_that_a_device_has_too_give_way) {
  memory a = made(1);
  ASSERT_EQ(gm_prefetch(a.base, part, 1, nullptr), GM_OK) << gm_last_error();
  memory b = made(3);
  expect_right(a);
  expect_right(b);
  // And back: now it is b that must leave.
  ASSERT_EQ(gm_prefetch(b.base, part, 2, nullptr), GM_OK) << gm_last_error();
  EXPECT_TRUE(std::equal(a.now.begin(), a.now.end(), a.base));
  EXPECT_EQ(gm_prefetch(b.base, part, GM_HOST, nullptr), GM_OK) << gm_last_error();
  EXPECT_TRUE(std::equal(b.now.begin(), b.now.end(), b.base));
  expect_right(a);
  expect_right(b);
  gm_free(a.base);
  gm_free(b.base);
}

TEST_P(host_budget, what_does_not_fit_is_refused_and_nothing_is_lost) {
  memory a = made(1);
  memory b{static_cast<std::uint8_t*>(gm_calloc(part, 1)), std::vector<std::uint8_t>(part)};
  change_on(1, b, 5);
  // The host is full of what it alone holds.
  EXPECT_EQ(gm_prefetch(b.base, part, GM_HOST, nullptr), GM_ERROR_NO_MEMORY);
  EXPECT_STRNE(gm_last_error(), "");
  EXPECT_EQ(gm_memset(b.base, 1, part, GM_HOST, nullptr), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(gm_pin(b.base, part, GM_HOST), GM_ERROR_NO_MEMORY);
  expect_right(a);
  expect_right(b);
  // A part of it fits.
  EXPECT_EQ(gm_prefetch(b.base, 4 * page_size, GM_HOST, nullptr), GM_OK) << gm_last_error();
  expect_right(b);
  gm_free(a.base);
  EXPECT_EQ(gm_prefetch(b.base, part, GM_HOST, nullptr), GM_OK) << gm_last_error();
  expect_right(b);
  gm_free(b.base);
}

// Devices and host together are too small for a write-back: the scope that wants the frames is refused.
TEST_P(host_budget, a_write_back_that_does_not_fit_refuses_the_scope) {
  memory a = made(1);
  const std::size_t frames = GetParam().device_budget_bytes / block_size;
  std::vector<memory> on_device;
  for (std::size_t i = 0; i < frames; ++i) {
    on_device.push_back({static_cast<std::uint8_t*>(gm_calloc(part, 1)), std::vector<std::uint8_t>(part)});
    change_on(1, on_device.back(), 10 + i);
  }
  memory more{static_cast<std::uint8_t*>(gm_calloc(part, 1)), std::vector<std::uint8_t>(part)};
  EXPECT_EQ(gm_memset(more.base, 1, part, 1, nullptr), GM_ERROR_NO_MEMORY);
  expect_right(a);
  expect_right(more);
  for (const memory& m : on_device) expect_right(m);
  gm_free(a.base);
  EXPECT_EQ(gm_memset(more.base, 1, part, 1, nullptr), GM_OK) << gm_last_error();
  std::fill(more.now.begin(), more.now.end(), 1);
  expect_right(more);
  for (const memory& m : on_device) {
    expect_right(m);
    gm_free(m.base);
  }
  gm_free(more.base);
}

INSTANTIATE_TEST_SUITE_P(stress, host_budget, testing::ValuesIn(every_flavour(8 * mebibyte)), flavour_name);

}  // namespace
}  // namespace gm::test
