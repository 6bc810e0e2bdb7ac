// SPDX-License-Identifier: Apache-2.0
#include "policy/victim_order.h"

#include <gtest/gtest.h>

namespace gm {
namespace {

TEST(victim_order, without_advice_a_block_is_normal) { EXPECT_EQ(victim_class_of({}, 1), victim_class::normal); }

TEST(victim_order, the_preferred_node_keeps_and_others_give_up_first) {
  EXPECT_EQ(victim_class_of({.preferred_node = 1}, 1), victim_class::kept);
  EXPECT_EQ(victim_class_of({.preferred_node = 1}, 2), victim_class::cold);
  EXPECT_EQ(victim_class_of({.preferred_node = 0}, 1), victim_class::cold) << "its place is the host";
}

TEST(victim_order, copies_of_read_mostly_data_go_first) {
  EXPECT_EQ(victim_class_of({.read_mostly = true}, 1), victim_class::cold);
  EXPECT_EQ(victim_class_of({.read_mostly = true, .preferred_node = 1}, 1), victim_class::kept);
}

TEST(victim_order, what_was_passed_or_called_cold_goes_first_wherever_its_place) {
  EXPECT_EQ(victim_class_of({.cold = true}, 1), victim_class::cold);
  EXPECT_EQ(victim_class_of({.cold = true, .preferred_node = 1}, 1), victim_class::cold);
  EXPECT_EQ(victim_class_of({.pattern = access_pattern::sequential}, 1), victim_class::cold);
  EXPECT_EQ(victim_class_of({.pattern = access_pattern::random}, 1), victim_class::normal);
  EXPECT_EQ(victim_class_of({.accessed_by = 2}, 1), victim_class::normal);
}

TEST(judge_frame, probation_gives_a_second_chance_and_promotes_what_takes_it) {
  EXPECT_EQ(judge_frame({.accessed = true}), verdict::look_again) << "the use that brought it";
  EXPECT_EQ(judge_frame({.accessed = true, .looks = 1}), verdict::promote);
  EXPECT_EQ(judge_frame({.looks = 1}), verdict::evict);
  EXPECT_EQ(judge_frame({}), verdict::evict) << "brought in vain";
}

TEST(judge_frame, protected_frames_stay_while_they_are_used) {
  EXPECT_EQ(judge_frame({.list = frame_list::protected_, .accessed = true, .looks = 9}), verdict::look_again);
  EXPECT_EQ(judge_frame({.list = frame_list::protected_, .looks = 9}), verdict::demote) << "and go by way of probation";
}

TEST(judge_frame, streamed_frames_go_when_they_were_used) {
  frame_look f{.list = frame_list::streamed, .newest = true};
  EXPECT_EQ(judge_frame(f), verdict::look_again) << "not used yet";
  f.accessed = true;
  EXPECT_EQ(judge_frame(f), verdict::evict);
  f.newest = false;
  EXPECT_EQ(judge_frame(f), verdict::look_again);
  f.looks = 1;
  EXPECT_EQ(judge_frame(f), verdict::promote) << "used again";
  f.accessed = false;
  EXPECT_EQ(judge_frame(f), verdict::evict);
}

TEST(judge_frame, advice_counts_more_than_use) {
  constexpr auto cold = victim_class::cold;
  constexpr auto kept = victim_class::kept;
  EXPECT_EQ(judge_frame({.advised = cold, .accessed = true}), verdict::evict);
  EXPECT_EQ(judge_frame({.advised = cold, .list = frame_list::protected_, .accessed = true}), verdict::demote);
  EXPECT_EQ(judge_frame({.advised = kept, .accessed = true}), verdict::promote);
  EXPECT_EQ(judge_frame({.advised = kept, .looks = 2}), verdict::look_again);
  EXPECT_EQ(judge_frame({.advised = kept, .looks = 3}), verdict::evict) << "it has had its time";
}

TEST(next_to_look_at, streamed_data_first_but_not_what_is_in_use) {
  const frame_place newest{frame_list::streamed, true, 3};
  const frame_place oldest{frame_list::streamed, false, 0};
  const frame_place second{frame_list::streamed, false, 1};
  EXPECT_EQ(next_to_look_at({.probation = 5, .protected_ = 5, .streamed = 4, .in_use = 3}, 1), newest);
  EXPECT_EQ(next_to_look_at({.probation = 5, .protected_ = 5, .streamed = 4, .in_use = 3}, 8), second);
  EXPECT_EQ(next_to_look_at({.probation = 5, .protected_ = 5, .streamed = 4, .in_use = 3}, 32), oldest) << "and round";
  EXPECT_EQ(next_to_look_at({.probation = 5, .streamed = 3, .in_use = 3}, 1).list, frame_list::probation);
  EXPECT_EQ(next_to_look_at({.streamed = 3, .in_use = 3}, 1), oldest) << "there is no other";
}

TEST(next_to_look_at, protected_frames_where_there_are_too_many_or_no_others) {
  EXPECT_EQ(next_to_look_at({.probation = 1, .protected_ = 7}, 0).list, frame_list::probation);
  EXPECT_EQ(next_to_look_at({.probation = 1, .protected_ = 16}, 0).list, frame_list::protected_);
  EXPECT_EQ(next_to_look_at({.protected_ = 1}, 0).list, frame_list::protected_);
  EXPECT_EQ(next_to_look_at({.probation = 1}, 0).list, frame_list::probation);
}

TEST(returning_data, is_so_when_nearly_all_was_evicted_a_short_while_ago) {
  returning_data data;
  unsigned blocks = 1;
  while (!data.comes_back(20, 32) && blocks < 100) ++blocks;
  EXPECT_GE(blocks, 10U) << "a few are nothing";
  EXPECT_LE(blocks, 40U);
  EXPECT_FALSE(data.comes_back(returning_data::never, 32)) << "this one was never here";
  EXPECT_FALSE(data.comes_back(20, 32)) << "and it was no longer nearly all";
}

TEST(returning_data, is_not_what_comes_back_late_or_now_and_then) {
  returning_data late;
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(late.comes_back(4 * 32, 32));
  returning_data mixed;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(mixed.comes_back(i % 4 == 0 ? returning_data::never : 5, 32));
  }
}

}  // namespace
}  // namespace gm
