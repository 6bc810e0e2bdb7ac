// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstddef>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

// Two frames a device: three blocks do not fit.
class statistics : public every_flavour {
 protected:
  void SetUp() override {
    gm_options o = small_options(GetParam());
    o.device_budget_bytes = 2 * block;
    start(o);
  }
};
INSTANTIATE_TEST_SUITE_P(flavours, statistics, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(statistics, are_exact_for_scopes_that_evict_each_other) {
  byte* a = make_written(block, 1);
  byte* b = make_written(block, 40);
  byte* c = make_written(block, 80);
  gm_stream s = stream();
  ASSERT_EQ(gm_stats_reset(), GM_OK);

  device_writes(s, a, block, 7);       // 32 pages there
  (void)device_reads(s, b, block);     // 32 more
  (void)device_reads(s, c, block);     // a goes home: 32 pages, all dirty
  (void)device_reads(s, a, block);     // b goes: 32 pages, all clean
  device_writes(s, a, 3 * page, 8);    // resident: nothing moves
  (void)device_reads(s, b, 5 * page);  // c goes, clean; five pages come

  const gm_stats now = stats();
  EXPECT_EQ(now.node_count, 3U);
  const gm_node_stats& host = now.node[0];
  const gm_node_stats& device = now.node[1];
  EXPECT_EQ(device.pages_in, 4U * 32U + 5U);
  EXPECT_EQ(host.pages_out, 4U * 32U + 5U);
  EXPECT_EQ(host.pages_in, 32U);
  EXPECT_EQ(device.pages_out, 32U);
  EXPECT_EQ(device.bytes_in, device.pages_in * page);
  EXPECT_EQ(host.bytes_in, host.pages_in * page);
  EXPECT_EQ(device.bytes_out, device.pages_out * page);
  EXPECT_EQ(host.bytes_out, host.pages_out * page);
  EXPECT_EQ(device.evictions, 3U);
  EXPECT_EQ(device.writebacks, 32U);
  EXPECT_EQ(device.writebacks_skipped, 64U);
  EXPECT_EQ(device.frames_used, 2U);
  EXPECT_EQ(device.frames_free, 0U);
  EXPECT_EQ(host.faults, 0U);
  EXPECT_EQ(host.evictions, 0U);
  EXPECT_EQ(host.frames_used, 96U);
  EXPECT_EQ(now.node[2].pages_in + now.node[2].frames_used, 0U);
  EXPECT_EQ(now.spurious_faults, 0U);
  EXPECT_EQ(now.parked_faults, 0U);
  EXPECT_EQ(now.allocations, 3U);
  EXPECT_EQ(now.allocated_bytes, 3 * block);

  EXPECT_TRUE(all_are(a, 3 * page, 8));
  EXPECT_TRUE(all_are(a + 3 * page, block - 3 * page, 7));
  EXPECT_EQ(c[block - 1], 111);
}

TEST_P(statistics, only_what_the_device_wrote_goes_home) {
  byte* a = make_written(block, 1);
  byte* b = make_written(block, 40);
  byte* c = make_written(block, 80);
  gm_stream s = stream();
  (void)device_reads(s, a, block);
  device_writes(s, a + 4 * page, 2 * page, 200);
  (void)device_reads(s, b, block);
  ASSERT_EQ(gm_stats_reset(), GM_OK);
  (void)device_reads(s, c, block);
  EXPECT_EQ(stats().node[1].writebacks, 2U);
  EXPECT_EQ(stats().node[1].writebacks_skipped, 30U);
  EXPECT_EQ(stats().node[0].pages_in, 2U);
  EXPECT_EQ(a[0], 1);
  EXPECT_TRUE(all_are(a + 4 * page, 2 * page, 200));
}

TEST_P(statistics, pages_that_nobody_wrote_are_never_copied) {
  byte* a = make(block);
  byte* b = make(block);
  byte* c = make(block);
  gm_stream s = stream();
  for (byte* p : {a, b, c}) EXPECT_TRUE(all_are(device_reads(s, p, block), 0));
  const gm_stats now = stats();
  EXPECT_EQ(now.node[1].pages_in + now.node[0].pages_in + now.node[1].writebacks, 0U);
  EXPECT_EQ(now.node[1].evictions, 1U);
  EXPECT_EQ(now.node[0].frames_used, 0U);
  EXPECT_EQ(flags(a), GM_PAGE_NOMAP) << "evicted zeroes are nobody's";
}

TEST_P(statistics, faults_are_counted_where_they_happen) {
  byte* p = make(2 * page);
  ASSERT_EQ(gm_stats_reset(), GM_OK);
  touch_write(p, 1);
  EXPECT_EQ(stats().node[0].faults, 1U);
  EXPECT_EQ(stats().node[0].pages_in, 0U) << "nothing was copied";
  EXPECT_TRUE(soon([] { return stats().fault_time_ns > 0; }));
  gm_stream s = stream();
  device_writes(s, p, page, 9);
  touch_read(p);
  EXPECT_EQ(stats().node[0].faults, 2U);
  EXPECT_TRUE(soon([] { return stats().parked_faults == 1; })) << "the copy was waited for";
  EXPECT_EQ(stats().node[0].pages_in, 1U);
  touch_write(p, 2);
  EXPECT_EQ(stats().node[0].faults, 3U) << "the device had a copy: a write asks again";
}

TEST_P(statistics, reset_keeps_what_is_now) {
  byte* p = make_written(block);
  gm_stream s = stream();
  device_writes(s, p, block, 3);
  ASSERT_EQ(gm_stats_reset(), GM_OK);
  const gm_stats now = stats();
  EXPECT_EQ(now.node[1].pages_in + now.node[0].faults + now.fault_time_ns, 0U);
  EXPECT_EQ(now.node[1].frames_used, 1U);
  EXPECT_EQ(now.node[0].frames_used, 32U);
  EXPECT_EQ(now.node[0].frames_free, 64 * mib / page - 32U);
  EXPECT_EQ(now.allocations, 1U);
  EXPECT_GT(now.metadata_bytes, 0U);
}

TEST_P(statistics, a_smaller_struct_gets_what_it_knows) {
  struct {
    gm_stats s;
  } out{};
  std::memset(&out, 0xab, sizeof out);
  out.s.size = offsetof(gm_stats, parked_faults);
  ASSERT_EQ(gm_stats_get(&out.s), GM_OK);
  EXPECT_EQ(out.s.size, offsetof(gm_stats, parked_faults));
  EXPECT_EQ(out.s.node_count, 3U);
  EXPECT_EQ(out.s.parked_faults, 0xababababababababU) << "the rest is not written";
  out.s.size = sizeof(gm_stats) + 100;
  ASSERT_EQ(gm_stats_get(&out.s), GM_OK);
  EXPECT_EQ(out.s.size, sizeof(gm_stats)) << "says how much there is";
}

TEST_P(statistics, memory_that_nobody_touches_costs_nothing) {
  const gm_stats before = stats();
  byte* p = make(gib);
  const gm_stats now = stats();
  EXPECT_EQ(now.node[0].frames_used, 0U);
  EXPECT_EQ(now.node[1].frames_used, 0U);
  EXPECT_EQ(now.allocated_bytes, gib);
  EXPECT_LE(now.metadata_bytes - before.metadata_bytes, 2 * 128 * kib) << "it may lie across two chunks";
  EXPECT_EQ(flags(p + gib - 1), GM_PAGE_NOMAP);
}

}  // namespace
}  // namespace gm::test
