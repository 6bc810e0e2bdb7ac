// SPDX-License-Identifier: Apache-2.0
#include "policy/read_ahead.h"

#include <gtest/gtest.h>

#include <vector>

#include "unit/seeded.h"

namespace gm {
namespace {

class reading_ahead : public testing::Test {
 protected:
  ahead_answer touch(std::uint64_t unit, access_pattern pattern = access_pattern::unknown) {
    return next_ahead(table, {unit, 0, 10000, pattern});
  }
  std::vector<std::uint32_t> counts(const std::vector<std::uint64_t>& units) {
    std::vector<std::uint32_t> result;
    for (const std::uint64_t unit : units) result.push_back(touch(unit).count);
    return result;
  }
  ahead_table table;
};
using numbers = std::vector<std::uint32_t>;

TEST_F(reading_ahead, grows_with_each_step_up_to_a_bound) {
  EXPECT_EQ(counts({10, 11, 12, 13, 14, 15, 16}), (numbers{0, 1, 2, 4, 8, 16, 16}));
}

TEST_F(reading_ahead, goes_on_where_what_was_brought_has_ended) {
  EXPECT_EQ(counts({10, 11, 13, 16, 21, 30, 47}), (numbers{0, 1, 2, 4, 8, 16, 16}));
  EXPECT_EQ(touch(65), (ahead_answer{})) << "one further than was brought";
}

TEST_F(reading_ahead, backwards) {
  EXPECT_EQ(counts({50, 49, 48, 47}), (numbers{0, 1, 2, 4}));
  EXPECT_EQ(touch(46), (ahead_answer{-1, 8, true, true}));
}

TEST_F(reading_ahead, by_a_step_that_was_seen_twice) {
  EXPECT_EQ(counts({100, 107, 114, 121}), (numbers{0, 0, 1, 2}));
  EXPECT_EQ(touch(128), (ahead_answer{7, 4, true, true}));
  EXPECT_EQ(counts({1000, 995, 990, 985}), (numbers{0, 0, 1, 2})) << "backwards";
}

TEST_F(reading_ahead, not_by_a_step_that_is_out_of_reach) {
  EXPECT_EQ(counts({100, 165, 230, 295, 360}), (numbers{0, 0, 0, 0, 0}));
}

TEST_F(reading_ahead, says_that_data_is_streamed_after_a_few_steps) {
  EXPECT_FALSE(touch(3).streamed);
  for (const std::uint64_t unit : {4, 5, 6}) EXPECT_FALSE(touch(unit).streamed);
  EXPECT_TRUE(touch(7).streamed);
}

TEST_F(reading_ahead, stays_in_the_allocation) {
  for (std::uint64_t unit = 9990; unit < 9998; ++unit) (void)touch(unit);
  EXPECT_EQ(touch(9998).count, 1U);
  EXPECT_EQ(touch(9999).count, 0U);
  for (const std::uint64_t unit : {20, 15, 10}) (void)touch(unit);
  EXPECT_EQ(touch(5), (ahead_answer{-5, 1, false, true}));
}

TEST_F(reading_ahead, late_faults_of_what_was_passed_change_nothing) {
  EXPECT_EQ(counts({10, 11, 12, 13}), (numbers{0, 1, 2, 4}));
  for (const std::uint64_t unit : {12, 11, 13}) EXPECT_EQ(touch(unit).count, 0U);
  EXPECT_EQ(touch(14).count, 8U);
}

TEST_F(reading_ahead, a_walk_that_begins_anew_is_known_at_its_second_step) {
  EXPECT_EQ(counts({10, 11, 12, 13, 14}), (numbers{0, 1, 2, 4, 8}));
  EXPECT_EQ(counts({10, 11, 12}), (numbers{0, 16, 16}));
}

TEST_F(reading_ahead, arrays_that_are_walked_by_turns_are_streams_of_their_own) {
  numbers last;
  for (std::uint64_t i = 0; i < 6; ++i) {
    last.clear();
    for (std::uint64_t array = 0; array < 3; ++array)
      last.push_back(next_ahead(table, {array * 8 + i, array * 8, array * 8 + 8}).count);
  }
  EXPECT_EQ(last, (numbers{2, 2, 2})) << "the last two of each array";
}

TEST_F(reading_ahead, walks_of_one_array_that_take_turns_are_told_apart) {
  for (const std::uint64_t apart : {12, 24, 500}) {
    table = {};
    for (const unsigned walks : {2U, 4U}) {
      std::vector<std::uint32_t> brought(walks);
      // Where all was brought in time, a walk is next seen where that has ended.
      std::vector<std::uint64_t> at(walks);
      for (unsigned w = 0; w < walks; ++w) at[w] = walks * 2500 + w * apart;
      for (int turn = 0; turn < 4; ++turn)
        for (unsigned w = 0; w < walks; ++w) {
          const ahead_answer a = touch(at[w]);
          brought[w] = a.step == 1 ? a.count : 0;
          at[w] += 1 + brought[w];
        }
      for (unsigned w = 0; w < walks; ++w) EXPECT_GE(brought[w], 1U) << walks << " walks, " << apart << " apart: " << w;
    }
  }
}

TEST_F(reading_ahead, a_guess_that_nothing_follows_is_forgotten) {
  EXPECT_EQ(touch(10).count, 0U);
  EXPECT_EQ(touch(5000).count, 0U);
  EXPECT_EQ(touch(11), (ahead_answer{1, 0, false, false})) << "not after the last one: a guess";
  for (const std::uint64_t unit : {1000, 2000, 3000, 4000, 6000}) EXPECT_EQ(touch(unit), (ahead_answer{}));
  EXPECT_EQ(touch(12).step, 0) << "it would have been followed";
}

TEST_F(reading_ahead, a_walk_comes_into_a_unit_at_its_end) {
  const auto in_the_middle = [&](std::uint64_t unit) {
    return next_ahead(table, {.unit = unit, .first = 0, .last = 10000, .at_begin = false, .at_end = false});
  };
  for (const std::uint64_t unit : {10, 11, 12, 13}) EXPECT_EQ(in_the_middle(unit), (ahead_answer{}));
  const auto from_below = [&](std::uint64_t unit) {
    return next_ahead(table, {.unit = unit, .first = 0, .last = 10000, .at_begin = true, .at_end = false});
  };
  EXPECT_EQ(from_below(14), (ahead_answer{1, 1, false, true}));
  EXPECT_EQ(from_below(13).count, 0U) << "not downwards";
}

TEST_F(reading_ahead, goes_on_where_there_is_no_room_ahead) {
  for (const std::uint64_t unit : {10, 11, 12, 13})
    EXPECT_EQ(next_ahead(table, {.unit = unit, .first = 0, .last = 10000, .most = 0}).walking, unit != 10) << unit;
}

TEST_F(reading_ahead, scattered_faults_bring_almost_nothing) {
  test::rng random(test::seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << test::seed());
  std::uint64_t brought = 0;
  constexpr int faults = 10000;
  for (int i = 0; i < faults; ++i) brought += touch(test::below(random, 10000)).count;
  EXPECT_LT(brought, faults / 20U);
}

TEST_F(reading_ahead, obeys_advice) {
  EXPECT_EQ(touch(5, access_pattern::sequential), (ahead_answer{1, most_units_ahead, true, true}));
  for (std::uint64_t unit = 50; unit < 60; ++unit) EXPECT_EQ(touch(unit, access_pattern::random), ahead_answer{});
}

TEST_F(reading_ahead, answers_are_legal) {
  test::rng random(test::seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << test::seed());
  std::uint64_t unit = 0;
  table.now = ~std::uint32_t{0} - 1000;  // wraps
  for (int step = 0; step < test::scaled(20000); ++step) {
    unit = test::below(random, 8) == 0 ? test::below(random, 10000) : (unit + test::below(random, 3) * 3) % 10000;
    const ahead_answer a = touch(unit);
    const auto end = static_cast<std::int64_t>(unit) + a.step * static_cast<std::int64_t>(a.count);
    ASSERT_GE(end, 0);
    ASSERT_LT(end, 10000);
    ASSERT_LE(a.count, most_units_ahead);
  }
}

}  // namespace
}  // namespace gm
