// SPDX-License-Identifier: Apache-2.0
#include "base/inject.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace gm::inject {
namespace {

class inject_counters : public testing::Test {
 protected:
  void TearDown() override {
    for (unsigned p = 0; p < static_cast<unsigned>(point::count_); ++p) fail_nth(static_cast<point>(p), 0);
    EXPECT_EQ(armed.load(), 0U);
  }
};

TEST_F(inject_counters, nothing_armed_never_fails) {
  EXPECT_EQ(armed.load(), 0U);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(fails(point::map_pages));
}

TEST_F(inject_counters, the_nth_pass_fails_and_no_other) {
  for (unsigned n = 1; n <= 5; ++n) {
    fail_nth(point::map_pages, n);
    for (unsigned pass = 1; pass <= 10; ++pass) EXPECT_EQ(fails(point::map_pages), pass == n) << n << ", " << pass;
    EXPECT_EQ(passes(point::map_pages), 10U);
  }
}

TEST_F(inject_counters, points_are_apart) {
  fail_nth(point::drop_pages, 1);
  EXPECT_FALSE(fails(point::map_pages));
  EXPECT_EQ(passes(point::map_pages), 0U) << "a point that is not armed is not counted";
  EXPECT_TRUE(fails(point::drop_pages));
}

TEST_F(inject_counters, zero_turns_it_off) {
  fail_nth(point::punch_pages, 3);
  EXPECT_FALSE(fails(point::punch_pages));
  fail_nth(point::punch_pages, 0);
  EXPECT_EQ(armed.load(), 0U);
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(fails(point::punch_pages));
}

TEST_F(inject_counters, arming_again_starts_the_count_again) {
  fail_nth(point::zero_pages, 2);
  EXPECT_FALSE(fails(point::zero_pages));
  fail_nth(point::zero_pages, 2);
  EXPECT_EQ(armed.load(), 1U);
  EXPECT_EQ(passes(point::zero_pages), 0U);
  EXPECT_FALSE(fails(point::zero_pages));
  EXPECT_TRUE(fails(point::zero_pages));
}

TEST_F(inject_counters, exactly_one_of_many_threads_fails) {
  constexpr int threads = 4;
  constexpr int passes_each = 2000;
  fail_nth(point::record_memory, threads * passes_each / 2);
  std::atomic<int> failures{0};
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t)
    running.emplace_back([&] {
      for (int i = 0; i < passes_each; ++i) failures += fails(point::record_memory) ? 1 : 0;
    });
  for (std::thread& t : running) t.join();
  EXPECT_EQ(failures.load(), 1);
  EXPECT_EQ(passes(point::record_memory), static_cast<std::uint64_t>(threads) * passes_each);
}

}  // namespace
}  // namespace gm::inject
