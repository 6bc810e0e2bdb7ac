// SPDX-License-Identifier: Apache-2.0
// Data that is hot stays beside data that streams by: the runtime's order of eviction against the best fixed placement
// and against plain orders, which do not pass the same checks.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "replay/frame_cache.h"
#include "unit/seeded.h"

namespace gm::test {
namespace {

constexpr std::uint64_t blocks = 500;
constexpr std::uint64_t hot = blocks / 5;  // the first ones
constexpr std::size_t frames = 120;

struct access {
  std::uint64_t block;
  bool streamed;  // what read-ahead would say of it
};
using accesses = std::vector<access>;

double hit_rate(frame_cache& cache, const accesses& all) {
  std::uint64_t hits = 0;
  evicted_blocks evicted(cache.capacity());
  for (const access& a : all) {
    if (cache.holds(a.block))
      ++hits;
    else if (const auto victim = cache.bring(a.block, evicted.comes_back(a.block) || a.streamed); victim.has_value())
      evicted.add(*victim);
    cache.use(a.block);
  }
  return static_cast<double>(hits) / static_cast<double>(all.size());
}

// The most used blocks stay for ever.
double best_fixed(const accesses& all) {
  std::vector<std::uint64_t> uses(blocks);
  for (const access& a : all) ++uses[a.block];
  std::sort(uses.begin(), uses.end(), std::greater<>());
  std::uint64_t hits = 0;
  for (std::size_t i = 0; i < frames; ++i) hits += uses[i];
  return static_cast<double>(hits) / static_cast<double>(all.size());
}

class hot_sets : public testing::Test {
 protected:
  hot_sets() : random(seed()) {}

  std::uint64_t next_of_scan() { return hot + scanned++ % (blocks - hot); }
  // Half of the accesses go to the hot set, half on with a scan over the rest.
  accesses mixed(int count, bool streamed) {
    accesses all;
    for (int i = 0; i < count; ++i)
      if (below(random, 2) == 0)
        all.push_back({below(random, hot), false});
      else
        all.push_back({next_of_scan(), streamed});
    return all;
  }
  // By turns: the hot set for a while, then all of the rest once.
  accesses bursts(int rounds, bool streamed) {
    accesses all;
    for (int round = 0; round < rounds; ++round) {
      for (std::uint64_t i = 0; i < 4 * hot; ++i) all.push_back({below(random, hot), false});
      for (std::uint64_t i = 0; i < blocks - hot; ++i) all.push_back({next_of_scan(), streamed});
    }
    return all;
  }
  void expect_near_the_best(const accesses& all) {
    judged_frames ours(frames);
    plain_frames least_recent(frames, true);
    plain_frames first_in(frames, false);
    const double best = best_fixed(all);
    EXPECT_GE(hit_rate(ours, all), 0.8 * best);
    EXPECT_LT(hit_rate(least_recent, all), 0.8 * best) << "or the check says nothing";
    EXPECT_LT(hit_rate(first_in, all), 0.8 * best) << "or the check says nothing";
    EXPECT_LT(ours.looks(), 4 * all.size()) << "and few looks do";
  }

  rng random;
  std::uint64_t scanned = 0;
};

TEST_F(hot_sets, stay_beside_a_scan) { expect_near_the_best(mixed(30000, true)); }
TEST_F(hot_sets, stay_beside_a_scan_that_nobody_has_noticed) { expect_near_the_best(mixed(30000, false)); }
TEST_F(hot_sets, outlast_scans_in_bursts) { expect_near_the_best(bursts(60, true)); }
TEST_F(hot_sets, outlast_scans_in_bursts_that_nobody_has_noticed) { expect_near_the_best(bursts(60, false)); }

TEST_F(hot_sets, may_change) {
  judged_frames ours(frames);
  (void)hit_rate(ours, mixed(20000, true));
  accesses moved = mixed(20000, true);
  for (access& a : moved) a.block = a.block < hot ? a.block + 200 : (a.block < 2 * hot + 100 ? a.block - 100 : a.block);
  (void)hit_rate(ours, accesses(moved.begin(), moved.begin() + 4000));
  EXPECT_GE(hit_rate(ours, accesses(moved.begin() + 4000, moved.end())), 0.8 * best_fixed(moved));
}

TEST_F(hot_sets, of_what_was_once_streamed_stay_as_well) {
  accesses all;
  for (std::uint64_t block = 0; block < blocks; ++block) all.push_back({block, true});
  judged_frames ours(frames);
  (void)hit_rate(ours, all);
  const accesses after = mixed(30000, true);
  EXPECT_GE(hit_rate(ours, after), 0.8 * best_fixed(after));
}

// Repeated passes over a little more than there is room for: no cliff.
TEST(loops, lose_little_more_than_what_does_not_fit) {
  for (const std::uint64_t length : {130U, 160U, 240U}) {
    accesses all;
    std::vector<std::uint64_t> order;
    for (std::uint64_t i = 0; i < 40 * length; ++i) {
      all.push_back({i % length, true});
      order.push_back(i % length);
    }
    judged_frames ours(frames);
    plain_frames least_recent(frames, true);
    const double best = 1 - static_cast<double>(fewest_misses(order, frames)) / static_cast<double>(order.size());
    EXPECT_GE(hit_rate(ours, all), 0.8 * best) << length;
    EXPECT_EQ(hit_rate(least_recent, all), 0.0) << "or the check says nothing";
  }
}

TEST(fewest_misses, is_what_knowing_the_future_gives) {
  EXPECT_EQ(fewest_misses({}, 2), 0U);
  EXPECT_EQ(fewest_misses({1, 1, 1}, 1), 1U);
  EXPECT_EQ(fewest_misses({1, 2, 3, 1, 2, 3}, 3), 3U);
  EXPECT_EQ(fewest_misses({1, 2, 3, 1, 2, 3}, 2), 4U);
  EXPECT_EQ(fewest_misses({1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5}, 3), 7U);
}

}  // namespace
}  // namespace gm::test
