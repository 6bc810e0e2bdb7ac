// SPDX-License-Identifier: Apache-2.0
#include "policy/write_window.h"

#include <gtest/gtest.h>

#include <utility>

#include "unit/seeded.h"

namespace gm {
namespace {

using window = std::pair<std::uint64_t, std::uint64_t>;

// Writes in an allocation that goes past its blocks on both sides, unless told.
class write_windows : public testing::Test {
 protected:
  window write(std::uint64_t page, access_pattern pattern = access_pattern::unknown) {
    const std::uint64_t first = page / pages_per_block * pages_per_block;
    return write_in(page, first, first + pages_per_block, false, pattern);
  }
  window write_in(std::uint64_t page, std::uint64_t first, std::uint64_t last, bool begins,
                  access_pattern pattern = access_pattern::unknown) {
    const fault_window w = next_write_window(
        streams, 4, ++now, {.page = {page}, .first = {first}, .last = {last}, .begins = begins, .pattern = pattern});
    return {w.first.value, w.last.value};
  }
  window alone(std::uint64_t page) const { return {page, page + 1}; }

  write_stream streams[4];
  std::uint32_t now = 0;
};

TEST_F(write_windows, take_the_page_until_a_blocks_worth_was_written_in_order) {
  for (std::uint64_t page = 70; page < 102; ++page) ASSERT_EQ(write(page), alone(page));
  EXPECT_EQ(write(102), (window{102, 128})) << "the rest of its block";
  EXPECT_EQ(write(128), (window{128, 160}));
  EXPECT_EQ(write(161), alone(161)) << "a jump starts again";
}

TEST_F(write_windows, downwards_as_well) {
  for (std::uint64_t page = 131; page > 99; --page) ASSERT_EQ(write(page), alone(page));
  EXPECT_EQ(write(99), (window{96, 100}));
  EXPECT_EQ(write(95), (window{64, 96}));
}

TEST_F(write_windows, pages_out_of_order_are_taken_one_by_one_for_ever) {
  for (std::uint64_t page = 0; page < 400; page += 2) ASSERT_EQ(write(page), alone(page));
}

TEST_F(write_windows, advice_decides_at_once) {
  EXPECT_EQ(write(70, access_pattern::sequential), (window{70, 96}));
  for (std::uint64_t page = 200; page < 300; ++page) ASSERT_EQ(write(page, access_pattern::random), alone(page));
}

TEST_F(write_windows, end_with_their_allocation) {
  for (std::uint64_t page = 64; page < 96; ++page) ASSERT_EQ(write(page), alone(page));
  EXPECT_EQ(write_in(96, 96, 100, false), (window{96, 100}));
  EXPECT_EQ(write_in(100, 100, 128, true), alone(100)) << "somebody else's";
}

TEST_F(write_windows, several_streams_side_by_side_and_the_oldest_gives_way) {
  for (std::uint64_t i = 0; i < 32; ++i)
    for (const std::uint64_t start : {0, 1024, 2048, 3072}) ASSERT_EQ(write(start + i), alone(start + i));
  EXPECT_EQ(write(5000), alone(5000)) << "in place of the first";
  EXPECT_EQ(write(32), alone(32)) << "which is forgotten; in place of the second";
  EXPECT_EQ(write(2048 + 32), (window{2048 + 32, 2048 + 64}));
  EXPECT_EQ(write(3072 + 32), (window{3072 + 32, 3072 + 64}));
}

TEST_F(write_windows, always_hold_the_page_and_stay_in_the_allocation) {
  test::rng random(test::seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << test::seed());
  std::uint64_t page = 0;
  for (int step = 0; step < test::scaled(20000); ++step) {
    if (test::below(random, 60) == 0) page = test::below(random, 2000);
    const auto pattern = test::below(random, 50) == 0 ? access_pattern::sequential : access_pattern::unknown;
    const auto [first, last] = write(page, pattern);
    ASSERT_LE(first, page);
    ASSERT_GT(last, page);
    ASSERT_EQ(first / pages_per_block, page / pages_per_block);
    ASSERT_EQ((last - 1) / pages_per_block, page / pages_per_block);
    page = test::below(random, 60) != 0 || first == 0 ? last : first - 1;
  }
}

}  // namespace
}  // namespace gm
