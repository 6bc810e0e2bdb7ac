// SPDX-License-Identifier: Apache-2.0
#include "policy/fault_window.h"

#include <gtest/gtest.h>

#include <vector>

#include "unit/seeded.h"

namespace gm {
namespace {

constexpr auto unknown = access_pattern::unknown;

class windows : public testing::Test {
 protected:
  // Pages [first, last) that a touch of the page takes, in an allocation that goes past its block on both sides.
  std::pair<std::uint64_t, std::uint64_t> touch(std::uint64_t page, access_pattern pattern = unknown) {
    const std::uint64_t block_begin = page / pages_per_block * pages_per_block;
    return touch_in(page, block_begin, block_begin + pages_per_block, false, pattern);
  }
  // ... in one that has pages [first, last) of the block.
  std::pair<std::uint64_t, std::uint64_t> touch_in(std::uint64_t page, std::uint64_t first, std::uint64_t last,
                                                   bool begins, access_pattern pattern = unknown) {
    const fault_window w = next_window(
        streams, 4, ++now, {.page = {page}, .first = {first}, .last = {last}, .begins = begins, .pattern = pattern});
    return {w.first.value, w.last.value};
  }
  fault_stream streams[4];
  std::uint32_t now = 0;
};
using window = std::pair<std::uint64_t, std::uint64_t>;

TEST_F(windows, a_first_touch_takes_one_page) { EXPECT_EQ(touch(100), (window{100, 101})); }

TEST_F(windows, double_with_each_touch_in_order_up_to_a_block) {
  EXPECT_EQ(touch(64), (window{64, 65}));
  EXPECT_EQ(touch(65), (window{65, 67}));
  EXPECT_EQ(touch(67), (window{67, 71}));
  EXPECT_EQ(touch(71), (window{71, 79}));
  EXPECT_EQ(touch(79), (window{79, 95}));
  EXPECT_EQ(touch(95), (window{95, 96})) << "and end with their block";
  EXPECT_EQ(touch(96), (window{96, 128})) << "the next block at once";
  EXPECT_EQ(touch(128), (window{128, 160})) << "never more than a block";
}

TEST_F(windows, downwards_as_well) {
  EXPECT_EQ(touch(127), (window{127, 128}));
  EXPECT_EQ(touch(126), (window{125, 127}));
  EXPECT_EQ(touch(124), (window{121, 125}));
  EXPECT_EQ(touch(120), (window{113, 121}));
  EXPECT_EQ(touch(112), (window{97, 113}));
  EXPECT_EQ(touch(96), (window{96, 97}));
  EXPECT_EQ(touch(95), (window{64, 96}));
}

TEST_F(windows, a_jump_starts_again_at_one_page) {
  touch(64);
  touch(65);
  touch(67);
  EXPECT_EQ(touch(1000), (window{1000, 1001}));
  EXPECT_EQ(touch(5000), (window{5000, 5001}));
}

TEST_F(windows, several_streams_grow_side_by_side) {
  touch(0);
  touch(1024);
  touch(2048 + 31);
  EXPECT_EQ(touch(1), (window{1, 3}));
  EXPECT_EQ(touch(1025), (window{1025, 1027}));
  EXPECT_EQ(touch(2048 + 30), (window{2048 + 29, 2048 + 31}));
  EXPECT_EQ(touch(3), (window{3, 7}));
  EXPECT_EQ(touch(1027), (window{1027, 1031}));
}

TEST_F(windows, the_least_recently_used_stream_gives_way) {
  for (const std::uint64_t start : {0, 1000, 2000, 3000}) touch(start);  // four are known
  touch(1);                                                              // the first is used again
  touch(4000);                                                           // in place of 1000
  EXPECT_EQ(touch(1001), (window{1001, 1002})) << "forgotten";           // in place of 2000
  EXPECT_EQ(touch(3), (window{3, 7})) << "still known";
  EXPECT_EQ(touch(3001), (window{3001, 3003})) << "still known";
}

TEST_F(windows, end_with_their_allocation_on_both_sides) {
  touch_in(66, 66, 70, true);
  EXPECT_EQ(touch_in(67, 66, 70, true), (window{67, 69}));
  EXPECT_EQ(touch_in(69, 66, 70, true), (window{69, 70}));
  touch_in(79, 74, 80, true);
  touch_in(78, 74, 80, true);
  EXPECT_EQ(touch_in(76, 74, 80, true), (window{74, 77}));
}

TEST_F(windows, a_stream_does_not_go_on_into_the_next_allocation) {
  for (const std::uint64_t page : {64, 65, 67}) touch_in(page, 64, 71, true);
  EXPECT_EQ(touch_in(71, 71, 96, true), (window{71, 72})) << "somebody else's, and its first touch";
  EXPECT_EQ(touch_in(72, 71, 96, true), (window{72, 74})) << "which begins a stream of its own";
}

TEST_F(windows, an_allocation_that_began_in_an_earlier_block_goes_on) {
  for (const std::uint64_t page : {64, 65, 67, 71, 79, 95}) touch(page);
  EXPECT_EQ(touch_in(96, 96, 100, false), (window{96, 100})) << "as far as it goes";
}

TEST_F(windows, random_advice_takes_one_page_and_teaches_nothing) {
  touch(64);
  EXPECT_EQ(touch(65, access_pattern::random), (window{65, 66}));
  EXPECT_EQ(touch(66, access_pattern::random), (window{66, 67}));
  EXPECT_EQ(touch(65), (window{65, 67})) << "the stream stands as it was";
}

TEST_F(windows, sequential_advice_starts_with_the_rest_of_the_block) {
  EXPECT_EQ(touch(70, access_pattern::sequential), (window{70, 96}));
  EXPECT_EQ(touch(96, access_pattern::sequential), (window{96, 128}));
}

TEST_F(windows, old_age_is_told_across_the_counters_wrap) {
  now = ~std::uint32_t{0} - 2;
  for (const std::uint64_t start : {0, 1000, 2000, 3000}) touch(start);  // the counter wraps among these
  touch(4000);                                                           // in place of the first, the oldest
  EXPECT_EQ(touch(3001), (window{3001, 3003}));
  EXPECT_EQ(touch(1), (window{1, 2}));
}

TEST_F(windows, always_hold_the_page_and_stay_in_its_block) {
  test::rng random(test::seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << test::seed());
  std::uint64_t page = 0;
  for (int step = 0; step < test::scaled(20000); ++step) {
    if (test::below(random, 4) == 0) page = test::below(random, 200);
    const auto pattern = static_cast<access_pattern>(test::below(random, 3));
    const auto [first, last] = touch(page, pattern);
    ASSERT_LE(first, page);
    ASSERT_GT(last, page);
    ASSERT_EQ(first / pages_per_block, page / pages_per_block);
    ASSERT_EQ((last - 1) / pages_per_block, page / pages_per_block);
    page = test::below(random, 2) == 0 || first == 0 ? last : first - 1;
  }
}

TEST(fault_streams, are_shared_by_threads) {
  fault_streams shared;
  EXPECT_EQ(shared.next({.page = {64}, .first = {64}, .last = {96}}).last, page_index{65});
  EXPECT_EQ(shared.next({.page = {65}, .first = {64}, .last = {96}}).last, page_index{67});
}

}  // namespace
}  // namespace gm
