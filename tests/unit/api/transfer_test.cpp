// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "unit/running_gmem.h"
#include "unit/seeded.h"

namespace gm::test {
namespace {

class transfers : public every_flavour {
 protected:
  void SetUp() override {
    every_flavour::SetUp();
    s = stream();
  }
  // The ways to have something done by a node: at once, and in order of a stream.
  struct way {
    int node;
    gm_stream stream;
  };
  std::vector<way> ways() { return {{0, nullptr}, {1, nullptr}, {2, nullptr}, {1, s}, {0, s}}; }
  void finish_way(const way& w) {
    if (w.stream != nullptr) finish(w.stream);
  }
  gm_stream s = nullptr;
};
INSTANTIATE_TEST_SUITE_P(flavours, transfers, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(transfers, between_managed_memory_wherever_it_is) {
  for (const way& w : ways()) {
    byte* from = make_written(block + 3 * page);
    byte* to = make_written(2 * block, 100);
    device_writes(s, from + page, page, 77);
    ASSERT_EQ(gm_memcpy(to + 1000, from + 500, block, w.node, w.stream), GM_OK) << gm_last_error();
    finish_way(w);
    for (std::size_t i = 0; i < 2 * block; i += 333) {
      const std::size_t at = i - 1000 + 500;  // in the source
      const byte copied = at / page == 1 ? 77 : static_cast<byte>(1 + at / page);
      const byte expected = i >= 1000 && i < 1000 + block ? copied : static_cast<byte>(100 + i / page);
      ASSERT_EQ(to[i], expected) << i << " by node " << w.node;
    }
    free(from);
    free(to);
  }
}

TEST_P(transfers, from_and_to_ordinary_memory) {
  for (const way& w : ways()) {
    std::vector<byte> ordinary(3 * page);
    for (std::size_t i = 0; i < ordinary.size(); ++i) ordinary[i] = static_cast<byte>(i % 253);
    byte* p = make_written(4 * page, 200);
    ASSERT_EQ(gm_memcpy(p + 7, ordinary.data(), ordinary.size(), w.node, w.stream), GM_OK) << gm_last_error();
    std::vector<byte> back(ordinary.size());
    ASSERT_EQ(gm_memcpy(back.data(), p + 7, back.size(), w.node, w.stream), GM_OK) << gm_last_error();
    finish_way(w);
    EXPECT_EQ(back, ordinary);
    EXPECT_TRUE(all_are(p, 7, 200)) << "bytes outside the range are kept";
    EXPECT_TRUE(all_are(p + 7 + 3 * page, page - 7, 203));
    free(p);
  }
}

TEST_P(transfers, filling) {
  for (const way& w : ways()) {
    byte* p = make_written(block + page, 1);
    ASSERT_EQ(gm_memset(p + 5, 0x1ab, block, w.node, w.stream), GM_OK) << gm_last_error();
    finish_way(w);
    EXPECT_TRUE(all_are(p, 5, 1));
    EXPECT_TRUE(all_are(p + 5, block, 0xab)) << "the low byte, as memset";
    EXPECT_TRUE(all_are(p + 5 + block, page - 5, 33));
    free(p);
  }
}

TEST_P(transfers, within_one_page) {
  for (const way& w : ways()) {
    byte* p = make_written(page, 8);
    std::memset(p, 9, 100);
    ASSERT_EQ(gm_memcpy(p + 100, p, 100, w.node, w.stream), GM_OK) << gm_last_error();
    finish_way(w);
    EXPECT_TRUE(all_are(p, 200, 9));
    EXPECT_TRUE(all_are(p + 200, page - 200, 8));
    free(p);
  }
}

TEST_P(transfers, of_memory_that_nobody_wrote_give_zeroes) {
  for (const way& w : ways()) {
    byte* p = make(2 * page);
    std::vector<byte> got(2 * page, 1);
    ASSERT_EQ(gm_memcpy(got.data(), p, got.size(), w.node, w.stream), GM_OK);
    finish_way(w);
    EXPECT_TRUE(all_are(got, 0));
    free(p);
  }
}

TEST_P(transfers, by_the_host_in_a_stream_come_behind_its_kernels_and_the_cpu_behind_them) {
  byte* p = make_written(2 * page, 1);
  std::atomic<bool> go{false};
  ASSERT_EQ(gm_stream_call(
                s, [](void* g) { static_cast<std::atomic<bool>*>(g)->wait(false); }, &go),
            GM_OK);
  gm_scope scope = begin(s, p, page, GM_READ_WRITE);
  kernel_set(s, p, page, 50);
  end(scope);
  ASSERT_EQ(gm_memcpy(p + page, p, page, GM_HOST, s), GM_OK);
  std::atomic<int> read{-1};
  std::thread reader([&] { read = *static_cast<volatile byte*>(p + page); });
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(read, -1) << "the queued copy will write there";
  go = true;
  go.notify_all();
  reader.join();
  EXPECT_EQ(read, 50);
  finish(s);
}

TEST_P(transfers, that_fail_leave_both_sides_as_they_were) {
  byte* from = make_written(2 * page, 4);
  byte* to = make_written(2 * page, 6);
  device_writes(s, to, page, 99);  // the newest copy is on a device
  using device::operation;
  for (const auto what : {operation::copy_submit, operation::copy_run}) {
    debug_fail_device(what, 1);
    EXPECT_EQ(gm_memcpy(to, from, 2 * page, 1, nullptr), GM_ERROR_DEVICE);
    debug_fail_device(what, 0);
    expect_valid();
    EXPECT_TRUE(all_are(to, page, 99));
    EXPECT_TRUE(all_are(to + page, page, 7));
  }
  for (const auto what : {operation::fill_submit, operation::fill_run}) {
    device_writes(s, to, page, 98);
    debug_fail_device(what, 1);
    EXPECT_EQ(gm_memset(to, 1, 2 * page, 2, nullptr), GM_ERROR_DEVICE);
    debug_fail_device(what, 0);
    expect_valid();
    EXPECT_TRUE(all_are(to, page, 98));
    EXPECT_TRUE(all_are(to + page, page, 7));
  }
  device_writes(s, to, page, 97);
  debug_fail_device(operation::call_submit, 1);
  EXPECT_EQ(gm_memset(to, 1, 2 * page, GM_HOST, s), GM_ERROR_DEVICE);
  debug_fail_device(operation::call_submit, 0);
  EXPECT_TRUE(all_are(to, page, 97));
  EXPECT_TRUE(all_are(from, page, 4));
  EXPECT_EQ(gm_memcpy(to, from, 2 * page, 1, nullptr), GM_OK);
  EXPECT_TRUE(all_are(to + page, page, 5));
}

TEST_P(transfers, random_ones_against_plain_arrays) {
  rng random(seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << seed());
  constexpr std::size_t size = block + 5 * page;
  byte* managed = make(size);
  std::vector<byte> plain(size, 0);
  std::vector<byte> ordinary(size);
  for (byte& b : ordinary) b = static_cast<byte>(random());
  for (int step = 0; step < scaled(60); ++step) {
    const std::size_t bytes = 1 + below(random, size / 3);
    const std::size_t to = below(random, size - bytes);
    const std::size_t from = below(random, size - bytes);
    const way w = ways()[below(random, 5)];
    switch (below(random, 3)) {
      case 0:
        ASSERT_EQ(gm_memset(managed + to, step, bytes, w.node, w.stream), GM_OK);
        std::memset(plain.data() + to, step, bytes);
        break;
      case 1:
        ASSERT_EQ(gm_memcpy(managed + to, ordinary.data() + from, bytes, w.node, w.stream), GM_OK);
        std::memcpy(plain.data() + to, ordinary.data() + from, bytes);
        break;
      default:
        if (to < from + bytes && from < to + bytes) break;
        ASSERT_EQ(gm_memcpy(managed + to, managed + from, bytes, w.node, w.stream), GM_OK);
        std::memcpy(plain.data() + to, plain.data() + from, bytes);
        break;
    }
    if (step % 10 == 9) {
      finish(s);
      EXPECT_EQ(std::memcmp(managed, plain.data(), size), 0) << "step " << step;
    }
  }
  finish(s);  // what is queued reads the ordinary memory
  EXPECT_EQ(std::memcmp(managed, plain.data(), size), 0);
}

// Prefetching moves as a scope does, and leaves no lease.
TEST_P(transfers, prefetched_pages_are_there_and_others_keep_theirs) {
  byte* p = make_written(3 * page);
  ASSERT_EQ(gm_prefetch(p + page - 1, 2, 1, nullptr), GM_OK);
  EXPECT_EQ(valid(p), 3U);
  EXPECT_EQ(valid(p + page), 3U);
  EXPECT_EQ(valid(p + 2 * page), 1U);
  EXPECT_EQ(flags(p) & GM_PAGE_LEASED, 0U);
  ASSERT_EQ(gm_prefetch(p, 3 * page, 2, nullptr), GM_OK);
  EXPECT_EQ(valid(p), 7U);
  device_writes(s, p, 3 * page, 8);
  ASSERT_EQ(gm_prefetch(p, 3 * page, GM_HOST, s), GM_OK);
  finish(s);
  EXPECT_EQ(valid(p), 3U);
  const std::uint64_t faults = stats().node[0].faults;
  EXPECT_TRUE(all_are(p, 3 * page, 8));
  EXPECT_EQ(stats().node[0].faults, faults) << "mapped when it came";
}

TEST_P(transfers, a_prefetch_that_cannot_have_room_moves_nothing) {
  byte* pinned = make(7 * block);
  byte* idle = make_written(block);
  byte* wanted = make_written(2 * block);
  ASSERT_EQ(gm_pin(pinned, 7 * block, 1), GM_OK) << gm_last_error();
  ASSERT_EQ(gm_prefetch(idle, block, 1, nullptr), GM_OK);
  ASSERT_EQ(gm_stats_reset(), GM_OK);
  EXPECT_EQ(gm_prefetch(wanted, 2 * block, 1, nullptr), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(resident(idle, block, 1), block);
  EXPECT_EQ(stats().node[1].evictions + stats().node[1].pages_in, 0U);
}

}  // namespace
}  // namespace gm::test
