// SPDX-License-Identifier: Apache-2.0
#include "policy/bring_plan.h"

#include <gtest/gtest.h>

#include "unit/seeded.h"

namespace gm {
namespace {

constexpr std::uint64_t allocation_pages = 100 * pages_per_block;

class bringing : public testing::Test {
 protected:
  device_fault fault_at(std::uint64_t page, page_mask present = no_pages) const {
    device_fault f{.page = {page}, .first = {0}, .last = {allocation_pages}, .block = {}};
    f.block = {present, one_page(page_in_block(f.page)), all_pages, all_pages};
    return f;
  }
  bring_plan plan(std::uint64_t page, page_mask present = no_pages) {
    return plan_fault(streams, fault_at(page, present));
  }
  device_streams streams;
};

TEST_F(bringing, what_is_dense_comes_along) {
  const bring_plan p = plan(4 * pages_per_block + 16, 0xffff);
  ASSERT_EQ(p.count, 1U);
  EXPECT_EQ(p.entries[0].block, block_index{4});
  EXPECT_EQ(p.entries[0].pages, 0xffff0000U);
  EXPECT_FALSE(p.streamed);
}

TEST_F(bringing, a_walk_through_blocks_brings_whole_ones_ahead) {
  ASSERT_EQ(plan(0).count, 1U);
  EXPECT_EQ(plan(32).count, 2U);
  const bring_plan p = plan(3 * pages_per_block);
  ASSERT_EQ(p.count, 3U);
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_EQ(p.entries[i].block.value, 3U + i);
    EXPECT_EQ(p.entries[i].pages, all_pages);
  }
  device_fault f = fault_at(6 * pages_per_block);
  f.most_blocks_ahead = 2;
  EXPECT_EQ(plan_fault(streams, f).count, 3U) << "as far as there is room";
}

TEST_F(bringing, a_block_entered_in_its_middle_is_no_walk) {
  (void)plan(10);
  const bring_plan p = plan(32 + 10);
  ASSERT_EQ(p.count, 1U);
  EXPECT_EQ(p.entries[0].pages, one_page(10));
}

TEST_F(bringing, long_steps_bring_single_pages_ahead) {
  for (const std::uint64_t page : {0, 13, 26}) (void)plan(page);
  const bring_plan p = plan(39);
  ASSERT_EQ(p.count, 2U);
  EXPECT_EQ(p.entries[0].block, block_index{1});
  EXPECT_EQ(p.entries[0].pages, one_page(7) | one_page(20)) << "39 and 52";
  EXPECT_EQ(p.entries[1].block, block_index{2});
  EXPECT_EQ(p.entries[1].pages, one_page(1)) << "65";
}

TEST_F(bringing, advice_decides) {
  device_fault f = fault_at(40);
  f.told.pattern = access_pattern::sequential;
  const bring_plan p = plan_fault(streams, f);
  EXPECT_EQ(p.count, 1 + most_units_ahead);
  EXPECT_EQ(p.entries[0].pages, all_pages);
  EXPECT_TRUE(p.streamed);
  f.told.pattern = access_pattern::random;
  f.block.present = 0x7f;
  for (int i = 0; i < 5; ++i) {
    const bring_plan alone = plan_fault(streams, f);
    EXPECT_EQ(alone.count, 1U);
    EXPECT_EQ(alone.entries[0].pages, f.block.requested);
  }
}

TEST_F(bringing, stays_in_the_allocation) {
  test::rng random(test::seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << test::seed());
  std::uint64_t page = 100;
  for (int step = 0; step < test::scaled(20000); ++step) {
    page = test::below(random, 6) == 0 ? test::below(random, 1000) : page + test::below(random, 3) * 16;
    const std::uint64_t first = 40;
    const std::uint64_t last = 1000;
    page = first + page % (last - first);
    device_fault f{.page = {page}, .first = {first}, .last = {last}, .block = {}};
    const byte_range bytes{offset_of(f.first), offset_of(f.last)};
    f.block = {static_cast<page_mask>(random()), one_page(page_in_block(f.page)),
               pages_touched(bytes, block_of(f.page)), all_pages};
    const bring_plan p = plan_fault(streams, f);
    ASSERT_GE(p.count, 1U);
    ASSERT_EQ(p.entries[0].block, block_of(f.page));
    ASSERT_NE(p.entries[0].pages & f.block.requested, 0U);
    for (unsigned i = 0; i < p.count; ++i)
      ASSERT_EQ(p.entries[i].pages & ~pages_touched(bytes, p.entries[i].block), 0U);
  }
}

TEST_F(bringing, frames_of_recent_streams_are_in_use) {
  EXPECT_EQ(frames_in_use(streams, 4), 0U);
  for (const std::uint64_t block : {0, 1, 3, 6}) (void)plan(block * pages_per_block);
  EXPECT_EQ(frames_in_use(streams, 16), 5U) << "the block and four ahead";
  EXPECT_EQ(frames_in_use(streams, 3), 3U);
}

}  // namespace
}  // namespace gm
