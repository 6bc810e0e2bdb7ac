// SPDX-License-Identifier: Apache-2.0
#include "policy/policy_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace gm {
namespace {

// A table of its own for each test; the process's is one more of them.
class policies : public testing::Test {
 protected:
  policies() { wanted.size = sizeof wanted; }
  ~policies() override { EXPECT_EQ(table.set(nullptr), status::ok); }
  void set() { ASSERT_EQ(table.set(&wanted), status::ok) << last_error(); }

  policy_table table;
  gm_policy wanted{};
  const pages_question fault{
      .page = {67}, .node = 1, .write = true, .told = {}, .requested = 0x8, .present = 0x1, .legal = 0xff};
};

TEST_F(policies, built_in_answers_stand_where_nothing_is_set) {
  EXPECT_EQ(table.pages(fault, 0x1e), 0x1eU);
  EXPECT_EQ(table.victim({.page = {32}, .node = 1, .frame = {}}, verdict::promote), verdict::promote);
  set();
  EXPECT_EQ(table.pages(fault, 0x1e), 0x1eU) << "a table of NULLs";
}

TEST_F(policies, what_a_device_is_given_to_write_is_a_question_of_its_own) {
  wanted.fault_pages = [](void*, const gm_policy_fault*, std::uint32_t* pages) { *pages = 0xffffffff; };
  set();
  EXPECT_EQ(table.writes(fault, 0x1e), 0x1eU);
  wanted.device_writes = [](void*, const gm_policy_fault* asked, std::uint32_t* pages) {
    *pages = 0x380 | asked->present;
  };
  set();
  EXPECT_EQ(table.writes(fault, 0x1e), 0x89U) << "what is legal of it, and what was requested";
}

TEST_F(policies, a_function_sees_the_question_and_the_built_in_answer) {
  struct seen_fault {
    gm_policy_fault fault;
    std::uint32_t built_in;
  } seen{};
  wanted.context = &seen;
  wanted.fault_pages = [](void* context, const gm_policy_fault* asked, std::uint32_t* pages) {
    *static_cast<seen_fault*>(context) = {*asked, *pages};
    *pages = 0x80;
  };
  set();
  pages_question q = fault;
  q.told = {.cold = true, .pattern = access_pattern::random, .preferred_node = 2, .accessed_by = 5};
  q.elsewhere = 0xf0;
  EXPECT_EQ(table.pages(q, 0x1e), 0x88U) << "and what was requested, whatever it says";
  EXPECT_EQ(seen.built_in, 0x1eU);
  EXPECT_EQ(seen.fault.page, 67U);
  EXPECT_EQ(seen.fault.node, 1);
  EXPECT_EQ(seen.fault.write, 1);
  EXPECT_EQ(seen.fault.requested, 0x8U);
  EXPECT_EQ(seen.fault.present, 0x1U);
  EXPECT_EQ(seen.fault.elsewhere, 0xf0U);
  EXPECT_EQ(seen.fault.legal, 0xffU);
  EXPECT_EQ(seen.fault.advice.cold, 1U);
  EXPECT_EQ(seen.fault.advice.read_mostly, 0U);
  EXPECT_EQ(seen.fault.advice.random, 1U);
  EXPECT_EQ(seen.fault.advice.sequential, 0U);
  EXPECT_EQ(seen.fault.advice.preferred_node, 2);
  EXPECT_EQ(seen.fault.advice.accessed_by, 5U);
}

TEST_F(policies, of_pages_only_legal_ones_are_taken) {
  wanted.fault_pages = [](void*, const gm_policy_fault*, std::uint32_t* pages) { *pages = 0xffff0000; };
  set();
  EXPECT_EQ(table.pages(fault, 0xff), 0x8U);
}

TEST_F(policies, reading_ahead_ends_with_the_allocation_and_with_a_bound) {
  wanted.read_ahead = [](void*, const gm_policy_touch* touch, gm_policy_ahead* ahead) {
    *ahead = {touch->unit % 2 == 0 ? std::int64_t{3} : INT64_MIN, ~std::uint32_t{0}, 7};
  };
  set();
  ahead_question q{.page = {0}, .node = 1, .touch = {.unit = 90, .first = 0, .last = 100}, .told = {}};
  EXPECT_EQ(table.ahead(q, {}), (ahead_answer{3, 3, true, true}));
  q.touch = {.unit = 91, .first = 0, .last = 100};
  EXPECT_EQ(table.ahead(q, {}), (ahead_answer{INT64_MIN, 0, true, false}));
  q.touch = {.unit = 90, .first = 0, .last = 10000};
  EXPECT_EQ(table.ahead(q, {}), (ahead_answer{3, most_units_ahead_of_policy, true, true}));
}

TEST_F(policies, answers_that_are_none_are_ignored) {
  wanted.victim = [](void*, const gm_policy_frame* frame, std::int32_t* verdict) {
    *verdict = static_cast<std::int32_t>(frame->looks);
  };
  wanted.movement = [](void*, const gm_policy_movement* m, gm_policy_treatment* t) {
    *t = {static_cast<std::int32_t>(m->block), static_cast<int>(m->now_ns), ~std::uint64_t{0}};
  };
  wanted.placement = [](void*, const gm_policy_wish* wish, gm_policy_place* place) {
    *place = {static_cast<int>(wish->page), 1};
  };
  set();
  const auto victim = [&](std::uint32_t looks) {
    return table.victim({.page = {0}, .node = 1, .frame = {.looks = looks}}, verdict::promote);
  };
  EXPECT_EQ(victim(0), verdict::evict);
  EXPECT_EQ(victim(3), verdict::demote);
  EXPECT_EQ(victim(4), verdict::promote);
  EXPECT_EQ(victim(~0U), verdict::promote);

  const auto moved = [&](std::uint64_t how, std::uint64_t node, bool remote) {
    return table.movement({.block = {how}, .remote_possible = remote, .now_ns = node}, 3, {});
  };
  EXPECT_EQ(moved(2, 1, true).how, treatment::pin);
  EXPECT_EQ(moved(2, 1, true).node, 1U);
  EXPECT_EQ(moved(2, 1, true).until_ns, 1 + longest_pin_of_policy_ns);
  EXPECT_EQ(moved(3, 1, true).how, treatment::remote);
  EXPECT_EQ(moved(3, 1, false).how, treatment::pin) << "it cannot be reached";
  EXPECT_EQ(moved(4, 1, true).how, treatment::normal);
  EXPECT_EQ(moved(2, 3, true).how, treatment::normal) << "there is no such node";

  const auto placed = [&](std::uint64_t node, bool write, bool remote) {
    return table.placement({node}, {.node = 1, .write = write, .remote_possible = remote}, 3, {1, false});
  };
  EXPECT_EQ(placed(2, false, true), (placement_answer{2, true}));
  EXPECT_EQ(placed(2, false, false), (placement_answer{1, true}));
  EXPECT_EQ(placed(9, true, true), (placement_answer{1, false})) << "a writer has it alone";
}

TEST_F(policies, come_back_as_they_were_set) {
  int context = 0;
  wanted.context = &context;
  wanted.victim = [](void*, const gm_policy_frame*, std::int32_t*) {};
  set();
  gm_policy now{};
  now.size = sizeof now;
  ASSERT_EQ(table.get(&now), status::ok);
  EXPECT_EQ(std::memcmp(&now, &wanted, sizeof now), 0);
  ASSERT_EQ(table.set(nullptr), status::ok);
  ASSERT_EQ(table.get(&now), status::ok);
  EXPECT_EQ(now.victim, nullptr);
  EXPECT_EQ(now.context, nullptr);
}

TEST_F(policies, of_another_size_count_as_far_as_they_go) {
  wanted.fault_pages = [](void*, const gm_policy_fault*, std::uint32_t* pages) { *pages = 0; };
  wanted.victim = [](void*, const gm_policy_frame*, std::int32_t* v) { *v = GM_VERDICT_DEMOTE; };
  wanted.size = offsetof(gm_policy, read_ahead);
  set();
  EXPECT_EQ(table.pages(fault, 0xff), 0x8U);
  EXPECT_EQ(table.victim({.page = {0}, .node = 1, .frame = {}}, verdict::promote), verdict::promote);
  gm_policy small{};
  std::memset(&small, 0xab, sizeof small);
  small.size = offsetof(gm_policy, read_ahead);
  ASSERT_EQ(table.get(&small), status::ok);
  EXPECT_EQ(small.size, offsetof(gm_policy, read_ahead));
  EXPECT_EQ(small.fault_pages, wanted.fault_pages);
  EXPECT_NE(small.read_ahead, nullptr) << "not written";

  struct {
    gm_policy known;
    void* more;
  } newer{wanted, nullptr};
  newer.known.size = sizeof newer;
  EXPECT_EQ(table.set(&newer.known), status::ok);
  newer.more = &newer;
  EXPECT_EQ(table.set(&newer.known), status::unsupported);
  EXPECT_NE(std::string(last_error()).find("does not know"), std::string::npos);
}

TEST_F(policies, bad_tables_are_refused_and_leave_the_one_before) {
  wanted.fault_pages = [](void*, const gm_policy_fault*, std::uint32_t* pages) { *pages = 0; };
  set();
  wanted.size = offsetof(gm_policy, read_ahead) - 1;
  EXPECT_EQ(table.set(&wanted), status::invalid_argument);
  EXPECT_EQ(table.get(&wanted), status::invalid_argument);
  EXPECT_EQ(table.get(nullptr), status::invalid_argument);
  EXPECT_EQ(table.pages(fault, 0xff), 0x8U);
}

// Threads ask all the time; after set() no function of the table before may see its context.
TEST_F(policies, once_replaced_are_in_use_by_nobody) {
  struct user {
    std::atomic<bool> gone{false};
  };
  static std::atomic<int> uses_of_gone;
  uses_of_gone = 0;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> asked{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      while (!stop) {
        (void)table.pages(fault, 0xff);
        ++asked;
      }
    });
  wanted.fault_pages = [](void* context, const gm_policy_fault*, std::uint32_t* pages) {
    if (static_cast<user*>(context)->gone) ++uses_of_gone;
    *pages = 0;
    if (static_cast<user*>(context)->gone) ++uses_of_gone;
  };
  std::vector<std::unique_ptr<user>> users;
  while (users.size() < 300 || asked < 3000) {
    users.push_back(std::make_unique<user>());
    wanted.context = users.back().get();
    if (users.size() % 5 == 0) ASSERT_EQ(table.set(nullptr), status::ok);
    set();
    if (users.size() > 1) users[users.size() - 2]->gone = true;
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(uses_of_gone, 0);
}

}  // namespace
}  // namespace gm
