// SPDX-License-Identifier: Apache-2.0
#include "policy/thrash.h"

#include <gtest/gtest.h>

namespace gm {
namespace {

constexpr std::uint64_t ms = 1'000'000;

class thrashing : public testing::Test {
 protected:
  treatment move(unsigned to, bool write, std::uint64_t after_ns = ms / 2, std::uint64_t block = 7) {
    now += after_ns;
    answer = next_treatment(table, {.block = {block}, .to = to, .write = write, .now_ns = now});
    return answer.how;
  }
  thrash_table table;
  thrash_answer answer;
  std::uint64_t now = 0;
};

TEST_F(thrashing, slow_movements_are_normal) {
  for (unsigned i = 0; i < 20; ++i) EXPECT_EQ(move(i % 2, true, 3 * ms), treatment::normal);
}

TEST_F(thrashing, so_are_fast_ones_to_one_node) {
  for (unsigned i = 0; i < 20; ++i) EXPECT_EQ(move(1, true, 1000), treatment::normal);
}

TEST_F(thrashing, bouncing_that_only_reads_is_duplicated) {
  for (unsigned i = 0; i < 3; ++i) EXPECT_EQ(move(i % 2, false), treatment::normal);
  for (unsigned i = 3; i < 9; ++i) EXPECT_EQ(move(i % 2, false), treatment::duplicate);
}

TEST_F(thrashing, bouncing_that_writes_is_pinned_where_it_is) {
  for (unsigned i = 0; i < 3; ++i) EXPECT_EQ(move(i % 2, true), treatment::normal);
  EXPECT_EQ(move(1, true), treatment::pin);
  EXPECT_EQ(answer.node, 0U) << "where its last move went";
  EXPECT_EQ(answer.until_ns, now + shortest_pin_ns);
  EXPECT_EQ(move(0, true, 1000), treatment::normal) << "it is there";
  EXPECT_EQ(move(1, true, 1000), treatment::pin) << "still";
  EXPECT_EQ(move(2, false, 1000), treatment::pin);
}

TEST_F(thrashing, a_pin_that_did_not_help_is_followed_by_one_twice_as_long_up_to_a_bound) {
  for (unsigned i = 0; i < 3; ++i) (void)move(i % 2, true);
  std::uint64_t expected = shortest_pin_ns;
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(move(1, true), treatment::pin);
    ASSERT_EQ(answer.until_ns - now, expected);
    expected = std::min(2 * expected, longest_pin_ns);
    now = answer.until_ns;
  }
}

TEST_F(thrashing, left_alone_it_is_forgiven) {
  for (unsigned i = 0; i < 4; ++i) (void)move(i % 2, true);
  now = answer.until_ns;
  EXPECT_EQ(move(1, true, 3 * ms), treatment::normal);
  EXPECT_EQ(move(0, true), treatment::normal);
  EXPECT_EQ(move(1, true), treatment::normal);
  EXPECT_EQ(move(0, true), treatment::pin);
  EXPECT_EQ(answer.until_ns - now, shortest_pin_ns);
}

TEST_F(thrashing, where_it_can_be_reached_it_is_mapped) {
  for (unsigned i = 0; i < 3; ++i) (void)move(i % 2, true);
  now += 1000;
  answer = next_treatment(table, {.block = {7}, .to = 1, .write = true, .remote_possible = true, .now_ns = now});
  EXPECT_EQ(answer.how, treatment::remote);
  EXPECT_EQ(answer.node, 0U);
}

TEST_F(thrashing, blocks_are_watched_apart) {
  for (unsigned i = 0; i < 12; ++i) EXPECT_EQ(move(i / 4 % 2, true, 1000, i % 4), treatment::normal);
  EXPECT_EQ(move(0, true, 1000, 100), treatment::normal);
}

TEST_F(thrashing, bounces_less_often_with_it_than_without) {
  // Two nodes write the block by turns, every 100 us; each turn that does not find it there is a move.
  unsigned moves = 0;
  unsigned at = 0;
  for (unsigned i = 0; i < 1000; ++i) {
    const unsigned wants = i % 2;
    if (wants == at) continue;
    now += 100'000;
    const treatment how = next_treatment(table, {.block = {1}, .to = wants, .write = true, .now_ns = now}).how;
    if (how == treatment::pin) continue;
    at = wants;
    ++moves;
  }
  EXPECT_LT(moves, 100U) << "of 999";
}

}  // namespace
}  // namespace gm
