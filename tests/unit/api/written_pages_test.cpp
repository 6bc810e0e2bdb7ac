// SPDX-License-Identifier: Apache-2.0
// After a read duplication only the pages that the CPU has written since are sent again.
#include <gtest/gtest.h>

#include <vector>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

class written_pages : public every_flavour {
 protected:
  static constexpr std::uint64_t pages = 4 * block / page;

  // The pages that reading all of it on the device again sends there, having read it there before.
  std::uint64_t sent_by_reading_again() {
    EXPECT_EQ(gm_stats_reset(), GM_OK);
    (void)device_reads(s, data, pages * page);
    EXPECT_EQ(stats().node[0].pages_out, stats().node[1].pages_in);
    return stats().node[1].pages_in;
  }
  void SetUp() override {
    every_flavour::SetUp();
    data = make_written(pages * page);
    s = stream();
    ASSERT_EQ(sent_by_reading_again(), pages);
    ASSERT_EQ(sent_by_reading_again(), 0U);
  }
  void write(std::uint64_t which) { touch_write(data + which * page + 100, 200); }

  byte* data = nullptr;
  gm_stream s = nullptr;
};
INSTANTIATE_TEST_SUITE_P(flavours, written_pages, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(written_pages, alone_are_sent_again_when_sparse) {
  const std::vector<std::uint64_t> some{0, 5, 6, 31, 32, 50, 90, 127};
  for (const std::uint64_t which : some) write(which);
  EXPECT_EQ(sent_by_reading_again(), some.size());
  for (const std::uint64_t which : some) EXPECT_EQ(device_reads(s, data + which * page + 100, 1)[0], 200);
}

TEST_P(written_pages, alone_are_sent_again_when_they_are_the_first_few) {
  for (const std::uint64_t k : {1, 2, 7, 31}) {
    for (std::uint64_t i = 0; i < k; ++i) write(i);
    EXPECT_EQ(sent_by_reading_again(), k);
  }
}

TEST_P(written_pages, alone_are_sent_again_behind_reads_in_order) {
  for (std::uint64_t i = 0; i < pages; ++i) touch_read(data + i * page);
  for (const std::uint64_t which : {3, 4, 5, 6, 40}) write(which);
  EXPECT_EQ(sent_by_reading_again(), 5U);
}

TEST_P(written_pages, of_blocks_that_are_written_in_order_are_sent_with_the_rest_of_the_last_block) {
  for (std::uint64_t i = 0; i < 33; ++i) write(i);
  EXPECT_EQ(sent_by_reading_again(), 64U);
}

TEST_P(written_pages, obey_advice) {
  ASSERT_EQ(gm_advise(data, pages * page, GM_ADVISE_SEQUENTIAL, 0), GM_OK);
  write(34);
  EXPECT_EQ(sent_by_reading_again(), 30U) << "as far as the block goes";
  ASSERT_EQ(gm_advise(data, pages * page, GM_ADVISE_RANDOM, 0), GM_OK);
  for (std::uint64_t i = 0; i < 70; ++i) write(i);
  EXPECT_EQ(sent_by_reading_again(), 70U);
}

}  // namespace
}  // namespace gm::test
