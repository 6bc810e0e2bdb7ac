// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

class querying : public every_flavour {
 protected:
  static void expect_page(const void* p, std::uint32_t expected_flags, std::uint32_t nodes, int writer) {
    const gm_mapping m = query(p);
    EXPECT_EQ(m.flags, expected_flags);
    EXPECT_EQ(m.valid_nodes, nodes);
    EXPECT_EQ(m.writer, writer);
  }
};
INSTANTIATE_TEST_SUITE_P(flavours, querying, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(querying, names_every_state_of_a_page) {
  byte* p = make(page);
  gm_stream s = stream(1);
  gm_stream s2 = stream(2);
  expect_page(p, GM_PAGE_NOMAP, 0, -1);
  touch_write(p, 1);
  expect_page(p, GM_PAGE_CPU, 1, GM_HOST);
  (void)device_reads(s, p, page);
  expect_page(p, GM_PAGE_CPU | GM_PAGE_DEVICE, 1 | 2, -1);
  (void)device_reads(s2, p, page);
  expect_page(p, GM_PAGE_CPU | GM_PAGE_DEVICE, 1 | 2 | 4, -1);
  device_writes(s, p, page, 5);
  expect_page(p, GM_PAGE_DEVICE | GM_PAGE_DIRTY, 2, 1);
  (void)device_reads(s2, p, page);
  expect_page(p, GM_PAGE_DEVICE | GM_PAGE_DIRTY, 2 | 4, -1);
  touch_read(p);
  expect_page(p, GM_PAGE_CPU | GM_PAGE_DEVICE, query(p).valid_nodes | 1, -1);
  touch_write(p, 2);
  expect_page(p, GM_PAGE_CPU, 1, GM_HOST);
  ASSERT_EQ(gm_discard(p, page), GM_OK);
  expect_page(p, GM_PAGE_NOMAP, 0, -1);
  ASSERT_EQ(gm_prefetch(p, page, 1, nullptr), GM_OK);
  expect_page(p, GM_PAGE_DEVICE, 2, -1);
}

TEST_P(querying, knows_scopes_and_pins) {
  byte* p = make_written(2 * page);
  gm_scope scope = begin(nullptr, p, page, GM_READ);
  EXPECT_EQ(flags(p), GM_PAGE_CPU | GM_PAGE_DEVICE | GM_PAGE_LEASED);
  EXPECT_EQ(flags(p + page), GM_PAGE_CPU);
  end(scope);
  settle();
  EXPECT_EQ(flags(p), GM_PAGE_CPU | GM_PAGE_DEVICE);
  ASSERT_EQ(gm_pin(p, 1, 1), GM_OK);
  EXPECT_NE(flags(p) & GM_PAGE_PINNED, 0U);
  EXPECT_EQ(flags(p + page) & GM_PAGE_PINNED, 0U);
  ASSERT_EQ(gm_unpin(p, 1, 1), GM_OK);
  EXPECT_EQ(flags(p) & GM_PAGE_PINNED, 0U);
}

TEST_P(querying, asks_about_the_page_that_holds_the_byte) {
  byte* p = make_written(2 * page);
  EXPECT_EQ(query(p + page - 1).page, p);
  EXPECT_EQ(query(p + page).page, p + page);
  gm_mapping m{};
  EXPECT_EQ(gm_query(p + 2 * page, &m), GM_ERROR_NOT_MANAGED);
  EXPECT_EQ(gm_query(p - 1, &m), GM_ERROR_NOT_MANAGED);
  EXPECT_EQ(gm_query(&m, &m), GM_ERROR_NOT_MANAGED);
}

TEST_P(querying, counts_resident_bytes_to_the_byte) {
  byte* p = make_written(2 * block);
  gm_stream s = stream();
  EXPECT_EQ(resident(p, 2 * block, GM_HOST), 2 * block);
  EXPECT_EQ(resident(p, 2 * block, 1), 0U);
  (void)device_reads(s, p + page, 2 * page);
  EXPECT_EQ(resident(p, 2 * block, 1), 2 * page);
  EXPECT_EQ(resident(p + page + 10, page, 1), page);
  EXPECT_EQ(resident(p + page - 10, 20, 1), 10U);
  EXPECT_EQ(resident(p + 3 * page - 7, 100, 1), 7U);
  EXPECT_EQ(resident(p + 3 * page, 1, 1), 0U);
  (void)device_reads(s, p + block - page, 2 * page);
  EXPECT_EQ(resident(p + block - 1, 2, 1), 2U) << "over the edge of a block";
}

TEST_P(querying, may_be_answered_into_managed_memory) {
  byte* p = make(page);
  auto* answer = reinterpret_cast<gm_mapping*>(p);
  ASSERT_EQ(gm_prefetch(p, page, 1, nullptr), GM_OK);  // so that writing it faults
  ASSERT_EQ(gm_query(p, answer), GM_OK);
  EXPECT_EQ(answer->page, p);
  EXPECT_EQ(answer->writer, -1);
}

}  // namespace
}  // namespace gm::test
