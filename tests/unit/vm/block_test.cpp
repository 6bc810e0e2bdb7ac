// SPDX-License-Identifier: Apache-2.0
#include "vm/block.h"

#include <gtest/gtest.h>

namespace gm {
namespace {

// A block and three nodes, zeroed, as the page table lays them out.
class one_block : public testing::Test {
 protected:
  alignas(block) std::byte memory[sizeof(block) + 3 * sizeof(node_pages)] = {};
  block& b = *reinterpret_cast<block*>(memory);
};

TEST_F(one_block, zeroed_memory_is_an_empty_block) {
  EXPECT_FALSE(b.node(1).has_frame());
  EXPECT_EQ(valid_anywhere(b, 3), no_pages);
  EXPECT_EQ(&b.host(), &b.node(0));
}

TEST_F(one_block, valid_sets_are_joined) {
  b.node(0).valid = 0x1;
  b.node(1).valid = 0x3;
  b.node(2).valid = 0x4;
  EXPECT_EQ(valid_anywhere(b, 3), 0x7U);
  EXPECT_EQ(valid_anywhere(b, 2), 0x3U);
  EXPECT_EQ(valid_elsewhere(b, 3, 0), 0x7U);
  EXPECT_EQ(valid_elsewhere(b, 3, 1), 0x5U);
  EXPECT_EQ(valid_elsewhere(b, 3, 2), 0x3U);
}

TEST_F(one_block, frames_are_counted_from_zero_and_zero_is_none) {
  b.node(2).frame_plus_one = 1;
  EXPECT_TRUE(b.node(2).has_frame());
  EXPECT_EQ(b.node(2).frame(), 0U);
}

TEST_F(one_block, allocations_end_at_the_next_start_and_at_free_pages) {
  b.allocated = 0x0000ff3f;  // pages 0-5 and 8-15
  b.starts = 0x00001105;     // at 0, 2, 8 and 12
  EXPECT_EQ(same_allocation(b, 0), pages_between(0, 2));
  EXPECT_EQ(same_allocation(b, 1), pages_between(0, 2));
  EXPECT_EQ(same_allocation(b, 2), pages_between(2, 6)) << "free pages lie behind it";
  EXPECT_EQ(same_allocation(b, 5), pages_between(2, 6));
  EXPECT_EQ(same_allocation(b, 11), pages_between(8, 12));
  EXPECT_EQ(same_allocation(b, 15), pages_between(12, 16));
}

TEST_F(one_block, a_block_without_a_start_goes_on_from_the_one_before) {
  b.allocated = all_pages;
  EXPECT_EQ(same_allocation(b, 0), all_pages);
  EXPECT_EQ(same_allocation(b, 31), all_pages);
  b.starts = one_page(0);
  EXPECT_EQ(same_allocation(b, 31), all_pages);
}

}  // namespace
}  // namespace gm
