// SPDX-License-Identifier: Apache-2.0
#include "vm/extent_map.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "base/inject.h"
#include "unit/seeded.h"

namespace gm {
namespace {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t arena_blocks = 33;  // of which the last is never handed out
constexpr std::uint64_t arena_bytes = arena_blocks * block_bytes;
constexpr std::uintptr_t base = 5 * block_bytes;  // aligned to a block and to no more

class extents : public testing::Test {
 protected:
  void SetUp() override { map.create(arena_bytes, base); }
  void TearDown() override { inject::fail_nth(inject::point::record_memory, 0); }

  extent* allocate(std::uint64_t bytes, std::uint64_t alignment = 16) {
    extent* e = map.allocate(bytes, alignment);
    if (e != nullptr) EXPECT_FALSE(map.drop_reference(*e)) << "it is live";
    return e;
  }
  void free(extent* e) {
    ASSERT_EQ(map.retire(e->bytes().begin), e);
    ASSERT_TRUE(map.drop_reference(*e));
    map.release(*e);
  }
  extent_map map;
};

TEST_F(extents, sizes_are_whole_pages_and_from_2_mib_whole_blocks) {
  struct {
    std::uint64_t asked, got;
  } const cases[] = {{0, page_bytes},
                     {1, page_bytes},
                     {page_bytes, page_bytes},
                     {page_bytes + 1, 2 * page_bytes},
                     {31 * page_bytes, 31 * page_bytes},
                     {31 * page_bytes + 1, block_bytes},
                     {block_bytes, block_bytes},
                     {block_bytes + 1, 2 * block_bytes}};
  for (const auto& c : cases) {
    const extent* e = allocate(c.asked);
    ASSERT_NE(e, nullptr);
    EXPECT_EQ(e->bytes().bytes(), c.got) << c.asked;
    if (c.got >= block_bytes) EXPECT_EQ(e->bytes().begin % block_bytes, 0U);
  }
}

TEST_F(extents, small_ones_share_a_block_and_never_straddle_two) {
  const extent* a = allocate(20 * page_bytes);
  const extent* b = allocate(12 * page_bytes);
  const extent* c = allocate(page_bytes);
  ASSERT_TRUE(a != nullptr && b != nullptr && c != nullptr);
  EXPECT_EQ(a->first_block(), b->first_block());
  EXPECT_FALSE(a->bytes().overlaps(b->bytes()));
  EXPECT_NE(c->first_block(), a->first_block()) << "that one is full";
}

TEST_F(extents, a_hole_in_a_shared_block_is_used_before_a_new_block) {
  extent* a = allocate(10 * page_bytes);
  allocate(22 * page_bytes);
  const page_index hole = a->first;
  free(a);
  EXPECT_EQ(allocate(10 * page_bytes)->first, hole);
}

TEST_F(extents, a_shared_block_without_extents_is_a_free_block_again) {
  std::vector<extent*> all;
  for (std::uint64_t i = 0; i < arena_blocks - 1; ++i) all.push_back(allocate(20 * page_bytes));
  EXPECT_EQ(allocate(block_bytes), nullptr);
  const block_index freed = all[7]->first_block();
  free(all[7]);
  const extent* whole = allocate(block_bytes);
  ASSERT_NE(whole, nullptr);
  EXPECT_EQ(whole->first_block(), freed);
}

TEST_F(extents, the_last_block_is_never_handed_out) {
  EXPECT_EQ(allocate(arena_bytes), nullptr);
  const extent* all = allocate(arena_bytes - block_bytes);
  ASSERT_NE(all, nullptr);
  EXPECT_EQ(all->bytes().end, arena_bytes - block_bytes);
  EXPECT_EQ(allocate(1), nullptr);
}

TEST_F(extents, freed_neighbours_coalesce_in_any_order) {
  for (const auto& order :
       std::vector<std::vector<std::size_t>>{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {0, 2, 3, 1}}) {
    std::vector<extent*> quarters;
    for (int i = 0; i < 4; ++i) quarters.push_back(allocate(8 * block_bytes));
    ASSERT_NE(quarters[3], nullptr);
    for (const std::size_t i : order) free(quarters[i]);
    extent* whole = allocate(32 * block_bytes);
    ASSERT_NE(whole, nullptr) << "one run again";
    free(whole);
  }
}

TEST_F(extents, best_fit_leaves_the_large_run_whole) {
  extent* small = allocate(2 * block_bytes);
  allocate(block_bytes);
  free(small);
  EXPECT_EQ(allocate(2 * block_bytes)->first_block(), block_index{0});
}

TEST_F(extents, alignment_is_of_addresses_not_of_offsets) {
  for (const std::uint64_t alignment : {64 * kib, 256 * kib, 2 * mib, 4 * mib, 16 * mib}) {
    for (const std::uint64_t bytes : {1 * kib, 64 * kib, 3 * mib}) {
      extent* e = allocate(bytes, alignment);
      ASSERT_NE(e, nullptr) << alignment;
      EXPECT_EQ((base + e->bytes().begin) % alignment, 0U) << bytes << " bytes aligned to " << alignment;
      free(e);
    }
  }
  EXPECT_EQ(allocate(1, std::uint64_t{1} << 63), nullptr) << "no such address";
}

TEST_F(extents, live_is_counted) {
  extent* a = allocate(page_bytes);
  extent* b = allocate(3 * mib);
  EXPECT_EQ(map.live(), 2U);
  EXPECT_EQ(map.live_bytes(), page_bytes + 4 * mib);
  ASSERT_EQ(map.retire(b->bytes().begin), b);
  EXPECT_EQ(map.live(), 1U) << "a retired one is not the program's any more";
  EXPECT_EQ(map.live_bytes(), page_bytes);
  ASSERT_TRUE(map.drop_reference(*b));
  map.release(*b);
  free(a);
  EXPECT_EQ(map.live_bytes(), 0U);
}

TEST_F(extents, metadata_grows_and_shrinks_with_them) {
  const std::uint64_t empty = map.metadata_bytes();
  extent* a = allocate(page_bytes);
  EXPECT_GT(map.metadata_bytes(), empty);
  free(a);
  EXPECT_EQ(map.metadata_bytes(), empty);
}

TEST_F(extents, only_the_start_of_a_live_one_can_be_retired) {
  extent* e = allocate(3 * page_bytes);
  const std::uint64_t begin = e->bytes().begin;
  EXPECT_EQ(map.retire(begin + 1), nullptr);
  EXPECT_EQ(map.retire(begin + page_bytes), nullptr);
  EXPECT_EQ(map.retire(begin + 3 * page_bytes), nullptr);
  EXPECT_EQ(map.reference_start(begin + page_bytes), nullptr);
  ASSERT_EQ(map.reference_start(begin), e);
  EXPECT_FALSE(map.drop_reference(*e));
  ASSERT_EQ(map.retire(begin), e);
  EXPECT_EQ(map.retire(begin), nullptr) << "freed twice";
  EXPECT_EQ(map.reference_start(begin), nullptr);
  ASSERT_TRUE(map.drop_reference(*e));
  map.release(*e);
  EXPECT_EQ(map.retire(begin), nullptr);
}

TEST_F(extents, a_reference_needs_the_whole_range_in_one_live_extent) {
  extent* a = allocate(2 * page_bytes);
  extent* b = allocate(2 * page_bytes);
  const byte_range range = a->bytes();
  ASSERT_EQ(b->bytes().begin, range.end) << "neighbours, for what follows";
  const auto held = [&](std::uint64_t begin, std::uint64_t end) {
    extent* e = map.reference({begin, end});
    if (e != nullptr) EXPECT_FALSE(map.drop_reference(*e));
    return e;
  };
  EXPECT_EQ(held(range.begin, range.end), a);
  EXPECT_EQ(held(range.begin + 1, range.begin + 2), a);
  EXPECT_EQ(held(range.end - 1, range.end), a);
  EXPECT_EQ(held(range.end - 1, range.end + 1), nullptr) << "over the edge into the neighbour";
  EXPECT_EQ(held(range.end, range.end + 1), b);
  EXPECT_EQ(held(b->bytes().end, b->bytes().end + 1), nullptr);
  const std::uint64_t begin = range.begin;
  free(a);
  EXPECT_EQ(held(begin, begin + 1), nullptr);
}

TEST_F(extents, addresses_wait_for_the_last_reference) {
  extent* e = allocate(block_bytes);
  const block_index index = e->first_block();
  ASSERT_EQ(map.reference(e->bytes()), e);
  ASSERT_EQ(map.retire(e->bytes().begin), e);
  EXPECT_FALSE(map.drop_reference(*e)) << "the operation still uses it";
  for (std::uint64_t i = 0; i < arena_blocks - 2; ++i) {
    const extent* other = allocate(block_bytes);
    ASSERT_NE(other, nullptr);
    EXPECT_NE(other->first_block(), index);
  }
  EXPECT_EQ(allocate(block_bytes), nullptr);
  ASSERT_TRUE(map.drop_reference(*e)) << "that was the last, and its holder reclaims";
  EXPECT_EQ(allocate(block_bytes), nullptr) << "not before it is released";
  map.release(*e);
  EXPECT_EQ(allocate(block_bytes)->first_block(), index);
}

TEST_F(extents, grow_takes_what_is_free_behind) {
  extent* e = allocate(2 * block_bytes);
  EXPECT_TRUE(map.grow(*e, 3 * pages_per_block));
  EXPECT_EQ(e->blocks(), 3U);
  EXPECT_TRUE(map.grow(*e, pages_per_block)) << "it is that long already";
  EXPECT_EQ(e->blocks(), 3U);
  EXPECT_EQ(map.live_bytes(), 3 * block_bytes);
  const extent* behind = allocate(block_bytes);
  ASSERT_EQ(behind->first_block().value, 3U);
  EXPECT_FALSE(map.grow(*e, 4 * pages_per_block));
  EXPECT_EQ(e->blocks(), 3U);
}

TEST_F(extents, grow_stops_at_the_end_of_the_arena) {
  extent* e = allocate(block_bytes);
  EXPECT_FALSE(map.grow(*e, arena_blocks * pages_per_block));
  EXPECT_TRUE(map.grow(*e, (arena_blocks - 1) * pages_per_block));
  EXPECT_EQ(allocate(1), nullptr);
  free(e);
  EXPECT_NE(allocate((arena_blocks - 1) * block_bytes), nullptr) << "all of it came back";
}

TEST_F(extents, small_and_retired_ones_do_not_grow) {
  extent* small = allocate(page_bytes);
  EXPECT_FALSE(map.grow(*small, 40));
  extent* e = allocate(block_bytes);
  ASSERT_EQ(map.retire(e->bytes().begin), e);
  EXPECT_FALSE(map.grow(*e, 2 * pages_per_block));
  ASSERT_TRUE(map.drop_reference(*e));
  map.release(*e);
}

TEST_F(extents, without_memory_to_record_it_there_is_none) {
  inject::fail_nth(inject::point::record_memory, 1);
  EXPECT_EQ(map.allocate(1, 16), nullptr);
  EXPECT_EQ(map.live(), 0U);
  EXPECT_NE(allocate((arena_blocks - 1) * block_bytes), nullptr);
}

TEST(extent_map_death_test, releasing_what_is_in_use_dies) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  extent_map map;
  map.create(arena_bytes, base);
  extent* e = map.allocate(1, 16);
  EXPECT_DEATH(map.release(*e), "check failed");
  EXPECT_FALSE(map.drop_reference(*e));
  EXPECT_DEATH((void)map.drop_reference(*e), "check failed");
}

// Who owns each page, and the exact question whether there is room.
class plain_arena {
 public:
  bool has_blocks(std::uint64_t count, std::uint64_t alignment) const {
    for (std::uint64_t first = 0; first + count < arena_blocks; ++first) {
      if ((base + first * block_bytes) % std::max<std::uint64_t>(alignment, block_bytes) != 0) continue;
      bool free = true;
      for (std::uint64_t b = first; b < first + count && free; ++b) free = empty(b);
      if (free) return true;
    }
    return false;
  }
  bool has_pages(std::uint64_t count, std::uint64_t alignment) const {
    for (std::uint64_t b = 0; b < arena_blocks - 1; ++b) {
      if (whole_[b]) continue;
      for (std::uint64_t p = 0; p + count <= pages_per_block; ++p) {
        if (p * page_bytes % alignment != 0 && alignment > page_bytes) continue;
        bool free = true;
        for (std::uint64_t i = p; i < p + count && free; ++i) free = !taken_[b * pages_per_block + i];
        if (free) return true;
      }
    }
    return false;
  }
  void take(const extent& e) {
    for (std::uint64_t p = e.first.value; p < e.first.value + e.pages; ++p) {
      ASSERT_LT(p, (arena_blocks - 1) * pages_per_block);
      ASSERT_FALSE(taken_[p]) << "page " << p << " was handed out twice";
      taken_[p] = true;
    }
    if (e.whole_blocks())
      for (std::uint64_t i = 0; i < e.blocks(); ++i) whole_[e.first_block().value + i] = true;
  }
  void give_back(page_index first, std::uint64_t pages) {
    for (std::uint64_t p = first.value; p < first.value + pages; ++p) taken_[p] = false;
    if (pages >= pages_per_block)
      for (std::uint64_t b = 0; b < pages / pages_per_block; ++b) whole_[block_of(first).value + b] = false;
  }

 private:
  bool empty(std::uint64_t block) const {
    for (std::uint64_t p = 0; p < pages_per_block; ++p)
      if (taken_[block * pages_per_block + p]) return false;
    return true;
  }
  std::vector<bool> taken_ = std::vector<bool>(arena_blocks * pages_per_block);
  std::vector<bool> whole_ = std::vector<bool>(arena_blocks);
};

TEST(extent_map, against_a_plain_array_of_pages) {
  test::rng random(test::seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << test::seed());
  for (int round = 0; round < test::scaled(10); ++round) {
    extent_map map;
    map.create(arena_bytes, base);
    plain_arena oracle;
    struct held {
      extent* e;
      int references;
      bool retired;
    };
    std::vector<held> all;
    for (int step = 0; step < 600; ++step) {
      const std::uint64_t which = all.empty() ? 0 : test::below(random, all.size());
      switch (test::below(random, 5)) {
        case 0:
        case 1: {
          const bool large = test::below(random, 3) == 0;
          const std::uint64_t bytes = 1 + test::below(random, large ? 6 * block_bytes : 40 * page_bytes);
          const std::uint64_t alignment = std::uint64_t{16} << test::below(random, 20);  // to 8 MiB
          const std::uint64_t page_count = (bytes + page_bytes - 1) / page_bytes;
          const bool shared = page_count < pages_per_block && alignment <= block_bytes;
          const std::uint64_t blocks = (page_count + pages_per_block - 1) / pages_per_block;
          const bool room = shared ? oracle.has_pages(page_count, alignment) : oracle.has_blocks(blocks, alignment);
          extent* e = map.allocate(bytes, alignment);
          ASSERT_EQ(e != nullptr, room) << bytes << " bytes aligned to " << alignment << ", step " << step;
          if (e == nullptr) break;
          ASSERT_GE(e->bytes().bytes(), bytes);
          ASSERT_EQ((base + e->bytes().begin) % alignment, 0U);
          ASSERT_NO_FATAL_FAILURE(oracle.take(*e));
          all.push_back({e, 1, false});
          break;
        }
        case 2:
          if (all.empty()) break;
          ASSERT_EQ(map.retire(all[which].e->bytes().begin) != nullptr, !all[which].retired);
          if (!all[which].retired) ++all[which].references;
          all[which].retired = true;
          break;
        case 3: {
          if (all.empty()) break;
          const byte_range range = all[which].e->bytes();
          ASSERT_EQ(map.reference({range.begin + 1, range.end}) != nullptr, !all[which].retired);
          if (!all[which].retired) ++all[which].references;
          break;
        }
        case 4: {
          if (all.empty() || all[which].references == 0) break;
          --all[which].references;
          const bool last = all[which].references == 0 && all[which].retired;
          ASSERT_EQ(map.drop_reference(*all[which].e), last);
          if (!last) break;
          oracle.give_back(all[which].e->first, all[which].e->pages);
          map.release(*all[which].e);
          all.erase(all.begin() + static_cast<long>(which));
          break;
        }
      }
    }
    std::uint64_t live = 0;
    for (const held& h : all) live += h.retired ? 0 : 1;
    EXPECT_EQ(map.live(), live);
  }
}

TEST(extent_map, threads_never_get_the_same_pages) {
  extent_map map;
  map.create(arena_bytes, base);
  const auto owners = std::make_unique<std::atomic<int>[]>(arena_blocks * pages_per_block);
  std::vector<std::thread> running;
  for (int t = 1; t <= 4; ++t)
    running.emplace_back([&, t] {
      test::rng random(test::seed() + static_cast<unsigned>(t));
      std::vector<extent*> mine;
      for (int step = 0; step < test::scaled(3000); ++step) {
        if (mine.size() < 8 && test::below(random, 2) == 0) {
          extent* e = map.allocate(1 + test::below(random, 3 * block_bytes), 16);
          if (e == nullptr) continue;
          for (std::uint64_t p = 0; p < e->pages; ++p) EXPECT_EQ(owners[e->first.value + p].exchange(t), 0);
          mine.push_back(e);
        } else if (!mine.empty()) {
          extent* e = mine.back();
          mine.pop_back();
          for (std::uint64_t p = 0; p < e->pages; ++p) EXPECT_EQ(owners[e->first.value + p].exchange(0), t);
          EXPECT_EQ(map.retire(e->bytes().begin), e);
          EXPECT_FALSE(map.drop_reference(*e)) << "allocate's own is left";
          if (map.drop_reference(*e)) map.release(*e);
        }
      }
      for (extent* e : mine) {
        for (std::uint64_t p = 0; p < e->pages; ++p) owners[e->first.value + p] = 0;
        EXPECT_EQ(map.retire(e->bytes().begin), e);
        EXPECT_FALSE(map.drop_reference(*e));
        if (map.drop_reference(*e)) map.release(*e);
      }
    });
  for (std::thread& t : running) t.join();
  EXPECT_EQ(map.live(), 0U);
  EXPECT_NE(map.allocate((arena_blocks - 1) * block_bytes, 16), nullptr) << "nothing is lost";
}

}  // namespace
}  // namespace gm
