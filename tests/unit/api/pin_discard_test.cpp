// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "unit/memory_in_core.h"
#include "unit/running_gmem.h"

namespace gm::test {
namespace {

class pins : public every_flavour {
 protected:
  void SetUp() override {
    gm_options o = small_options(GetParam());
    o.device_budget_bytes = 2 * block;
    start(o);
    s = stream();
  }
  gm_stream s = nullptr;
};
INSTANTIATE_TEST_SUITE_P(flavours, pins, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(pins, on_the_host_pages_come_and_stay_writable) {
  byte* p = make(3 * page);
  device_writes(s, p, 2 * page, 9);
  ASSERT_EQ(gm_pin(p, 3 * page, GM_HOST), GM_OK) << gm_last_error();
  const std::uint64_t faults = stats().node[0].faults;
  EXPECT_TRUE(all_are(p, 2 * page, 9));
  EXPECT_TRUE(all_are(p + 2 * page, page, 0));
  for (std::size_t i = 0; i < 3 * page; i += 4096) touch_write(p + i, 1);
  EXPECT_EQ(stats().node[0].faults, faults) << "mapped, and writable";
  EXPECT_EQ(flags(p), GM_PAGE_CPU | GM_PAGE_PINNED);
  for (const gm_mode mode : {GM_READ, GM_WRITE, GM_READ_WRITE}) {
    EXPECT_EQ(try_begin(s, p, page, mode), GM_ERROR_BUSY);
    expect_error("gm_unpin");
    EXPECT_EQ(try_begin(nullptr, p, page, mode), GM_ERROR_BUSY);
  }
  EXPECT_EQ(gm_prefetch(p, page, 1, nullptr), GM_ERROR_BUSY);
  EXPECT_EQ(gm_memset(p, 1, page, 1, nullptr), GM_ERROR_BUSY);
  EXPECT_EQ(gm_pin(p, page, 1), GM_ERROR_BUSY) << "pinned to a device as well";
  EXPECT_EQ(flags(p), GM_PAGE_CPU | GM_PAGE_PINNED);
  EXPECT_EQ(gm_memset(p, 1, page, GM_HOST, nullptr), GM_OK) << "the host's own work goes on";
  ASSERT_EQ(gm_unpin(p, 3 * page, GM_HOST), GM_OK);
  EXPECT_EQ(try_begin(s, p, page, GM_READ), GM_OK);
}

TEST_P(pins, of_a_host_and_a_device_at_once_one_is_refused) {
  byte* p = make_written(page);
  for (int round = 0; round < 300; ++round) {
    std::atomic<int> ready{0};
    gm_status results[2];
    std::thread threads[2];
    for (int node = 0; node < 2; ++node)
      threads[node] = std::thread([&, node] {
        ++ready;
        while (ready.load() < 2) {
        }
        results[node] = gm_pin(p, page, node);
      });
    for (std::thread& t : threads) t.join();
    ASSERT_NE(results[0] == GM_OK, results[1] == GM_OK) << round;
    ASSERT_EQ(results[results[0] == GM_OK ? 1 : 0], GM_ERROR_BUSY);
    ASSERT_EQ(gm_unpin(p, page, results[0] == GM_OK ? 0 : 1), GM_OK);
  }
}

TEST_P(pins, on_a_device_frames_are_never_evicted) {
  byte* pinned = make_written(block);
  ASSERT_EQ(gm_pin(pinned, page, 1), GM_OK) << gm_last_error();
  EXPECT_EQ(resident(pinned, page, 1), page);
  for (int i = 0; i < 4; ++i) {
    byte* other = make_written(block);
    (void)device_reads(s, other, block);
    EXPECT_EQ(resident(pinned, page, 1), page);
  }
  byte* large = make(2 * block);
  EXPECT_EQ(try_begin(s, large, 2 * block, GM_READ), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(resident(pinned, page, 1), page);
  ASSERT_EQ(gm_unpin(pinned, page, 1), GM_OK);
  EXPECT_EQ(try_begin(s, large, 2 * block, GM_READ), GM_OK);
}

TEST_P(pins, on_a_device_the_cpu_and_others_use_the_page_by_turns) {
  byte* p = make_written(page);
  ASSERT_EQ(gm_pin(p, page, 1), GM_OK);
  touch_write(p, 50);
  EXPECT_EQ(device_reads(s, p, 1)[0], 50);
  gm_stream s2 = stream(2);
  device_writes(s2, p, page, 60);
  EXPECT_EQ(*p, 60);
  EXPECT_EQ(gm_pin(p, page, GM_HOST), GM_ERROR_BUSY);
  EXPECT_NE(flags(p) & GM_PAGE_PINNED, 0U);
}

TEST_P(pins, do_not_nest) {
  byte* p = make_written(page);
  ASSERT_EQ(gm_pin(p, page, GM_HOST), GM_OK);
  ASSERT_EQ(gm_pin(p, page, GM_HOST), GM_OK);
  ASSERT_EQ(gm_unpin(p, page, GM_HOST), GM_OK);
  EXPECT_EQ(flags(p) & GM_PAGE_PINNED, 0U);
  EXPECT_EQ(gm_unpin(p, page, GM_HOST), GM_OK) << "what is not pinned";
  EXPECT_EQ(gm_unpin(p, page, 1), GM_OK);
}

TEST_P(pins, unpinning_one_node_leaves_the_others) {
  byte* p = make_written(page);
  ASSERT_EQ(gm_pin(p, page, 1), GM_OK);
  ASSERT_EQ(gm_pin(p, page, 2), GM_OK);
  ASSERT_EQ(gm_unpin(p, page, 1), GM_OK);
  EXPECT_NE(flags(p) & GM_PAGE_PINNED, 0U);
}

TEST_P(pins, more_than_fits_pins_nothing) {
  byte* p = make(3 * block);
  EXPECT_EQ(gm_pin(p, 3 * block, 1), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(flags(p), GM_PAGE_NOMAP);
  byte* all = make(64 * mib + page);
  EXPECT_EQ(gm_pin(all, 64 * mib + page, GM_HOST), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(flags(all) & GM_PAGE_PINNED, 0U);
  EXPECT_EQ(flags(all + 64 * mib) & GM_PAGE_PINNED, 0U);
}

TEST_P(pins, end_with_the_allocation) {
  byte* p = make_written(page);
  ASSERT_EQ(gm_pin(p, page, 1), GM_OK);
  free(p);
  settle();
  EXPECT_EQ(stats().node[1].frames_used, 0U);
  byte* next = make(page);
  ASSERT_EQ(next, p) << "for this test: the same address";
  EXPECT_EQ(flags(next), GM_PAGE_NOMAP);
}

class discards : public pins {
 protected:
  std::uint64_t memory_of(const byte* p, std::size_t bytes) const {
    const arena& memory = running()->vm.memory;
    const std::uint64_t begin = memory.offset_of(p);
    return os_pages_in_core(memory, {begin, begin + bytes}) * 4096;
  }
};
INSTANTIATE_TEST_SUITE_P(flavours, discards, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(discards, whole_pages_read_as_zero_and_take_no_memory) {
  byte* p = make_written(2 * block);
  ASSERT_EQ(gm_discard(p, 2 * block), GM_OK);
  EXPECT_EQ(flags(p), GM_PAGE_NOMAP);
  EXPECT_EQ(memory_of(p, 2 * block), 0U) << "given back to the system";
  EXPECT_EQ(stats().node[0].frames_used, 0U);
  EXPECT_TRUE(all_are(p, 2 * block, 0));
}

TEST_P(discards, pages_in_part_keep_everything) {
  byte* p = make_written(5 * page);
  ASSERT_EQ(gm_discard(p + page - 1, 3 * page), GM_OK);  // pages 1 and 2, the last byte of 0, most of 3
  EXPECT_TRUE(all_are(p, page, 1));
  EXPECT_EQ(memory_of(p + page, 2 * page), 0U);
  EXPECT_TRUE(all_are(p + page, 2 * page, 0));
  EXPECT_TRUE(all_are(p + 3 * page, page, 4));
  EXPECT_TRUE(all_are(p + 4 * page, page, 5));
}

TEST_P(discards, a_range_without_a_whole_page_discards_nothing) {
  byte* p = make_written(2 * page);
  EXPECT_EQ(gm_discard(p + 1, 2 * page - 2), GM_OK);
  EXPECT_EQ(gm_discard(p + 5, 10), GM_OK);
  EXPECT_TRUE(all_are(p, page, 1));
  EXPECT_TRUE(all_are(p + page, page, 2));
}

TEST_P(discards, what_devices_hold_is_gone_as_well) {
  byte* p = make_written(4 * page);
  device_writes(s, p, 2 * page, 9);
  (void)device_reads(s, p + 2 * page, page);
  ASSERT_EQ(gm_discard(p, 4 * page), GM_OK);
  for (std::size_t i = 0; i < 4 * page; i += page) EXPECT_EQ(flags(p + i), GM_PAGE_NOMAP);
  EXPECT_TRUE(all_are(device_reads(s, p, 4 * page), 0));
  EXPECT_TRUE(all_are(p, 4 * page, 0));
}

TEST_P(discards, pinned_pages_and_ones_own_scope_are_busy_and_stand) {
  byte* p = make_written(2 * page);
  for (const int node : {0, 1}) {
    ASSERT_EQ(gm_pin(p + page, page, node), GM_OK);
    EXPECT_EQ(gm_discard(p, 2 * page), GM_ERROR_BUSY);
    expect_error("gm_unpin");
    ASSERT_EQ(gm_unpin(p + page, page, node), GM_OK);
  }
  gm_scope scope = begin(s, p, page, GM_READ);
  EXPECT_EQ(gm_discard(p, 2 * page), GM_ERROR_BUSY);
  end(scope);
  finish(s);
  EXPECT_TRUE(all_are(p, page, 1));
  EXPECT_TRUE(all_are(p + page, page, 2));
  EXPECT_EQ(gm_discard(p, 2 * page), GM_OK);
}

TEST_P(discards, wait_for_work_that_is_queued) {
  byte* p = make_written(page);
  std::atomic<bool> go{false};
  ASSERT_EQ(gm_stream_call(
                s, [](void* g) { static_cast<std::atomic<bool>*>(g)->wait(false); }, &go),
            GM_OK);
  gm_scope scope = begin(s, p, page, GM_READ_WRITE);
  kernel_set(s, p, page, 9);
  end(scope);
  std::atomic<bool> done{false};
  std::thread discarding([&] {
    EXPECT_EQ(gm_discard(p, page), GM_OK);
    done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(done);
  go = true;
  go.notify_all();
  discarding.join();
  EXPECT_TRUE(all_are(p, page, 0)) << "it comes behind the kernel";
}

TEST_P(discards, where_the_system_does_not_take_the_memory_it_is_zero_all_the_same) {
  byte* p = make_written(4 * page);
  device_writes(s, p + page, page, 9);        // the host's old copy is stale
  (void)device_reads(s, p + 2 * page, page);  // and here both have one
  inject::fail_nth(inject::point::punch_pages, 1);
  EXPECT_EQ(gm_discard(p, 3 * page), GM_OK) << gm_last_error();
  expect_valid();
  for (std::size_t i = 0; i < 3 * page; i += page) EXPECT_EQ(valid(p + i) & ~1U, 0U) << "no device has it any more";
  EXPECT_TRUE(all_are(device_reads(s, p, 3 * page), 0));
  EXPECT_TRUE(all_are(p, 3 * page, 0));
  EXPECT_TRUE(all_are(p + 3 * page, page, 4));
  touch_write(p, 1);
  EXPECT_EQ(*p, 1);
}

}  // namespace
}  // namespace gm::test
