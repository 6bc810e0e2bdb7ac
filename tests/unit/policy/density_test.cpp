// SPDX-License-Identifier: Apache-2.0
#include "policy/density.h"

#include <gtest/gtest.h>

#include "unit/seeded.h"

namespace gm {
namespace {

page_mask bring(page_mask present, page_mask requested, page_mask allocated = all_pages,
                page_mask elsewhere = all_pages) {
  return dense_pages({present, requested, allocated, elsewhere});
}

TEST(density, one_page_of_an_empty_block_comes_alone) {
  for (unsigned page = 0; page < pages_per_block; ++page) EXPECT_EQ(bring(0, one_page(page)), one_page(page));
}

TEST(density, more_than_half_of_a_subtree_brings_the_rest_of_it) {
  EXPECT_EQ(bring(0x1, 0x2), 0x2U) << "half of the four is not more than half";
  EXPECT_EQ(bring(0x3, 0x4), 0xcU) << "three of four";
  EXPECT_EQ(bring(0x0f, 0x10), 0xf0U) << "five of eight";
  EXPECT_EQ(bring(0xff, 0x100), 0xff00U);
  EXPECT_EQ(bring(0xffff, 0x10000), 0xffff0000U) << "17 of 32";
}

TEST(density, a_walk_takes_few_faults_and_a_scatter_one_a_page) {
  page_mask present = 0;
  unsigned faults = 0;
  for (unsigned page = 0; page < pages_per_block; ++page)
    if ((present & one_page(page)) == 0) {
      present |= bring(present, one_page(page));
      ++faults;
    }
  EXPECT_EQ(faults, 6U) << "1, 1, 2, 4, 8, 16";
  present = 0;
  for (unsigned page = 0; page < pages_per_block; page += 2) {
    EXPECT_EQ(bring(present, one_page(page)), one_page(page));
    present |= one_page(page);
  }
}

TEST(density, what_is_dense_elsewhere_in_the_block_is_left_alone) { EXPECT_EQ(bring(0x7, one_page(20)), one_page(20)); }

TEST(density, an_allocation_that_fills_a_part_of_the_block_is_the_whole_of_it) {
  EXPECT_EQ(bring(0x1, 0x2, 0x7), 0x6U) << "two of its three pages";
  EXPECT_EQ(bring(0, one_page(9), 0xff), 0U) << "not allocated";
}

TEST(density, fresh_pages_join_fresh_pages_only) {
  EXPECT_EQ(bring(0x7, 0x10, all_pages, 0xffff), 0x10U) << "four of eight";
  EXPECT_EQ(bring(0xf, 0x10, all_pages, 0x3f), 0x30U) << "pages 6 and 7 are NOMAP";
  EXPECT_EQ(bring(0xf, 0x40, all_pages, 0x3f), 0xc0U) << "pages 4 and 5 are not";
}

TEST(density, answers_are_legal) {
  test::rng random(test::seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << test::seed());
  for (int step = 0; step < test::scaled(20000); ++step) {
    const block_fill b{static_cast<page_mask>(random()), static_cast<page_mask>(random() & random() & random()),
                       static_cast<page_mask>(random() | random()), static_cast<page_mask>(random())};
    const page_mask pages = dense_pages(b);
    ASSERT_EQ(pages & ~b.allocated, 0U);
    ASSERT_EQ(pages & b.present, 0U);
    const page_mask asked = b.requested & b.allocated & ~b.present;
    ASSERT_EQ(asked & ~pages, 0U);
    for (const page_mask kind : {b.elsewhere, ~b.elsewhere})
      if ((asked & kind) == 0) ASSERT_EQ(pages & kind, 0U);
  }
}

}  // namespace
}  // namespace gm
