// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <limits>
#include <set>
#include <thread>
#include <vector>

#include "unit/memory_in_core.h"
#include "unit/running_gmem.h"
#include "unit/seeded.h"

namespace gm::test {
namespace {

constexpr std::size_t huge = std::numeric_limits<std::size_t>::max();

class allocation : public every_flavour {
 protected:
  // What the arena really takes, asked of the kernel.
  static std::uint64_t memory_bytes() {
    const arena& memory = running()->vm.memory;
    return os_pages_in_core(memory, {0, gib}) * 4096;
  }
};
INSTANTIATE_TEST_SUITE_P(flavours, allocation, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(allocation, sizes_and_alignments) {
  std::set<byte*> seen;
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, page - 1, page, page + 1, block - 1, block, 5 * block}) {
    byte* p = make(bytes);
    ASSERT_NE(p, nullptr);
    EXPECT_TRUE(seen.insert(p).second) << "of its own, also of 0 bytes";
    EXPECT_GE(gm_usable_size(p), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % (bytes >= block ? block : 16), 0U);
    std::memset(p, 1, gm_usable_size(p));
  }
}

TEST_P(allocation, usable_size_is_of_starts_only) {
  byte* p = make(3 * page);
  EXPECT_EQ(gm_usable_size(p), 3 * page);
  EXPECT_EQ(gm_usable_size(p + 1), 0U);
  EXPECT_EQ(gm_usable_size(p + page), 0U);
  EXPECT_EQ(gm_usable_size(nullptr), 0U);
  int local = 0;
  EXPECT_EQ(gm_usable_size(&local), 0U);
  free(p);
  EXPECT_EQ(gm_usable_size(p), 0U);
}

TEST_P(allocation, aligned_to_any_power_of_two_up_to_1_gib) {
  for (std::size_t alignment = 1; alignment <= gib; alignment *= 2) {
    for (const std::size_t bytes : {std::size_t{1}, page + 1, block}) {
      void* p = gm_aligned_alloc(alignment, bytes);
      ASSERT_NE(p, nullptr) << alignment << ": " << gm_last_error();
      remember(p);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % alignment, 0U) << bytes << " bytes aligned to " << alignment;
      EXPECT_GE(gm_usable_size(p), bytes);
      touch_write(p, 1);
      free(p);
    }
  }
}

TEST_P(allocation, aligned_to_nonsense_is_refused) {
  for (const std::size_t alignment : {std::size_t{0}, std::size_t{3}, std::size_t{48}, huge, page + 1}) {
    errno = 0;
    EXPECT_EQ(gm_aligned_alloc(alignment, 1), nullptr);
    EXPECT_EQ(errno, EINVAL);
    expect_error("not a power of two");
  }
  errno = 0;
  EXPECT_EQ(gm_aligned_alloc(std::size_t{1} << 63, 1), nullptr);
  EXPECT_EQ(errno, ENOMEM);
}

TEST_P(allocation, more_than_there_is_is_null_with_enomem) {
  byte* p = make_written(page);
  for (const std::size_t bytes : {huge, huge - page, std::size_t{1} << 63, 4 * gib, 4 * gib + 1}) {
    errno = 0;
    EXPECT_EQ(gm_malloc(bytes), nullptr) << bytes;
    EXPECT_EQ(errno, ENOMEM);
    expect_error("GM_ARENA_SIZE");
    EXPECT_EQ(gm_aligned_alloc(64, bytes), nullptr);
    EXPECT_EQ(gm_calloc(1, bytes), nullptr);
    EXPECT_EQ(gm_realloc(p, bytes), nullptr) << "and the old memory stands";
  }
  for (const auto& [count, bytes] : {std::pair{huge, std::size_t{2}}, {std::size_t{1} << 33, std::size_t{1} << 33}}) {
    errno = 0;
    EXPECT_EQ(gm_calloc(count, bytes), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    expect_error("overflow");
  }
  EXPECT_TRUE(all_are(p, page, 1));
  EXPECT_EQ(stats().allocations, 1U);
}

TEST_P(allocation, a_full_arena_refuses_and_serves_again_when_something_is_freed) {
  std::vector<byte*> all;
  for (;;) {
    void* p = gm_malloc(256 * mib);
    if (p == nullptr) break;
    remember(p);
    all.push_back(static_cast<byte*>(p));
    touch_write(all.back(), static_cast<byte>(all.size()));
  }
  EXPECT_EQ(all.size(), 15U) << "of 4 GiB, whose last block is never handed out";
  EXPECT_EQ(errno, ENOMEM);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(*all[i], i + 1) << "all is intact";
  byte* freed = all[7];
  free(freed);
  settle();
  byte* again = make(256 * mib);
  EXPECT_EQ(again, freed);
  EXPECT_EQ(*again, 0);
}

TEST_P(allocation, zeroed_memory_is_zero_also_where_it_was_dirty) {
  gm_stream s = stream();
  for (const std::size_t bytes : {3 * page, 2 * block}) {
    for (int round = 0; round < 2; ++round) {
      byte* dirty = make_written(bytes, 9);
      device_writes(s, dirty, bytes, 77);
      if (round == 1) touch_read(dirty);
      free(dirty);
      settle();
      void* p = gm_calloc(bytes / 8, 8);
      remember(p);
      ASSERT_EQ(p, dirty) << "for this test: the same addresses";
      EXPECT_TRUE(all_are(device_reads(s, p, bytes), 0)) << "by the device, which had the old bytes";
      EXPECT_TRUE(all_are(static_cast<byte*>(p), bytes, 0));
      free(p);
    }
  }
}

TEST_P(allocation, freed_memory_is_given_back_to_the_system_and_the_devices) {
  byte* p = make_written(3 * block);
  byte* keep = make_written(2 * page);
  gm_stream s = stream();
  (void)device_reads(s, p, 3 * block);
  EXPECT_EQ(memory_bytes(), 3 * block + 2 * page);
  EXPECT_EQ(stats().node[1].frames_used, 3U);
  free(p);
  settle();
  EXPECT_EQ(memory_bytes(), 2 * page);
  EXPECT_EQ(stats().node[0].frames_used, 2U);
  EXPECT_EQ(stats().node[1].frames_used, 0U);
  EXPECT_TRUE(all_are(keep, page, 1));
}

TEST_P(allocation, memory_that_nobody_touched_takes_none) {
  byte* p = make(512 * mib);
  EXPECT_EQ(memory_bytes(), 0U);
  touch_write(p + 100 * mib, 1);
  EXPECT_EQ(memory_bytes(), page);
  touch_read(p + 200 * mib);
  EXPECT_EQ(memory_bytes(), 2 * page);
}

TEST_P(allocation, realloc_keeps_the_contents_wherever_they_are) {
  gm_stream s = stream();
  for (const auto& [from, to] : {std::pair{page, 3 * block},
                                 {3 * block, 10 * block},
                                 {block + page, 2 * page},
                                 {5 * page, 100ul},
                                 {2 * block, 2 * block + 1}}) {
    byte* p = make_written(from);
    if (from > page) device_writes(s, p + page, page, 200);
    forget(p);
    auto* q = static_cast<byte*>(gm_realloc(p, to));
    ASSERT_NE(q, nullptr) << gm_last_error();
    remember(q);
    EXPECT_GE(gm_usable_size(q), to);
    for (std::size_t i = 0; i < std::min<std::size_t>(from, to); i += 777)
      ASSERT_EQ(q[i], i / page == 1 ? 200 : static_cast<byte>(1 + i / page)) << i << " of " << from << " to " << to;
    EXPECT_EQ(stats().allocations, 1U);
    free(q);
  }
}

TEST_P(allocation, realloc_leaves_holes_as_holes) {
  byte* p = make(32 * mib);
  touch_write(p + 5 * mib, 7);
  forget(p);
  auto* q = static_cast<byte*>(gm_realloc(p, 64 * mib));
  ASSERT_NE(q, nullptr);
  remember(q);
  EXPECT_EQ(q[5 * mib], 7);
  settle();
  EXPECT_EQ(memory_bytes(), page);
}

TEST_P(allocation, realloc_of_nothing_and_to_nothing) {
  auto* p = static_cast<byte*>(gm_realloc(nullptr, page));
  ASSERT_NE(p, nullptr);
  touch_write(p, 1);
  EXPECT_EQ(stats().allocations, 1U);
  EXPECT_EQ(gm_realloc(p, 0), nullptr);
  EXPECT_EQ(stats().allocations, 0U) << "freed";
}

TEST_P(allocation, realloc_that_fits_stays_where_it_is) {
  byte* p = make_written(2 * page);
  EXPECT_EQ(gm_realloc(p, 2 * page), p);
  EXPECT_EQ(gm_realloc(p, page + 1), p);
  EXPECT_TRUE(all_are(p, page, 1));
  EXPECT_TRUE(all_are(p + page, page, 2));
}

TEST_P(allocation, realloc_under_an_open_scope_is_busy_and_the_old_memory_stands) {
  byte* p = make_written(page);
  gm_stream s = stream();
  for (const gm_mode mode : {GM_READ, GM_READ_WRITE}) {
    gm_scope scope = begin(s, p, page, mode);
    EXPECT_EQ(gm_realloc(p, block), nullptr);
    expect_error("scope");
    end(scope);
    finish(s);
    EXPECT_TRUE(all_are(p, page, 1));
  }
  EXPECT_EQ(stats().allocations, 1U);
}

TEST_P(allocation, realloc_behind_a_queued_kernel_has_its_results) {
  byte* p = make_written(page);
  gm_stream s = stream();
  std::atomic<bool> go{false};
  ASSERT_EQ(gm_stream_call(
                s, [](void* g) { static_cast<std::atomic<bool>*>(g)->wait(false); }, &go),
            GM_OK);
  gm_scope scope = begin(s, p, page, GM_READ_WRITE);
  kernel_set(s, p, page, 123);
  end(scope);
  std::thread opener([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    go = true;
    go.notify_all();
  });
  forget(p);
  auto* q = static_cast<byte*>(gm_realloc(p, block));
  opener.join();
  ASSERT_NE(q, nullptr) << gm_last_error();
  remember(q);
  EXPECT_TRUE(all_are(q, page, 123));
}

TEST_P(allocation, without_memory_to_record_it_there_is_none_and_nothing_is_lost) {
  for (const auto where : {inject::point::record_memory, inject::point::table_memory}) {
    inject::fail_nth(where, 1);
    errno = 0;
    EXPECT_EQ(gm_malloc(block), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    inject::fail_nth(where, 0);
    EXPECT_EQ(stats().allocations, 0U);
    EXPECT_EQ(stats().allocated_bytes, 0U);
    free(make(4 * gib - block));  // all the addresses are still there
    if (where == inject::point::record_memory) {
      // The table exists from here on: another start, to see it fail as well.
      settle();
      ASSERT_EQ(gm_shutdown(), GM_OK);
      start(small_options(GetParam()));
    }
  }
}

TEST_P(allocation, threads_get_memory_of_their_own) {
  std::vector<std::thread> running_threads;
  for (unsigned t = 1; t <= 4; ++t)
    running_threads.emplace_back([t] {
      rng random(seed() + t);
      std::vector<std::pair<byte*, std::size_t>> mine;
      for (int step = 0; step < scaled(300); ++step) {
        if (mine.size() < 6 && below(random, 2) == 0) {
          const std::size_t bytes = 1 + below(random, 3 * page);
          auto* p = static_cast<byte*>(gm_malloc(bytes));
          ASSERT_NE(p, nullptr) << gm_last_error();
          std::memset(p, static_cast<int>(t), bytes);
          mine.emplace_back(p, bytes);
        } else if (!mine.empty()) {
          const auto [p, bytes] = mine.back();
          mine.pop_back();
          EXPECT_TRUE(all_are(p, bytes, static_cast<int>(t))) << "nobody else wrote there";
          gm_free(p);
        }
      }
      for (const auto& m : mine) gm_free(m.first);
    });
  for (std::thread& t : running_threads) t.join();
  settle();
  EXPECT_EQ(memory_bytes(), 0U);
}

// ---- What must not be freed: a message and abort, in the manner of glibc --------------------------------------------

class free_death_test : public running_gmem {
 protected:
  void SetUp() override { start(small_options()); }
};

TEST_F(free_death_test, twice) {
  byte* p = make(page);
  make(page);  // so that the block stays in use
  EXPECT_EXIT(
      {
        gm_free(p);
        gm_free(p);
      },
      testing::KilledBySignal(SIGABRT),
      "^gmem: gm_free\\(0x[0-9a-f]+\\): not the start of a live allocation \\(freed twice");
}

TEST_F(free_death_test, foreign_memory) {
  static int ours = 0;
  EXPECT_EXIT(gm_free(&ours), testing::KilledBySignal(SIGABRT), "gmem: gm_free.*from another allocator");
  EXPECT_EXIT(gm_free(running()->vm.memory.user(3 * gib)), testing::KilledBySignal(SIGABRT), "gmem: gm_free");
}

TEST_F(free_death_test, inside_an_allocation) {
  byte* p = make(2 * block);
  for (const std::size_t inside : {std::size_t{1}, std::size_t{16}, page, block})
    EXPECT_EXIT(gm_free(p + inside), testing::KilledBySignal(SIGABRT), "gmem: gm_free.*inside one");
}

TEST_F(free_death_test, by_realloc) {
  byte* p = make(2 * page);
  EXPECT_EXIT((void)gm_realloc(p + page, 1), testing::KilledBySignal(SIGABRT), "gmem: gm_realloc.*live allocation");
  EXPECT_EXIT((void)gm_realloc(p + page, 0), testing::KilledBySignal(SIGABRT), "gmem: gm_realloc.*live allocation");
}

TEST_F(free_death_test, after_shutdown) {
  byte* p = make(page);
  free(p);
  ASSERT_EQ(gm_shutdown(), GM_OK);
  EXPECT_EXIT(gm_free(p), testing::KilledBySignal(SIGABRT), "gmem: gm_free.*does not run");
  EXPECT_EQ(gm_realloc(p, 1), nullptr);
  expect_error("shut down");
}

}  // namespace
}  // namespace gm::test
