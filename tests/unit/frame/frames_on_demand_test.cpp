// SPDX-License-Identifier: Apache-2.0
// Frames whose pages kernels fetch: their lists, what policy makes of them, and what is kept for scopes.
#include <gtest/gtest.h>

#include <vector>

#include "unit/frame/frames.h"

namespace gm {
namespace {

using test::blocks;
using test::cold;
using test::kept;
using test::normal;

class frames_on_demand : public test::frames {
 protected:
  frame_index fetch(std::uint64_t block, bool streamed = false) {
    const frame_index frame = take(block);
    pool.used_on_demand(frame, streamed);
    return frame;
  }
  frame_at_place at(frame_list list, bool newest = false, std::uint32_t skip = 0) const {
    frame_at_place there{};
    EXPECT_TRUE(pool.at({list, newest, skip}, there));
    return there;
  }
  // Blocks in a list, the oldest first.
  blocks in(frame_list list) const {
    blocks result;
    frame_at_place there{};
    for (std::uint32_t skip = 0; pool.at({list, false, skip}, there); ++skip) result.push_back(there.owner.value);
    return result;
  }
};

TEST_F(frames_on_demand, come_on_probation_or_with_the_streamed_ones) {
  fetch(10);
  fetch(11, true);
  fetch(12);
  EXPECT_EQ(in(frame_list::probation), (blocks{10, 12}));
  EXPECT_EQ(in(frame_list::streamed), (blocks{11}));
  const frame_counts counts = pool.on_demand();
  EXPECT_EQ(counts.probation, 2u);
  EXPECT_EQ(counts.streamed, 1u);
  EXPECT_EQ(counts.protected_, 0u);
  block_index owners[8];
  EXPECT_EQ(pool.owners_on_demand(owners, 8), 3u);
  EXPECT_EQ(pool.owners_on_demand(owners, 2), 2u);
}

TEST_F(frames_on_demand, used_again_they_stay_where_they_are) {
  const frame_index first = fetch(10);
  fetch(11);
  pool.used_on_demand(first, true);
  EXPECT_EQ(in(frame_list::probation), (blocks{10, 11}));
}

TEST_F(frames_on_demand, are_found_from_either_end) {
  for (std::uint64_t block = 10; block < 14; ++block) fetch(block, true);
  EXPECT_EQ(at(frame_list::streamed, true).owner, block_index{13});
  EXPECT_EQ(at(frame_list::streamed, true, 2).owner, block_index{11});
  EXPECT_EQ(at(frame_list::streamed, false, 1).owner, block_index{11});
  frame_at_place none{};
  EXPECT_FALSE(pool.at({frame_list::streamed, true, 4}, none));
  EXPECT_FALSE(pool.at({frame_list::probation, false, 0}, none));
}

TEST_F(frames_on_demand, go_between_cold_ones_and_those_that_scopes_declared) {
  take(1, kept);
  take(2);
  fetch(3);
  fetch(4, true);
  take(5, cold);
  EXPECT_EQ(order(), (blocks{5, 4, 3, 2, 1}));
}

TEST_F(frames_on_demand, looks_are_counted_where_they_stand) {
  fetch(10, true);
  fetch(11, true);
  pool.looked_at(at(frame_list::streamed));
  pool.looked_at(at(frame_list::streamed));
  EXPECT_EQ(at(frame_list::streamed).owner, block_index{10});
  EXPECT_EQ(at(frame_list::streamed).looks, 2u);
  for (int i = 0; i < 300; ++i) pool.looked_at(at(frame_list::streamed));
  EXPECT_EQ(at(frame_list::streamed).looks, 255u) << "and not beyond what a byte holds";
}

TEST_F(frames_on_demand, move_to_the_newest_end_of_a_list) {
  fetch(10);
  fetch(11);
  pool.move_to(at(frame_list::probation), frame_list::protected_, 1);
  pool.move_to(at(frame_list::probation), frame_list::protected_, 2);
  EXPECT_EQ(in(frame_list::protected_), (blocks{10, 11}));
  EXPECT_EQ(at(frame_list::protected_, true).looks, 2u);
  pool.move_to(at(frame_list::protected_), frame_list::probation, 1);
  EXPECT_EQ(in(frame_list::probation), (blocks{10}));
}

TEST_F(frames_on_demand, chosen_ones_go_in_the_order_of_choice_and_come_back_when_used) {
  const frame_index first = fetch(10);
  fetch(11);
  fetch(12);
  pool.choose(at(frame_list::probation, true));
  pool.choose(at(frame_list::probation));
  EXPECT_EQ(order(), (blocks{12, 10, 11}));
  EXPECT_EQ(pool.on_demand().probation, 1u) << "chosen ones are not looked at";
  pool.used_on_demand(first, false);
  EXPECT_EQ(order(), (blocks{12, 11, 10}));
  EXPECT_EQ(at(frame_list::probation, true).looks, 1u) << "as one that has been looked at";
}

TEST_F(frames_on_demand, emptied_ones_go_next_until_they_are_used) {
  const frame_index first = fetch(10);
  const frame_index second = fetch(11, true);
  fetch(12);
  pool.make_cold(first);
  pool.make_cold(second);
  EXPECT_EQ(order(), (blocks{11, 10, 12}));
  EXPECT_EQ(pool.to_go_next(), 2u);
  pool.used_on_demand(first, true);
  EXPECT_EQ(order(), (blocks{11, 10, 12}));
  EXPECT_EQ(in(frame_list::streamed), (blocks{10}));
  EXPECT_EQ(at(frame_list::streamed).looks, 0u) << "as one that has just come";
  EXPECT_EQ(pool.to_go_next(), 1u);
  pool.choose(at(frame_list::probation));
  EXPECT_EQ(pool.to_go_next(), 2u);
  take(13, cold);
  EXPECT_EQ(pool.to_go_next(), 2u) << "what is advised cold is policy's to look at";
}

TEST_F(frames_on_demand, what_was_advised_cold_is_not_called_back_by_use) {
  const frame_index frame = take(10, cold);
  pool.used_on_demand(frame, false);
  EXPECT_EQ(pool.on_demand().probation, 0u);
  EXPECT_EQ(order(), (blocks{10}));
}

TEST_F(frames_on_demand, a_look_at_a_frame_that_has_changed_hands_changes_nothing) {
  const frame_index frame = fetch(10);
  const frame_at_place there = at(frame_list::probation);
  pool.give_back(frame);
  ASSERT_EQ(fetch(11), frame) << "the frame given back last is taken first";
  pool.looked_at(there);
  pool.move_to(there, frame_list::protected_, 7);
  pool.choose(there);
  EXPECT_EQ(in(frame_list::probation), (blocks{11}));
  EXPECT_EQ(at(frame_list::probation).looks, 0u);
  // ... and one that stands no longer among those on demand.
  const frame_at_place now = at(frame_list::probation);
  pool.touch(frame, normal);
  pool.choose(now);
  pool.move_to(now, frame_list::streamed, 1);
  EXPECT_EQ(pool.on_demand().streamed, 0u);
  EXPECT_EQ(order(), (blocks{11}));
}

TEST_F(frames_on_demand, a_declared_frame_idle_for_a_pool_s_length_is_chosen) {
  const frame_index idle = take(1);
  const frame_index used = take(2);
  for (int i = 0; i < 6; ++i) pool.touch(used, normal);
  EXPECT_FALSE(pool.choose_idle()) << "7 uses since, of a pool of 8";
  pool.touch(used, normal);
  EXPECT_FALSE(pool.choose_idle());
  pool.touch(used, normal);
  EXPECT_TRUE(pool.choose_idle());
  EXPECT_EQ(order(), (blocks{1, 2}));
  EXPECT_FALSE(pool.choose_idle()) << "the other one is in use";
  pool.used_on_demand(idle, false);
  EXPECT_EQ(in(frame_list::probation), (blocks{1}));
}

TEST_F(frames_on_demand, an_idle_piece_of_several_is_not_chosen) {
  frame_index pieces[2];
  ASSERT_TRUE(pool.take({{1}, 2}, normal, pieces));
  const frame_index used = take(5);
  for (int i = 0; i < 20; ++i) pool.touch(used, normal);
  EXPECT_FALSE(pool.choose_idle());
}

// ---- What is kept for a scope that gathers frames ----

TEST_F(frames_on_demand, faults_do_not_take_what_is_kept) {
  for (std::uint64_t block = 1; block <= 5; ++block) take(block);
  pool.keep(2);
  EXPECT_EQ(pool.free_frames(), 3u);
  EXPECT_EQ(pool.free_for_faults(), 1u);
  frame_index frame = no_frame;
  EXPECT_TRUE(pool.take({{6}, 1}, normal, &frame, false));
  EXPECT_EQ(pool.free_for_faults(), 0u);
  EXPECT_FALSE(pool.take({{7}, 1}, normal, &frame, false));
  EXPECT_TRUE(pool.take({{7}, 1}, normal, &frame)) << "the scope takes it";
  pool.keep(0);
  EXPECT_TRUE(pool.take({{8}, 1}, normal, &frame, false));
}

TEST_F(frames_on_demand, more_may_be_kept_than_is_free) {
  for (std::uint64_t block = 1; block <= 7; ++block) take(block);
  pool.keep(5);
  EXPECT_EQ(pool.free_for_faults(), 0u);
  frame_index frame = no_frame;
  EXPECT_FALSE(pool.take({{9}, 1}, normal, &frame, false));
}

}  // namespace
}  // namespace gm
