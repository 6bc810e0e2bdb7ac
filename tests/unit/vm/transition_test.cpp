// SPDX-License-Identifier: Apache-2.0
#include "vm/transition.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <vector>

namespace gm {
namespace {

// A block of three nodes, alone.
class in_transition : public testing::Test {
 protected:
  static constexpr unsigned nodes = 3;

  block& b() { return *reinterpret_cast<block*>(memory_.get()); }
  transition& began(unsigned destination, page_mask pages, page_mask exclusive = no_pages) {
    auto& t = *made_.emplace_back(std::make_unique<transition>());
    t.destination = destination;
    t.pages = pages;
    t.exclusive = exclusive;
    list_transition_locked(b(), t);
    return t;
  }

 private:
  std::unique_ptr<std::uint64_t[]> memory_{
      new std::uint64_t[(sizeof(block) + nodes * sizeof(node_pages)) / sizeof(std::uint64_t)]()};
  std::vector<std::unique_ptr<transition>> made_;
};

TEST_F(in_transition, busy_is_the_union_of_what_is_listed) {
  EXPECT_EQ(b().busy.load(), 0U);
  transition& first = began(1, 0x0f);
  transition& second = began(2, 0x3c);
  EXPECT_EQ(b().busy.load(), 0x3fU);
  EXPECT_EQ(unlist_transition_locked(b(), first), 0x03U) << "the others are still in the second";
  EXPECT_EQ(b().busy.load(), 0x3cU);
  EXPECT_EQ(unlist_transition_locked(b(), second), 0x3cU);
  EXPECT_EQ(b().busy.load(), 0U);
  EXPECT_EQ(b().transitions, nullptr);
}

TEST_F(in_transition, they_may_end_in_any_order) {
  transition& first = began(1, 0x1);
  transition& second = began(1, 0x2);
  transition& third = began(1, 0x4);
  EXPECT_EQ(unlist_transition_locked(b(), second), 0x2U);
  EXPECT_EQ(unlist_transition_locked(b(), third), 0x4U);
  EXPECT_EQ(b().transitions, &first);
  EXPECT_EQ(unlist_transition_locked(b(), first), 0x1U);
}

TEST_F(in_transition, without_any_what_is_valid_now_stays) {
  b().node(1).valid = 0x5;
  const expected_pages then = expect_locked(b(), nodes);
  EXPECT_EQ(then.valid[0], 0U);
  EXPECT_EQ(then.valid[1], 0x5U);
  EXPECT_EQ(then.staying, all_pages);
}

TEST_F(in_transition, a_copy_adds_and_an_exclusive_one_leaves_one_alone) {
  b().host().valid = 0xf;
  began(1, 0x3);
  began(2, 0x6, 0x6);
  const expected_pages then = expect_locked(b(), nodes);
  EXPECT_EQ(then.valid[0], 0x9U);
  EXPECT_EQ(then.valid[1], 0x1U) << "page 1 went there and away again";
  EXPECT_EQ(then.valid[2], 0x6U);
  EXPECT_EQ(then.staying, ~page_mask{0x6});
}

TEST_F(in_transition, what_comes_behind_an_exclusive_one_is_added_to_it) {
  b().node(1).valid = 0x1;
  began(2, 0x1, 0x1);
  began(0, 0x1);
  began(1, 0x1);
  const expected_pages then = expect_locked(b(), nodes);
  for (const unsigned n : {0U, 1U, 2U}) EXPECT_EQ(then.valid[n], 0x1U) << n;
  EXPECT_EQ(then.staying & 0x1, 0U) << "valid on node 1 now and then, and not between";
}

TEST_F(in_transition, of_two_exclusive_ones_the_newer_counts) {
  b().host().valid = 0x1;
  began(1, 0x1, 0x1);
  began(2, 0x1, 0x1);
  const expected_pages then = expect_locked(b(), nodes);
  EXPECT_EQ(then.valid[0] | then.valid[1], 0U);
  EXPECT_EQ(then.valid[2], 0x1U);
}

TEST_F(in_transition, the_newest_of_each_page_are_enough_to_wait_for) {
  transition& oldest = began(1, 0x7);
  began(2, 0x2);
  transition& newest = began(1, 0x6);
  began(2, 0x8);
  std::vector<const transition*> found;
  for_each_newest_locked(b(), 0x7, [&](const transition& t) { found.push_back(&t); });
  EXPECT_EQ(found, (std::vector<const transition*>{&newest, &oldest})) << "the second is behind the newest";
  found.clear();
  for_each_newest_locked(b(), 0x6, [&](const transition& t) { found.push_back(&t); });
  EXPECT_EQ(found, (std::vector<const transition*>{&newest}));
  found.clear();
  for_each_newest_locked(b(), 0x30, [&](const transition& t) { found.push_back(&t); });
  EXPECT_TRUE(found.empty());
}

}  // namespace
}  // namespace gm
