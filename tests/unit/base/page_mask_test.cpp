// SPDX-License-Identifier: Apache-2.0
#include "base/page_mask.h"

#include <gtest/gtest.h>

#include <bitset>
#include <utility>
#include <vector>

#include "unit/seeded.h"

namespace gm {
namespace {

// What pages_between should be, a bit at a time.
page_mask slowly_between(unsigned first, unsigned last) {
  page_mask mask = no_pages;
  for (unsigned page = first; page < last; ++page) mask |= one_page(page);
  return mask;
}

TEST(page_mask, between_is_half_open_for_every_pair) {
  for (unsigned first = 0; first <= pages_per_block; ++first)
    for (unsigned last = first; last <= pages_per_block; ++last)
      EXPECT_EQ(pages_between(first, last), slowly_between(first, last)) << first << " to " << last;
  EXPECT_EQ(pages_between(0, 32), all_pages);
  EXPECT_EQ(pages_between(31, 32), page_mask{1} << 31);
}

TEST(page_mask, counts) {
  EXPECT_EQ(count_pages(no_pages), 0U);
  EXPECT_EQ(count_pages(one_page(31)), 1U);
  EXPECT_EQ(count_pages(all_pages), 32U);
}

TEST(page_mask, touched_has_a_page_that_one_byte_is_in) {
  const block_index block{3};
  const std::uint64_t base = offset_of(block);
  EXPECT_EQ(pages_touched({base, base + 1}, block), one_page(0));
  EXPECT_EQ(pages_touched({base + page_bytes - 1, base + page_bytes}, block), one_page(0));
  EXPECT_EQ(pages_touched({base + page_bytes - 1, base + page_bytes + 1}, block), pages_between(0, 2));
  EXPECT_EQ(pages_touched({base + block_bytes - 1, base + block_bytes}, block), one_page(31));
}

TEST(page_mask, touched_stays_in_its_block) {
  const block_index block{3};
  const std::uint64_t base = offset_of(block);
  EXPECT_EQ(pages_touched({0, base + 10 * block_bytes}, block), all_pages);
  EXPECT_EQ(pages_touched({base - 1, base + 1}, block), one_page(0));
  EXPECT_EQ(pages_touched({base - page_bytes, base}, block), no_pages);
  EXPECT_EQ(pages_touched({base + block_bytes, base + 2 * block_bytes}, block), no_pages);
  EXPECT_EQ(pages_touched({base + 5, base + 5}, block), no_pages) << "an empty range touches nothing";
}

TEST(page_mask, covered_has_whole_pages_only) {
  const block_index block{3};
  const std::uint64_t base = offset_of(block);
  EXPECT_EQ(pages_covered({base, base + page_bytes}, block), one_page(0));
  EXPECT_EQ(pages_covered({base + 1, base + page_bytes}, block), no_pages);
  EXPECT_EQ(pages_covered({base, base + page_bytes - 1}, block), no_pages);
  EXPECT_EQ(pages_covered({base + 1, base + 3 * page_bytes - 1}, block), one_page(1));
  EXPECT_EQ(pages_covered({base - 1, base + block_bytes + 1}, block), all_pages);
  EXPECT_EQ(pages_covered({base + 10, base + 20}, block), no_pages) << "inside one page";
}

TEST(page_mask, touched_and_covered_against_every_page_asked_apart) {
  test::rng random(test::seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << test::seed());
  for (int step = 0; step < test::scaled(2000); ++step) {
    const std::uint64_t begin = test::below(random, 3 * block_bytes);
    const std::uint64_t end = begin + 1 + test::below(random, 3 * block_bytes);
    const block_index block{test::below(random, 6)};
    page_mask touched = no_pages;
    page_mask covered = no_pages;
    for (unsigned page = 0; page < pages_per_block; ++page) {
      const std::uint64_t first = offset_of(block) + page * page_bytes;
      if (begin < first + page_bytes && first < end) touched |= one_page(page);
      if (begin <= first && first + page_bytes <= end) covered |= one_page(page);
    }
    ASSERT_EQ(pages_touched({begin, end}, block), touched) << begin << " to " << end << " in " << block.value;
    ASSERT_EQ(pages_covered({begin, end}, block), covered) << begin << " to " << end << " in " << block.value;
  }
}

std::vector<std::pair<unsigned, unsigned>> runs_of(page_mask mask) {
  std::vector<std::pair<unsigned, unsigned>> runs;
  for_each_run(mask, [&](unsigned first, unsigned count) { runs.emplace_back(first, count); });
  return runs;
}

TEST(page_mask, runs_of_the_corners) {
  using runs = std::vector<std::pair<unsigned, unsigned>>;
  EXPECT_EQ(runs_of(no_pages), runs{});
  EXPECT_EQ(runs_of(all_pages), (runs{{0, 32}}));
  EXPECT_EQ(runs_of(one_page(0) | one_page(31)), (runs{{0, 1}, {31, 1}}));
  EXPECT_EQ(runs_of(0xffff0000U), (runs{{16, 16}}));
  EXPECT_EQ(runs_of(0x55555555U).size(), 16U);
}

TEST(page_mask, runs_are_in_order_maximal_and_all_there_is) {
  test::rng random(test::seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << test::seed());
  for (int step = 0; step < test::scaled(2000); ++step) {
    const auto mask = static_cast<page_mask>(random() & random());
    page_mask seen = no_pages;
    unsigned behind = 0;  // first page that the next run may begin at, and not touch the last one
    for (const auto& [first, count] : runs_of(mask)) {
      ASSERT_GE(first, behind) << std::bitset<32>(mask);
      ASSERT_GE(count, 1U);
      seen |= pages_between(first, first + count);
      behind = first + count + 1;
    }
    ASSERT_EQ(seen, mask);
  }
}

static_assert(pages_between(4, 6) == 0x30, "usable in constant expressions");

}  // namespace
}  // namespace gm
