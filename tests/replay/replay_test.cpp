// SPDX-License-Identifier: Apache-2.0
// Recorded traces through policies: against a page a fault with the first in as the first out, and against the fewest
// frames that could have been given by whoever knows the future.
#include "replay/replayer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "policy/policy_table.h"

namespace gm::test {
namespace {

trace trace_of(const std::string& name) {
  trace t;
  std::string why;
  EXPECT_TRUE(read_trace(contents_of(path_of_recording(name)), t, why)) << why;
  EXPECT_FALSE(t.touches.empty()) << name;
  return t;
}

std::size_t blocks_of(const trace& t) {
  std::set<std::uint64_t> blocks;
  for (const trace_touch& touch : t.touches) blocks.insert(block_of(page_index{touch.page}).value);
  return blocks.size();
}

// What the built-in policy is held to, with frames for half of the blocks.
struct bounds {
  const char* name;
  double faults_most;        // of those of the null policy
  double pages_moved_most;   // of those of the null policy
  double frames_given_most;  // of the fewest
  double wasted_most;        // of the pages that are touched at all, where all fits
};
constexpr bounds all_bounds[] = {{"stream", 0.08, 1.0, 1.6, 0.0},
                                 {"strided", 0.08, 1.0, 1.3, 0.0},
                                 {"gather", 0.33, 0.6, 2.0, 0.5},
                                 {"stencil", 0.1, 1.0, 1.9, 0.0},
                                 {"bfs", 0.2, 1.3, 2.3, 0.0}};

class replays : public testing::TestWithParam<bounds> {
 protected:
  replays() : recorded(trace_of(GetParam().name)), blocks(blocks_of(recorded)) {}
  static double share(std::uint64_t a, std::uint64_t b) { return static_cast<double>(a) / static_cast<double>(b); }

  trace recorded;
  std::size_t blocks;
};
INSTANTIATE_TEST_SUITE_P(traces, replays, testing::ValuesIn(all_bounds),
                         [](const auto& which) { return std::string(which.param.name); });

TEST_P(replays, of_the_null_policy_take_a_fault_a_page) {
  const replay_counts roomy = replay(recorded, null_policy, blocks);
  EXPECT_EQ(roomy.faults, distinct_pages(recorded));
  EXPECT_EQ(roomy.evictions, 0U);
  const replay_counts scarce = replay(recorded, null_policy, blocks / 2);
  EXPECT_GT(scarce.faults, roomy.faults);
  EXPECT_EQ(scarce.faults, scarce.pages_moved);
  EXPECT_EQ(scarce.pages_wasted, 0U);
}

TEST_P(replays, with_room_for_all_evict_nothing_and_bring_little_in_vain) {
  const replay_counts ours = replay(recorded, built_in_policy, blocks);
  SCOPED_TRACE(text_of(ours));
  const std::uint64_t touched = distinct_pages(recorded);
  EXPECT_EQ(ours.evictions, 0U);
  EXPECT_EQ(ours.pages_moved, touched + ours.pages_wasted) << "each page comes once";
  EXPECT_LE(share(ours.pages_wasted, touched), GetParam().wasted_most);
  EXPECT_LT(ours.faults, replay(recorded, null_policy, blocks).faults);
}

TEST_P(replays, with_room_for_half_are_far_from_the_null_policy_and_not_from_the_best) {
  const std::size_t frames = blocks / 2;
  const replay_counts ours = replay(recorded, built_in_policy, frames);
  const replay_counts null = replay(recorded, null_policy, frames);
  SCOPED_TRACE(text_of(ours) + "\n" + text_of(null));
  EXPECT_LE(share(ours.faults, null.faults), GetParam().faults_most);
  EXPECT_LE(share(ours.pages_moved, null.pages_moved), GetParam().pages_moved_most);
  const std::uint64_t fewest = fewest_frames_given(recorded, frames);
  EXPECT_GE(ours.evictions + frames, fewest) << "or fewest_misses() is wrong";
  EXPECT_LE(share(ours.evictions + frames, fewest), GetParam().frames_given_most);
}

TEST_P(replays, obey_a_programs_policy) {
  gm_policy one_page{};
  one_page.size = sizeof one_page;
  one_page.fault_pages = [](void*, const gm_policy_fault* fault, std::uint32_t* pages) { *pages = fault->requested; };
  one_page.device_writes = one_page.fault_pages;
  one_page.read_ahead = [](void*, const gm_policy_touch*, gm_policy_ahead* ahead) { *ahead = {0, 0, 0}; };
  one_page.victim = [](void*, const gm_policy_frame*, std::int32_t* verdict) { *verdict = GM_VERDICT_EVICT; };
  ASSERT_EQ(the_policy().set(&one_page), status::ok);
  const replay_counts theirs = replay(recorded, built_in_policy, blocks / 2);
  ASSERT_EQ(the_policy().set(nullptr), status::ok);
  EXPECT_EQ(text_of(theirs), text_of(replay(recorded, null_policy, blocks / 2)));
}

// What is given to write is written home. The null policy gives what is written, to a fault each; the built-in one
// makes far fewer faults of it and gives hardly more.
TEST_P(replays, write_home_hardly_more_than_the_null_policy) {
  const std::size_t frames = blocks / 2;
  const replay_counts ours = replay(recorded, built_in_policy, frames);
  const replay_counts null = replay(recorded, null_policy, frames);
  SCOPED_TRACE(text_of(ours) + "\n" + text_of(null));
  EXPECT_LE(ours.pages_written, null.pages_written + null.pages_written / 20);
  EXPECT_LE(share(ours.faults + ours.upgrades, null.faults + null.upgrades), GetParam().faults_most);
}

// Three passes over one array that write every page of it, by so many walks that take turns, each through its part,
// with frames for two thirds of it. By the least recently used every pass would bring all.
class loops_by_turns : public testing::TestWithParam<unsigned> {};
INSTANTIATE_TEST_SUITE_P(walks, loops_by_turns, testing::Values(1, 2, 4), testing::PrintToStringParamName());

TEST_P(loops_by_turns, are_seen_as_walks_and_keep_a_part) {
  constexpr unsigned frames = 32, passes = 3, first = pages_per_block;
  constexpr std::uint64_t pages = std::uint64_t{frames} * 3 / 2 * pages_per_block;
  const std::uint64_t part = pages / GetParam();
  trace t;
  t.allocations.push_back({.first = first, .last = first + pages});
  for (unsigned pass = 0; pass < passes; ++pass)
    for (std::uint64_t i = 0; i < part; ++i)
      for (unsigned walk = 0; walk < GetParam(); ++walk)
        t.touches.push_back({.page = first + walk * part + i, .write = true});
  const replay_counts ours = replay(t, built_in_policy, frames);
  SCOPED_TRACE(text_of(ours));
  EXPECT_LE(ours.pages_moved, 0.9 * passes * pages);
  EXPECT_LE(ours.faults + ours.upgrades, passes * pages / 30);
  const replay_counts null = replay(t, null_policy, frames);
  EXPECT_EQ(null.pages_moved, passes * pages) << "or the check says nothing";
}

}  // namespace
}  // namespace gm::test
