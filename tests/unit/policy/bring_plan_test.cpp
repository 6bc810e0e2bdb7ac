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

TEST_F(bringing, a_walk_brings_whole_blocks_where_there_is_no_room_ahead) {
  ASSERT_EQ(plan(0).count, 1U);
  device_fault f = fault_at(pages_per_block);
  f.most_blocks_ahead = 0;
  const bring_plan p = plan_fault(streams, f);
  ASSERT_EQ(p.count, 1U);
  EXPECT_EQ(p.entries[0].pages, all_pages);
}

// Pages 0, 1, 2, 4, 8 and 16, as density leaves them to be asked for: nobody steps by eight pages.
TEST_F(bringing, what_density_leaves_is_no_walk_by_single_pages) {
  page_mask present = no_pages;
  for (const std::uint64_t page : {0, 1, 2, 4, 8, 16}) present |= plan(page, present).entries[0].pages;
  EXPECT_EQ(present, all_pages);
  const bring_plan p = plan(pages_per_block);
  ASSERT_EQ(p.count, 2U);
  EXPECT_EQ(p.entries[0].pages, all_pages);
  EXPECT_EQ(p.entries[1].pages, all_pages);
}

TEST_F(bringing, what_comes_back_is_streamed) {
  device_fault f = fault_at(0);
  f.comes_back = true;
  EXPECT_TRUE(plan_fault(streams, f).streamed);
}

TEST_F(bringing, a_walk_that_writes_brings_what_it_will_write) {
  device_fault f = fault_at(0);
  f.to_write = one_page(0);
  EXPECT_EQ(plan_fault(streams, f).to_write, one_page(0));
  f = fault_at(17, 0x1ffff);
  f.to_write = one_page(17);
  f.writable = 0x1ffff;
  EXPECT_EQ(plan_fault(streams, f).to_write, 0xfffe0000U);
  f = fault_at(pages_per_block);
  f.to_write = one_page(0);
  const bring_plan p = plan_fault(streams, f);
  ASSERT_EQ(p.count, 2U);
  EXPECT_EQ(p.to_write, all_pages);
  EXPECT_TRUE(p.ahead_to_write);
  EXPECT_FALSE(plan(2 * pages_per_block).ahead_to_write) << "one that reads does not";
}

TEST_F(bringing, a_walk_that_writes_here_and_there_takes_what_it_writes) {
  for (std::uint64_t block = 0; block < 8; ++block) {
    device_fault f = fault_at(block * pages_per_block);
    f.to_write = one_page(0);
    const bring_plan p = plan_fault(streams, f);
    EXPECT_EQ(p.to_write, one_page(0)) << block;
    EXPECT_FALSE(p.ahead_to_write) << block;
  }
}

TEST_F(bringing, a_walk_begins_with_nothing_written) {
  device_fault f = fault_at(0);
  f.told.pattern = access_pattern::sequential;
  f.to_write = one_page(0);
  const bring_plan p = plan_fault(streams, f);
  EXPECT_GT(p.count, 1U);
  EXPECT_EQ(p.to_write, one_page(0)) << "before the first block is none";
  EXPECT_FALSE(p.ahead_to_write);
}

TEST_F(bringing, writes_take_what_is_dense_among_the_written) {
  device_fault f = fault_at(4 * pages_per_block + 4, all_pages);
  f.to_write = one_page(4);
  EXPECT_EQ(plan_fault(streams, f).to_write, one_page(4)) << "the first";
  f.writable = 0xf;
  const bring_plan p = plan_fault(streams, f);
  EXPECT_EQ(p.to_write, 0xf0U);
  EXPECT_EQ(p.entries[0].pages, 0U) << "all is there";
  f.told.pattern = access_pattern::random;
  EXPECT_EQ(plan_fault(streams, f).to_write, one_page(4));
}

TEST_F(bringing, what_a_write_finds_read_only_is_no_step_of_a_walk) {
  for (const std::uint64_t block : {1, 2, 3}) {
    device_fault f = fault_at(block * pages_per_block, all_pages);
    f.to_write = one_page(0);
    EXPECT_EQ(plan_fault(streams, f).count, 1U);
  }
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
    const page_mask asked = one_page(page_in_block(f.page));
    const page_mask present = static_cast<page_mask>(random());
    const page_mask own = pages_touched(bytes, block_of(f.page));
    f.block = {present, asked, own, all_pages};
    f.to_write = test::below(random, 2) == 0 ? asked : no_pages;
    f.writable = present & static_cast<page_mask>(random()) & ~f.to_write;
    const bring_plan p = plan_fault(streams, f);
    ASSERT_GE(p.count, 1U);
    ASSERT_EQ(p.entries[0].block, block_of(f.page));
    ASSERT_EQ(p.entries[0].pages & asked, asked & ~present);
    ASSERT_EQ(p.to_write & asked, f.to_write);
    ASSERT_EQ(p.to_write & (~own | f.writable), 0U);
    if (f.to_write == no_pages) ASSERT_EQ(p.to_write, 0U);
    ASSERT_FALSE(p.ahead_to_write && f.to_write == no_pages);
    for (unsigned i = 0; i < p.count; ++i)
      ASSERT_EQ(p.entries[i].pages & ~pages_touched(bytes, p.entries[i].block), 0U);
  }
}

TEST_F(bringing, frames_of_recent_streams_are_in_use) {
  EXPECT_EQ(frames_in_use(streams, 64), 0U);
  for (const std::uint64_t block : {0, 1, 3, 6}) (void)plan(block * pages_per_block);
  EXPECT_EQ(frames_in_use(streams, 64), 5U) << "the block and four ahead";
  EXPECT_EQ(frames_in_use(streams, 16), 3U) << "of few frames less is brought ahead";
  EXPECT_EQ(frames_in_use(streams, 1), 0U) << "and something has to go";
}

}  // namespace
}  // namespace gm
