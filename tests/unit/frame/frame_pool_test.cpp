// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "unit/frame/frames.h"
#include "unit/seeded.h"

namespace gm {
namespace {

using test::blocks;
using test::cold;
using test::frames;
using test::kept;
using test::normal;

TEST_F(frames, all_are_free_at_first) {
  EXPECT_EQ(pool.capacity(), 8U);
  EXPECT_EQ(pool.free_frames(), 8U);
  EXPECT_EQ(order(), blocks{});
  EXPECT_GT(pool.metadata_bytes(), 0U);
}

TEST_F(frames, each_is_taken_once) {
  std::set<frame_index> taken;
  for (std::uint64_t block = 0; block < 8; ++block) {
    const frame_index frame = take(100 + block);
    EXPECT_LT(frame, 8U);
    EXPECT_TRUE(taken.insert(frame).second);
    EXPECT_EQ(pool.owner(frame), block_index{100 + block});
    EXPECT_EQ(pool.free_frames(), 7 - block);
    EXPECT_TRUE(pool.validate());
  }
  frame_index none = no_frame;
  EXPECT_FALSE(pool.take({{1}, 1}, normal, &none)) << "it never evicts";
  EXPECT_EQ(none, no_frame);
}

TEST_F(frames, what_is_given_back_can_be_taken_again) {
  const frame_index frame = take(5);
  pool.give_back(frame);
  EXPECT_EQ(pool.free_frames(), 8U);
  EXPECT_EQ(order(), blocks{});
  for (std::uint64_t block = 0; block < 8; ++block) take(block);
  EXPECT_EQ(pool.free_frames(), 0U);
}

TEST_F(frames, a_piece_comes_whole_or_not_at_all) {
  frame_index got[9];
  std::fill(std::begin(got), std::end(got), no_frame);
  EXPECT_FALSE(pool.take({{10}, 9}, normal, got));
  EXPECT_EQ(pool.free_frames(), 8U);
  EXPECT_EQ(got[0], no_frame);
  ASSERT_TRUE(pool.take({{10}, 5}, normal, got));
  EXPECT_EQ(pool.free_frames(), 3U);
  EXPECT_FALSE(pool.take({{20}, 4}, normal, got + 5));
  ASSERT_TRUE(pool.take({{20}, 3}, normal, got + 5));
  for (unsigned i = 0; i < 5; ++i) {
    EXPECT_EQ(pool.owner(got[i]), block_index{10 + i}) << "frames[i] is of block first + i";
    EXPECT_EQ(pool.piece_of(got[i]).first, block_index{10});
    EXPECT_EQ(pool.piece_of(got[i]).blocks, 5U);
  }
}

TEST_F(frames, victims_go_from_least_recently_used) {
  const frame_index first = take(1);
  take(2);
  take(3);
  EXPECT_EQ(order(), (blocks{1, 2, 3}));
  pool.touch(first, normal);
  EXPECT_EQ(order(), (blocks{2, 3, 1}));
}

TEST_F(frames, victims_are_cold_before_normal_before_kept) {
  take(1, kept);
  take(2, normal);
  take(3, cold);
  take(4, kept);
  take(5, normal);
  take(6, cold);
  EXPECT_EQ(order(), (blocks{3, 6, 2, 5, 1, 4}));
}

TEST_F(frames, a_touch_may_change_the_class) {
  const frame_index one = take(1, cold);
  take(2, normal);
  take(3, kept);
  pool.touch(one, kept);
  EXPECT_EQ(order(), (blocks{2, 3, 1}));
  pool.touch(one, normal);
  EXPECT_EQ(order(), (blocks{2, 1, 3}));
}

TEST_F(frames, many_are_touched_in_their_order) {
  const frame_index a = take(1);
  const frame_index b = take(2);
  take(3);
  const frame_index touched[] = {b, a};
  const victim_class classes[] = {normal, cold};
  pool.touch(touched, classes, 2);
  EXPECT_EQ(order(), (blocks{1, 3, 2}));
}

TEST_F(frames, made_cold_is_first_of_all) {
  take(1, cold);
  take(2, normal);
  const frame_index three = take(3, kept);
  pool.make_cold(three);
  EXPECT_EQ(order(), (blocks{3, 1, 2})) << "before what was cold already";
  pool.touch(three, kept);
  EXPECT_EQ(order(), (blocks{1, 2, 3})) << "until it is used again";
}

TEST_F(frames, free_frames_are_neither_touched_nor_cooled) {
  const frame_index one = take(1);
  take(2);
  pool.give_back(one);
  pool.touch(one, normal);
  pool.make_cold(one);
  EXPECT_EQ(order(), (blocks{2}));
  EXPECT_EQ(pool.free_frames(), 7U);
}

TEST_F(frames, victims_stop_at_most_and_leave_out_the_first) {
  for (std::uint64_t block = 1; block <= 5; ++block) take(block);
  EXPECT_EQ(order(2), (blocks{1, 2}));
  EXPECT_EQ(order(2, 2), (blocks{3, 4}));
  EXPECT_EQ(order(2, 4), (blocks{5}));
  EXPECT_EQ(order(2, 5), blocks{});
  EXPECT_EQ(order(0), blocks{});
}

TEST_F(frames, skip_counts_across_the_classes) {
  take(1, cold);
  take(2, normal);
  take(3, kept);
  EXPECT_EQ(order(64, 1), (blocks{2, 3}));
  EXPECT_EQ(order(64, 2), (blocks{3}));
}

TEST_F(frames, a_piece_is_one_victim_and_stands_where_its_first_frame_stands) {
  frame_index got[3];
  ASSERT_TRUE(pool.take({{10}, 3}, normal, got));
  take(20);
  EXPECT_EQ(order(), (blocks{10, 20}));
  pool.touch(got[1], normal);
  EXPECT_EQ(order(), (blocks{10, 20})) << "a later frame does not move the piece";
  pool.touch(got[0], normal);
  EXPECT_EQ(order(), (blocks{20, 10}));
  piece pieces[2];
  ASSERT_EQ(pool.victims(pieces, 2, 0), 2U);
  EXPECT_EQ(pieces[1].blocks, 3U);
}

TEST(frame_pool, without_frames_has_nothing_to_give) {
  frame_pool empty;
  ASSERT_EQ(empty.create(0), status::ok);
  frame_index frame = no_frame;
  EXPECT_FALSE(empty.take({{0}, 1}, normal, &frame));
  EXPECT_EQ(empty.victims(nullptr, 0, 0), 0U);
  EXPECT_TRUE(empty.validate());
}

TEST(frame_pool_death_test, a_frame_given_back_twice_dies) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  frame_pool pool;
  ASSERT_EQ(pool.create(2), status::ok);
  frame_index frame = no_frame;
  ASSERT_TRUE(pool.take({{0}, 1}, normal, &frame));
  pool.give_back(frame);
  EXPECT_DEATH(pool.give_back(frame), "check failed");
  EXPECT_DEATH(pool.give_back(2), "check failed") << "and one that it does not have";
}

// Three queues: what the pool's lists should hold.
class model_pool {
 public:
  void append(std::uint64_t block, victim_class which) { list(which).push_back(block); }
  void remove(std::uint64_t block) {
    for (auto& l : lists_) std::erase(l, block);
  }
  void make_cold(std::uint64_t block) {
    remove(block);
    list(cold).push_front(block);
  }
  blocks order() const {
    blocks all;
    for (const auto& l : lists_) all.insert(all.end(), l.begin(), l.end());
    return all;
  }

 private:
  std::deque<std::uint64_t>& list(victim_class which) { return lists_[static_cast<unsigned>(which)]; }
  std::deque<std::uint64_t> lists_[3];
};

TEST(frame_pool, against_three_plain_queues) {
  test::rng random(test::seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << test::seed());
  constexpr std::uint32_t capacity = 16;
  frame_pool pool;
  ASSERT_EQ(pool.create(capacity), status::ok);
  model_pool model;
  std::map<std::uint64_t, frame_index> used;
  std::uint64_t next_block = 0;
  for (int step = 0; step < test::scaled(20000); ++step) {
    const auto which = static_cast<victim_class>(test::below(random, 3));
    auto any = used.begin();
    if (!used.empty()) std::advance(any, static_cast<long>(test::below(random, used.size())));
    switch (test::below(random, 4)) {
      case 0: {
        frame_index frame = no_frame;
        ASSERT_EQ(pool.take({{next_block}, 1}, which, &frame), used.size() < capacity);
        if (frame == no_frame) break;
        model.append(next_block, which);
        used[next_block++] = frame;
        break;
      }
      case 1:
        if (used.empty()) break;
        pool.give_back(any->second);
        model.remove(any->first);
        used.erase(any);
        break;
      case 2:
        if (used.empty()) break;
        pool.touch(any->second, which);
        model.remove(any->first);
        model.append(any->first, which);
        break;
      case 3:
        if (used.empty()) break;
        pool.make_cold(any->second);
        model.make_cold(any->first);
        break;
    }
    ASSERT_EQ(pool.free_frames(), capacity - used.size());
    piece pieces[capacity];
    const std::size_t skip = test::below(random, capacity);
    blocks expected = model.order();
    expected.erase(expected.begin(), expected.begin() + static_cast<long>(std::min(skip, expected.size())));
    blocks got;
    for (std::size_t i = 0, count = pool.victims(pieces, capacity, skip); i < count; ++i)
      got.push_back(pieces[i].first.value);
    ASSERT_EQ(got, expected) << "step " << step;
    ASSERT_TRUE(pool.validate()) << "step " << step;
  }
}

TEST(frame_pool, threads_share_it) {
  frame_pool pool;
  ASSERT_EQ(pool.create(16), status::ok);
  std::vector<std::thread> running;
  for (std::uint64_t t = 0; t < 4; ++t)
    running.emplace_back([&pool, t] {
      for (int i = 0; i < test::scaled(2000); ++i) {
        frame_index got[5];
        const piece wanted{{t * 1000}, static_cast<std::uint32_t>(1 + i % 5)};
        if (!pool.take(wanted, normal, got)) continue;
        pool.touch(got[0], kept);
        for (std::uint32_t k = 0; k < wanted.blocks; ++k) {
          EXPECT_EQ(pool.owner(got[k]), block_index{wanted.first.value + k}) << "nobody else got it";
          pool.give_back(got[k]);
        }
      }
    });
  for (std::thread& t : running) t.join();
  EXPECT_EQ(pool.free_frames(), 16U);
  EXPECT_TRUE(pool.validate());
}

}  // namespace
}  // namespace gm
