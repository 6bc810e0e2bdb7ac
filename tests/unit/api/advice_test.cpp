// SPDX-License-Identifier: Apache-2.0
// advice_test.cpp - what advice is for: each kind changes what it says, and never what memory contains.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

// Four frames on each device.
class advising : public every_flavour {
 protected:
  void SetUp() override {
    gm_options o = small_options(GetParam());
    o.device_budget_bytes = 4 * block;
    start(o);
    s = stream();
    for (auto& p : blocks) p = make_written(block);
  }
  void advise(void* p, gm_advice what, int node = 0) { ASSERT_EQ(gm_advise(p, block, what, node), GM_OK); }
  // The first four are used in order; then a fifth comes. Which one had to go?
  int victim() {
    for (int i = 0; i < 4; ++i) (void)device_reads(s, blocks[static_cast<std::size_t>(i)], block);
    return next_victim();
  }
  int next_victim() {
    (void)device_reads(s, blocks[4], block);
    int gone = -1;
    for (int i = 0; i < 4; ++i)
      if (resident(blocks[static_cast<std::size_t>(i)], block, 1) == 0) gone = gone < 0 ? i : 100;
    return gone;
  }
  std::uint64_t faults_of(void (*act)(byte*), byte* p) {
    const std::uint64_t before = stats().node[0].faults;
    act(p);
    return stats().node[0].faults - before;
  }
  static void read_block(byte* p) {
    for (std::size_t i = 0; i < block; i += page) touch_read(p + i);
  }
  gm_stream s = nullptr;
  std::array<byte*, 5> blocks{};
};
INSTANTIATE_TEST_SUITE_P(flavours, advising, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(advising, without_it_the_least_recently_used_goes) { EXPECT_EQ(victim(), 0); }

TEST_P(advising, cold_goes_first_at_once) {
  for (const std::size_t i : {0, 1, 2, 3}) (void)device_reads(s, blocks[i], block);
  advise(blocks[2], GM_ADVISE_COLD);
  EXPECT_EQ(next_victim(), 2);
}

TEST_P(advising, cold_stays_advice_for_later_uses) {
  advise(blocks[3], GM_ADVISE_COLD);
  EXPECT_EQ(victim(), 3);
}

TEST_P(advising, the_preferred_node_keeps_to_the_last) {
  advise(blocks[0], GM_ADVISE_PREFERRED_NODE, 1);
  EXPECT_EQ(victim(), 1);
}

TEST_P(advising, other_nodes_than_the_preferred_give_up_first) {
  advise(blocks[2], GM_ADVISE_PREFERRED_NODE, GetParam().window ? 2 : GM_HOST);
  EXPECT_EQ(victim(), 2);
}

TEST_P(advising, copies_of_read_mostly_data_go_first) {
  advise(blocks[3], GM_ADVISE_READ_MOSTLY);
  EXPECT_EQ(victim(), 3);
}

TEST_P(advising, a_sequential_range_is_left_behind) {
  advise(blocks[1], GM_ADVISE_SEQUENTIAL);
  EXPECT_EQ(victim(), 1);
}

TEST_P(advising, normal_forgets) {
  advise(blocks[2], GM_ADVISE_COLD);
  advise(blocks[2], GM_ADVISE_NORMAL);
  EXPECT_EQ(victim(), 0);
}

TEST_P(advising, a_prefetch_takes_the_cpus_mapping_unless_it_reads_along) {
  read_block(blocks[0]);
  ASSERT_EQ(gm_prefetch(blocks[0], block, 1, nullptr), GM_OK);
  EXPECT_GE(faults_of(read_block, blocks[0]), 1U);
  for (const auto& [p, what] : {std::pair{blocks[1], GM_ADVISE_READ_MOSTLY}, {blocks[2], GM_ADVISE_ACCESSED_BY}}) {
    advise(p, what, GM_HOST);
    ASSERT_EQ(gm_prefetch(p, block, 1, nullptr), GM_OK);
    EXPECT_EQ(resident(p, block, 1), block);
    EXPECT_EQ(faults_of(read_block, p), 0U) << "still mapped";
    touch_write(p, 77);
    EXPECT_EQ(device_reads(s, p, 1)[0], 77) << "and coherent";
  }
}

TEST_P(advising, random_takes_a_page_a_fault_and_sequential_a_block) {
  byte* p = make(block);
  advise(p, GM_ADVISE_RANDOM);
  EXPECT_EQ(faults_of(read_block, p), 32U);
  byte* q = make(block);
  advise(q, GM_ADVISE_SEQUENTIAL);
  EXPECT_EQ(faults_of(read_block, q), 1U);
  byte* r = make(block);
  advise(r, GM_ADVISE_ACCESSED_BY, GM_HOST);
  EXPECT_EQ(faults_of(read_block, r), 1U);
}

TEST_P(advising, accessed_by_a_device_sets_up_the_frames_that_are_free) {
  (void)device_reads(s, blocks[0], block);
  (void)device_reads(s, blocks[1], block);
  byte* large = make(2 * block);
  ASSERT_EQ(gm_advise(large, 2 * block, GM_ADVISE_ACCESSED_BY, 1), GM_OK);
  EXPECT_EQ(stats().node[1].frames_free, 0U);
  EXPECT_EQ(flags(large), GM_PAGE_NOMAP) << "frames, not contents";
  byte* more = make(2 * block);
  ASSERT_EQ(gm_advise(more, 2 * block, GM_ADVISE_ACCESSED_BY, 1), GM_OK) << "as far as there are any";
  EXPECT_EQ(stats().node[1].evictions, 0U);
  EXPECT_EQ(resident(blocks[0], block, 1), block);
}

TEST_P(advising, willneed_brings_what_fits_without_evicting_anything) {
  for (const std::size_t i : {0, 1, 2}) (void)device_reads(s, blocks[i], block);
  ASSERT_EQ(gm_stats_reset(), GM_OK);
  advise(blocks[3], GM_ADVISE_WILLNEED, 1);
  advise(blocks[4], GM_ADVISE_WILLNEED, 1);
  settle();
  EXPECT_EQ(resident(blocks[3], block, 1), block);
  EXPECT_EQ(flags(blocks[3]) & GM_PAGE_WILLNEED, 0U) << "it has come";
  EXPECT_EQ(resident(blocks[4], block, 1), 0U);
  EXPECT_NE(flags(blocks[4]) & GM_PAGE_WILLNEED, 0U) << "advised, and not there yet";
  EXPECT_EQ(stats().node[1].evictions, 0U);
  device_writes(s, blocks[4], block, 5, GM_WRITE);
  EXPECT_EQ(flags(blocks[4]) & GM_PAGE_WILLNEED, 0U) << "whichever way it came";
}

TEST_P(advising, willneed_of_the_host_is_over_when_it_is_there) {
  byte* p = make(2 * page);
  device_writes(s, p, page, 6);
  ASSERT_EQ(gm_advise(p, 2 * page, GM_ADVISE_WILLNEED, GM_HOST), GM_OK);
  settle();
  EXPECT_EQ(resident(p, page, GM_HOST), page);
  EXPECT_EQ(flags(p) & GM_PAGE_WILLNEED, 0U);
  EXPECT_EQ(flags(p + page) & GM_PAGE_WILLNEED, 0U);
  EXPECT_TRUE(all_are(p, page, 6));
}

TEST_P(advising, willneed_beside_an_open_scope_waits_for_nothing) {
  gm_scope scope = begin(s, blocks[0], block, GM_READ_WRITE);
  EXPECT_EQ(gm_advise(blocks[0], block, GM_ADVISE_WILLNEED, 2), GM_OK);
  end(scope);
}

TEST_P(advising, it_ends_with_the_allocation) {
  advise(blocks[0], GM_ADVISE_COLD);
  ASSERT_EQ(running()->vm.advices.intervals(), 1U);
  free(blocks[0]);
  settle();
  EXPECT_EQ(running()->vm.advices.intervals(), 0U);
}

TEST_P(advising, a_page_half_in_the_range_has_it) {
  byte* p = make(4 * page);
  ASSERT_EQ(gm_advise(p + page + 10, page, GM_ADVISE_RANDOM, 0), GM_OK);
  const vm_object& vm = running()->vm;
  const auto pattern = [&](std::size_t i) { return vm.advices.at(page_of(vm.memory.offset_of(p + i * page))).pattern; };
  EXPECT_EQ(pattern(0), access_pattern::unknown);
  EXPECT_EQ(pattern(1), access_pattern::random);
  EXPECT_EQ(pattern(2), access_pattern::random);
  EXPECT_EQ(pattern(3), access_pattern::unknown);
}

TEST_P(advising, without_memory_to_keep_it_it_says_so_and_nothing_changes) {
  inject::fail_nth(inject::point::record_memory, 1);
  EXPECT_EQ(gm_advise(blocks[0], block, GM_ADVISE_READ_MOSTLY, 0), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(running()->vm.advices.intervals(), 0U);
}

TEST_P(advising, no_advice_changes_what_memory_contains) {
  for (const gm_advice what :
       {GM_ADVISE_READ_MOSTLY, GM_ADVISE_PREFERRED_NODE, GM_ADVISE_ACCESSED_BY, GM_ADVISE_SEQUENTIAL, GM_ADVISE_RANDOM,
        GM_ADVISE_WILLNEED, GM_ADVISE_COLD, GM_ADVISE_NORMAL})
    for (const int node : {0, 1, 2}) {
      advise(blocks[0], what, node);
      settle();
      for (std::size_t i = 0; i < block; i += page) ASSERT_EQ(blocks[0][i], 1 + i / page);
    }
}

}  // namespace
}  // namespace gm::test
