// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"

#include <gtest/gtest.h>

#include <type_traits>

namespace gm {
namespace {

static_assert(!std::is_convertible_v<page_index, block_index>, "one is never passed as the other");

TEST(units, offsets_pages_and_blocks_agree_on_both_sides_of_each_edge) {
  EXPECT_EQ(page_of(page_bytes - 1), page_index{0});
  EXPECT_EQ(page_of(page_bytes), page_index{1});
  EXPECT_EQ(block_of(block_bytes - 1), block_index{0});
  EXPECT_EQ(block_of(block_bytes), block_index{1});
  EXPECT_EQ(block_of(page_index{31}), block_index{0});
  EXPECT_EQ(block_of(page_index{32}), block_index{1});
  EXPECT_EQ(page_in_block(page_index{31}), 31U);
  EXPECT_EQ(page_in_block(page_index{32}), 0U);
  EXPECT_EQ(first_page(block_index{7}), page_index{7 * 32});
  EXPECT_EQ(offset_of(first_page(block_index{7})), offset_of(block_index{7}));
}

TEST(units, rounding) {
  EXPECT_EQ(round_up(0, 64), 0U);
  EXPECT_EQ(round_up(1, 64), 64U);
  EXPECT_EQ(round_up(64, 64), 64U);
  EXPECT_EQ(round_down(63, 64), 0U);
  EXPECT_EQ(round_down(64, 64), 64U);
}

TEST(units, half_open_ranges_that_touch_do_not_overlap) {
  const byte_range range{100, 200};
  EXPECT_EQ(range.bytes(), 100U);
  EXPECT_FALSE(range.overlaps({0, 100}));
  EXPECT_FALSE(range.overlaps({200, 300}));
  EXPECT_TRUE(range.overlaps({199, 300}));
  EXPECT_TRUE(range.overlaps({0, 101}));
  EXPECT_TRUE(range.overlaps({150, 160}));
  EXPECT_TRUE(range.overlaps({0, 300}));
}

}  // namespace
}  // namespace gm
