// SPDX-License-Identifier: Apache-2.0
#include "vm/lease_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace gm {
namespace {

using verdict = lease_table::verdict;
using room = lease_table::room;

constexpr byte_range pages(std::uint64_t first, std::uint64_t last) { return {first * page_bytes, last * page_bytes}; }
constexpr page_index page(std::uint64_t n) { return {n}; }

// A lease and the ranges it stands on.
struct declared {
  explicit declared(std::vector<leased_range> what, unsigned node = 1) : ranges(std::move(what)) {
    l.ranges = ranges;
    l.node = node;
  }
  declared(byte_range range, gm_mode mode, unsigned node = 1) : declared({{range, mode}}, node) {}

  std::vector<leased_range> ranges;
  lease l;
  lease_order order;
};

class leases : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(table.active(), 0U); }

  status begin(declared& d, conflicts how = conflicts::order) { return table.begin_or_wait(d.l, how, d.order); }
  void end(declared& d, std::uint64_t position = 1) { table.end(d.l, fence(position)); }
  void remove(declared& d) { table.remove(d.l); }

  // Begins, ends and removes on another thread what would conflict with this thread's own.
  static work_fence fence(std::uint64_t position) { return {nullptr, {nullptr, position}}; }
  template <typename F>
  static void on_another_thread(F&& act) {
    std::thread(act).join();
  }
  // Whether a lease could begin at once.
  bool free_for(byte_range range, gm_mode mode) {
    declared d(range, mode);
    const bool begun = begin(d, conflicts::never) == status::ok;
    if (begun) remove(d);
    return begun;
  }
  lease_table table;
};

TEST_F(leases, readers_share_writers_do_not) {
  declared reader(pages(0, 4), GM_READ);
  ASSERT_EQ(begin(reader), status::ok);
  EXPECT_TRUE(free_for(pages(0, 4), GM_READ));
  EXPECT_FALSE(free_for(pages(0, 4), GM_WRITE));
  EXPECT_FALSE(free_for(pages(0, 4), GM_READ_WRITE));
  remove(reader);
  for (const gm_mode mode : {GM_WRITE, GM_READ_WRITE}) {
    declared writer(pages(0, 4), mode);
    ASSERT_EQ(begin(writer), status::ok);
    for (const gm_mode other : {GM_READ, GM_WRITE, GM_READ_WRITE}) EXPECT_FALSE(free_for(pages(0, 4), other));
    remove(writer);
  }
}

TEST_F(leases, conflicts_are_of_pages_not_of_bytes) {
  declared writer({page_bytes, page_bytes + 1}, GM_WRITE);
  ASSERT_EQ(begin(writer), status::ok);
  EXPECT_FALSE(free_for({2 * page_bytes - 1, 2 * page_bytes}, GM_WRITE)) << "other bytes of the page";
  EXPECT_TRUE(free_for({2 * page_bytes, 2 * page_bytes + 1}, GM_WRITE));
  EXPECT_TRUE(free_for({0, page_bytes}, GM_WRITE));
  EXPECT_FALSE(free_for({0, page_bytes + 1}, GM_WRITE));
  remove(writer);
}

TEST_F(leases, every_range_counts) {
  declared several({{pages(0, 1), GM_READ}, {pages(10, 11), GM_WRITE}});
  ASSERT_EQ(begin(several), status::ok);
  EXPECT_TRUE(free_for(pages(0, 1), GM_READ));
  EXPECT_FALSE(free_for(pages(0, 1), GM_WRITE));
  EXPECT_FALSE(free_for(pages(10, 11), GM_READ));
  EXPECT_TRUE(free_for(pages(1, 10), GM_WRITE)) << "what lies between is free";
  remove(several);
}

TEST_F(leases, ones_own_open_lease_is_busy_and_nothing_has_begun) {
  declared first(pages(0, 4), GM_WRITE);
  ASSERT_EQ(begin(first), status::ok);
  for (const conflicts how : {conflicts::order, conflicts::wait, conflicts::never}) {
    declared second(pages(2, 8), GM_READ);
    EXPECT_EQ(begin(second, how), status::busy);
    EXPECT_EQ(second.l.state, lease_state::none);
  }
  EXPECT_EQ(table.active(), 1U);
  remove(first);
}

TEST_F(leases, behind_an_ended_one_it_begins_at_once_and_knows_the_fence) {
  declared a(pages(0, 4), GM_WRITE);
  declared b(pages(8, 12), GM_WRITE);
  declared unrelated(pages(20, 21), GM_WRITE);
  for (declared* d : {&a, &b, &unrelated}) ASSERT_EQ(begin(*d), status::ok);
  end(a, 7);
  end(b, 8);
  end(unrelated, 9);
  declared both({{pages(3, 5), GM_READ}, {pages(8, 9), GM_READ}});
  ASSERT_EQ(begin(both, conflicts::order), status::ok);
  ASSERT_EQ(both.order.fences.size(), 2U);
  EXPECT_EQ(both.order.fences[0].at.position, 7U);
  EXPECT_EQ(both.order.fences[1].at.position, 8U);
  ASSERT_EQ(both.order.ranges.size(), 2U);
  EXPECT_EQ(both.order.ranges[0].begin, a.ranges[0].bytes.begin);
  for (declared* d : {&a, &b, &unrelated, &both}) remove(*d);
}

TEST_F(leases, nothing_in_the_way_leaves_no_order) {
  declared d(pages(0, 1), GM_WRITE);
  d.order.fences.push_back(fence(3));  // left from an earlier try
  d.order.ranges.push_back({0, 1});
  ASSERT_EQ(begin(d), status::ok);
  EXPECT_TRUE(d.order.fences.empty());
  EXPECT_TRUE(d.order.ranges.empty());
  remove(d);
}

TEST_F(leases, never_does_not_come_behind_ended_ones_either) {
  declared ended(pages(0, 1), GM_WRITE);
  ASSERT_EQ(begin(ended), status::ok);
  end(ended);
  EXPECT_FALSE(free_for(pages(0, 1), GM_READ));
  remove(ended);
  EXPECT_TRUE(free_for(pages(0, 1), GM_READ));
}

// Another thread that begins one lease and removes it when told to.
class other_thread {
 public:
  other_thread(lease_table& table, declared& d, conflicts how) {
    thread_ = std::thread([this, &table, &d, how] {
      result = table.begin_or_wait(d.l, how, d.order);
      begun = true;
      while (!leave_) std::this_thread::yield();
      if (result == status::ok) table.remove(d.l);
    });
  }
  ~other_thread() { leave(); }
  void leave() {
    leave_ = true;
    if (thread_.joinable()) thread_.join();
  }
  // Long enough for a thread to get as far as it can.
  bool still_waits() const {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return !begun;
  }
  void wait_for_begin() const {
    while (!begun) std::this_thread::yield();
  }
  std::atomic<bool> begun{false};
  status result = status::ok;

 private:
  std::atomic<bool> leave_{false};
  std::thread thread_;
};

TEST_F(leases, an_open_one_of_another_thread_is_waited_for_until_it_ends) {
  declared mine(pages(0, 4), GM_WRITE);
  ASSERT_EQ(begin(mine), status::ok);
  declared theirs(pages(0, 1), GM_READ);
  other_thread other(table, theirs, conflicts::order);
  EXPECT_TRUE(other.still_waits());
  end(mine, 5);
  other.wait_for_begin();
  EXPECT_EQ(other.result, status::ok);
  ASSERT_EQ(theirs.order.fences.size(), 1U) << "it comes behind what has ended meanwhile";
  EXPECT_EQ(theirs.order.fences[0].at.position, 5U);
  other.leave();
  remove(mine);
}

TEST_F(leases, who_waits_for_ended_ones_waits_until_they_are_gone) {
  declared mine(pages(0, 4), GM_WRITE);
  ASSERT_EQ(begin(mine), status::ok);
  declared theirs(pages(0, 1), GM_READ);
  other_thread other(table, theirs, conflicts::wait);
  end(mine);
  EXPECT_TRUE(other.still_waits());
  remove(mine);
  other.wait_for_begin();
  EXPECT_EQ(other.result, status::ok);
  EXPECT_TRUE(theirs.order.fences.empty());
  other.leave();
}

TEST_F(leases, one_that_is_given_up_lets_waiters_through) {
  declared mine(pages(0, 4), GM_WRITE);
  ASSERT_EQ(begin(mine), status::ok);
  declared theirs(pages(0, 1), GM_WRITE);
  other_thread other(table, theirs, conflicts::order);
  EXPECT_TRUE(other.still_waits());
  remove(mine);  // still open
  other.wait_for_begin();
  EXPECT_EQ(other.result, status::ok);
  other.leave();
}

// A thread with one lease open, which then waits for another.
struct circle_member {
  circle_member(lease_table& table, std::uint64_t own, std::uint64_t wanted)
      : mine(pages(own, own + 1), GM_WRITE), next(pages(wanted, wanted + 1), GM_WRITE), table_(table) {
    thread_ = std::thread([this] {
      EXPECT_EQ(table_.begin_or_wait(mine.l, conflicts::order, mine.order), status::ok);
      open = true;
      while (!go) std::this_thread::yield();
      result = table_.begin_or_wait(next.l, conflicts::order, next.order);
      done = true;
      if (result == status::ok) table_.remove(next.l);
      table_.remove(mine.l);
    });
    while (!open) std::this_thread::yield();
  }
  ~circle_member() { thread_.join(); }
  declared mine;
  declared next;
  std::atomic<bool> open{false};
  std::atomic<bool> go{false};
  std::atomic<bool> done{false};
  status result = status::ok;

 private:
  lease_table& table_;
  std::thread thread_;
};

TEST_F(leases, the_last_of_a_circle_of_two_is_told) {
  declared mine(pages(0, 1), GM_WRITE);
  ASSERT_EQ(begin(mine), status::ok);
  circle_member other(table, 1, 0);
  other.go = true;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(other.done);
  declared closing(pages(1, 2), GM_READ);
  EXPECT_EQ(begin(closing), status::busy);
  EXPECT_EQ(begin(closing, conflicts::wait), status::busy);
  remove(mine);  // and the other goes on
}

TEST_F(leases, the_last_of_a_circle_of_three_is_told) {
  declared mine(pages(0, 1), GM_WRITE);
  ASSERT_EQ(begin(mine), status::ok);
  circle_member second(table, 1, 0);
  circle_member third(table, 2, 1);
  second.go = true;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  third.go = true;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(second.done);
  EXPECT_FALSE(third.done);
  declared closing(pages(2, 3), GM_READ);
  EXPECT_EQ(begin(closing), status::busy);
  remove(mine);
}

TEST_F(leases, a_line_is_no_circle) {
  circle_member holder(table, 5, 6);  // open, and waits for nobody
  circle_member waits(table, 1, 5);
  waits.go = true;
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  declared mine(pages(1, 2), GM_READ);
  other_thread also(table, mine, conflicts::order);
  EXPECT_TRUE(also.still_waits()) << "not busy: the line moves on by itself";
  holder.go = true;
  also.wait_for_begin();
  EXPECT_EQ(also.result, status::ok);
  also.leave();
}

// Whoever has been let through, but has not woken yet, waits for nobody.
TEST_F(leases, a_wait_that_is_over_closes_no_circle) {
  for (int round = 0; round < 50; ++round) {
    declared mine(pages(0, 1), GM_WRITE);
    ASSERT_EQ(begin(mine), status::ok);
    circle_member other(table, 1, 0);
    other.go = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    end(mine);  // the other may go on from here, and this thread has nothing open
    declared next(pages(1, 2), GM_WRITE);
    ASSERT_EQ(begin(next), status::ok) << last_error();
    remove(next);
    remove(mine);
  }
}

TEST_F(leases, the_cpu_may_read_what_is_only_read) {
  const thread_id self = this_thread();
  declared reader(pages(4, 6), GM_READ);
  ASSERT_EQ(begin(reader), status::ok);
  EXPECT_EQ(table.cpu_verdict(page(4), cpu_access::read, self), verdict::free);
  EXPECT_EQ(table.cpu_verdict(page(4), cpu_access::write, self), verdict::own);
  EXPECT_EQ(table.cpu_verdict(page(4), cpu_access::write, self + 1), verdict::wait);
  for (const std::uint64_t outside : {3, 6})
    EXPECT_EQ(table.cpu_verdict(page(outside), cpu_access::write, self), verdict::free);
  end(reader);
  EXPECT_EQ(table.cpu_verdict(page(5), cpu_access::write, self), verdict::wait) << "ended: its fence will come";
  remove(reader);
  EXPECT_EQ(table.cpu_verdict(page(5), cpu_access::write, self), verdict::free);
}

TEST_F(leases, the_cpu_waits_for_writers) {
  const thread_id self = this_thread();
  declared writer(pages(4, 6), GM_WRITE);
  ASSERT_EQ(begin(writer), status::ok);
  for (const cpu_access access : {cpu_access::read, cpu_access::write}) {
    EXPECT_EQ(table.cpu_verdict(page(4), access, self), verdict::own);
    EXPECT_EQ(table.cpu_verdict(page(4), access, self + 1), verdict::wait);
  }
  end(writer);
  EXPECT_EQ(table.cpu_verdict(page(4), cpu_access::read, self), verdict::wait);
  remove(writer);
}

TEST_F(leases, ones_own_open_lease_outweighs_an_ended_one) {
  declared ended(pages(0, 1), GM_READ);
  ASSERT_EQ(begin(ended), status::ok);
  end(ended);
  declared open(pages(0, 1), GM_READ);
  ASSERT_EQ(begin(open), status::ok);
  EXPECT_EQ(table.cpu_verdict(page(0), cpu_access::write, this_thread()), verdict::own);
  remove(ended);
  remove(open);
}

TEST_F(leases, cover_their_pages_on_their_node_until_they_are_gone) {
  declared d({page_bytes - 1, page_bytes + 1}, GM_READ, 2);
  ASSERT_EQ(begin(d), status::ok);
  EXPECT_TRUE(table.covers(page(0)));
  EXPECT_TRUE(table.covers(page(1)));
  EXPECT_FALSE(table.covers(page(2)));
  EXPECT_TRUE(table.covers(page(0), 2));
  EXPECT_FALSE(table.covers(page(0), 1));
  end(d);
  EXPECT_TRUE(table.covers(page(1)));
  remove(d);
  EXPECT_FALSE(table.covers(page(1)));
}

TEST_F(leases, room_is_to_be_had_from_others_that_will_end) {
  const thread_id self = this_thread();
  declared asking(pages(0, 1), GM_READ);
  ASSERT_EQ(begin(asking), status::ok);
  EXPECT_EQ(table.room_on(1, self), room::none) << "alone";
  declared elsewhere(pages(9, 10), GM_READ, 2);
  ASSERT_EQ(begin(elsewhere), status::ok);
  table.set_gathered(elsewhere.l);
  end(elsewhere);
  EXPECT_EQ(table.room_on(1, self), room::none) << "of another node";
  declared ended(pages(1, 2), GM_READ);
  ASSERT_EQ(begin(ended), status::ok);
  EXPECT_EQ(table.room_on(1, self + 1), room::none) << "it has not gathered, and may get nothing";
  table.set_gathered(ended.l);
  EXPECT_EQ(table.room_on(1, self), room::own) << "only this thread can end it";
  EXPECT_EQ(table.room_on(1, self + 1), room::wait) << "to another thread it is another's";
  end(ended);
  EXPECT_EQ(table.room_on(1, self), room::wait);
  remove(ended);
  declared host(pages(5, 6), GM_WRITE, host_node);
  ASSERT_EQ(begin(host), status::ok);
  table.set_gathered(host.l);
  EXPECT_EQ(table.room_on(1, self + 1), room::wait) << "nothing is evicted onto what the host writes";
  for (declared* d : {&asking, &elsewhere, &host}) remove(*d);
}

TEST_F(leases, who_holds_room_itself_does_not_wait_for_other_open_ones) {
  declared asking(pages(0, 1), GM_READ);
  declared own(pages(1, 2), GM_READ);
  ASSERT_EQ(begin(asking), status::ok);
  ASSERT_EQ(begin(own), status::ok);
  table.set_gathered(own.l);
  declared theirs(pages(2, 3), GM_READ);
  other_thread other(table, theirs, conflicts::order);
  other.wait_for_begin();
  table.set_gathered(theirs.l);
  EXPECT_EQ(table.room_on(1, this_thread()), room::own);
  remove(own);
  EXPECT_EQ(table.room_on(1, this_thread()), room::wait);
  other.leave();
  remove(asking);
}

TEST_F(leases, open_ones_over_a_range_are_known) {
  declared reader({page_bytes, page_bytes + 1}, GM_READ);
  ASSERT_EQ(begin(reader), status::ok);
  EXPECT_EQ(reader.l.owner, this_thread());
  EXPECT_TRUE(table.open_over(pages(0, 4)));
  EXPECT_TRUE(table.open_over({2 * page_bytes - 1, 2 * page_bytes})) << "of pages, and of readers too";
  EXPECT_FALSE(table.open_over(pages(2, 4)));
  EXPECT_FALSE(table.open_over(pages(0, 1)));
  end(reader);
  EXPECT_FALSE(table.open_over(pages(0, 4)));
  EXPECT_EQ(table.active(), 1U);
  remove(reader);
}

TEST_F(leases, a_released_one_is_in_nobodys_way_and_still_has_its_room) {
  declared writer(pages(0, 2), GM_WRITE);
  ASSERT_EQ(begin(writer), status::ok);
  table.set_gathered(writer.l);
  end(writer);
  const std::uint32_t before = table.changes().now();
  table.release(writer.l);
  EXPECT_NE(table.changes().now(), before);
  EXPECT_TRUE(free_for(pages(0, 2), GM_READ_WRITE));
  EXPECT_EQ(table.cpu_verdict(page(0), cpu_access::write, this_thread()), verdict::free);
  EXPECT_FALSE(table.covers(page(0)));
  EXPECT_FALSE(table.covers(page(0), 1));
  declared asking(pages(8, 9), GM_READ);
  ASSERT_EQ(begin(asking), status::ok);
  EXPECT_EQ(table.room_on(1, this_thread()), room::wait) << "its frames come free at its going";
  remove(writer);
  EXPECT_EQ(table.room_on(1, this_thread()), room::none);
  remove(asking);
}

TEST_F(leases, an_open_one_that_is_released_lets_waiters_through) {
  declared mine(pages(0, 4), GM_WRITE);
  ASSERT_EQ(begin(mine), status::ok);
  declared theirs(pages(0, 1), GM_WRITE);
  other_thread other(table, theirs, conflicts::wait);
  EXPECT_TRUE(other.still_waits());
  table.release(mine.l);
  other.wait_for_begin();
  EXPECT_EQ(other.result, status::ok);
  other.leave();
  remove(mine);
}

TEST_F(leases, every_end_and_every_going_is_a_change) {
  declared d(pages(0, 1), GM_READ);
  ASSERT_EQ(begin(d), status::ok);
  const std::uint32_t open = table.changes().now();
  end(d);
  const std::uint32_t ended = table.changes().now();
  EXPECT_NE(ended, open);
  remove(d);
  EXPECT_NE(table.changes().now(), ended);
}

TEST_F(leases, can_be_walked_in_the_order_of_their_beginning) {
  declared a(pages(0, 1), GM_READ);
  declared b(pages(0, 1), GM_READ);
  declared c(pages(0, 1), GM_READ);
  for (declared* d : {&a, &b, &c}) ASSERT_EQ(begin(*d), status::ok);
  table.set_resident(b.l);
  remove(a);
  std::vector<const lease*> seen;
  table.for_each([&](const lease& l) { seen.push_back(&l); });
  EXPECT_EQ(seen, (std::vector<const lease*>{&b.l, &c.l}));
  EXPECT_TRUE(b.l.resident);
  EXPECT_FALSE(c.l.resident);
  remove(c);
  remove(b);
}

TEST_F(leases, many_threads_take_turns) {
  std::atomic<int> inside{0};
  std::vector<std::thread> running;
  for (int t = 0; t < 4; ++t)
    running.emplace_back([&] {
      for (int i = 0; i < 300; ++i) {
        declared d(pages(0, 3), GM_READ_WRITE);
        ASSERT_EQ(table.begin_or_wait(d.l, conflicts::wait, d.order), status::ok);
        EXPECT_EQ(inside.fetch_add(1), 0);
        inside.fetch_sub(1);
        table.end(d.l, {});
        table.remove(d.l);
      }
    });
  for (std::thread& t : running) t.join();
}

TEST(lease_table_death_test, what_has_not_begun_cannot_end) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  lease_table table;
  declared d(pages(0, 1), GM_READ);
  EXPECT_DEATH(table.end(d.l, {}), "check failed");
  EXPECT_DEATH(table.remove(d.l), "check failed");
}

// ---- CPU accesses that would wait for ever ------------------------------------------------------------------------

constexpr cpu_access write = cpu_access::write;

TEST_F(leases, work_of_the_stream_that_releases_a_lease_is_not_let_wait_for_it) {
  auto* const stream = reinterpret_cast<device::stream*>(0x1000);
  auto* const other = reinterpret_cast<device::stream*>(0x2000);
  const thread_id worker = this_thread() + 1;
  declared a(pages(0, 4), GM_READ);
  a.l.stream = stream;
  ASSERT_EQ(begin(a), status::ok);
  EXPECT_EQ(table.cpu_verdict(page(0), write, worker), verdict::wait);
  EXPECT_EQ(table.cpu_verdict(page(0), write, worker, {other, 5}), verdict::wait);
  EXPECT_EQ(table.cpu_verdict(page(0), write, worker, {stream, 5}), verdict::own_stream);
  EXPECT_EQ(table.cpu_verdict(page(0), cpu_access::read, worker, {stream, 5}), verdict::free) << "it only reads";
  table.end(a.l, {nullptr, {stream, 6}});
  EXPECT_EQ(table.cpu_verdict(page(0), write, worker, {stream, 5}), verdict::own_stream);
  EXPECT_EQ(table.cpu_verdict(page(0), write, worker, {stream, 6}), verdict::own_stream);
  EXPECT_EQ(table.cpu_verdict(page(0), write, worker, {stream, 7}), verdict::wait) << "it is released ahead of it";
  EXPECT_EQ(table.cpu_verdict(page(0), write, worker, {other, 5}), verdict::wait);
  remove(a);
}

// Leases of three threads, which are gone meanwhile: who waits for whom is what the test says.
class circles : public leases {
 protected:
  void SetUp() override {
    for (unsigned t = 0; t < 3; ++t) on_another_thread([&] { ASSERT_EQ(begin(scopes[t]), status::ok); });
  }
  void TearDown() override {
    for (declared& d : scopes)
      if (d.l.state != lease_state::none) remove(d);
  }
  thread_id thread(unsigned t) const { return scopes[t].l.owner; }
  verdict touches(unsigned t, std::uint64_t in_page) { return table.admit_cpu(page(in_page), write, thread(t)); }

  declared scopes[3] = {{pages(0, 1), GM_READ_WRITE}, {pages(1, 2), GM_READ_WRITE}, {pages(2, 3), GM_READ_WRITE}};
};

TEST_F(circles, the_last_touch_of_two_or_three_closes_it) {
  EXPECT_EQ(touches(0, 1), verdict::wait);
  EXPECT_EQ(touches(2, 0), verdict::wait) << "a chain";
  EXPECT_EQ(touches(1, 0), verdict::circle);
  EXPECT_EQ(touches(1, 2), verdict::circle) << "by way of the third";
  EXPECT_EQ(table.admit_cpu(page(2), write, this_thread()), verdict::wait) << "who has no lease is in no circle";
}

TEST_F(circles, a_lease_that_ends_is_waited_for_by_nobody_and_its_owner_is_awake) {
  EXPECT_EQ(touches(0, 1), verdict::wait);
  end(scopes[1]);
  EXPECT_EQ(touches(1, 0), verdict::wait) << "what the first waits for comes by itself";
  EXPECT_EQ(touches(2, 0), verdict::wait);
  end(scopes[2]);
  EXPECT_EQ(touches(0, 2), verdict::wait);
}

TEST_F(circles, an_owner_who_ended_one_of_his_leases_was_awake) {
  EXPECT_EQ(touches(0, 1), verdict::wait);
  remove(scopes[0]);
  on_another_thread([&] { ASSERT_EQ(begin(scopes[0]), status::ok); });
  EXPECT_EQ(touches(1, 0), verdict::wait);
}

TEST_F(circles, who_is_served_waits_no_longer) {
  EXPECT_EQ(touches(0, 1), verdict::wait);
  EXPECT_EQ(touches(0, 9), verdict::free);
  EXPECT_EQ(touches(1, 0), verdict::wait);
}

TEST_F(leases, a_begin_is_refused_where_the_owner_sleeps_in_a_touch) {
  declared mine(pages(0, 1), GM_READ_WRITE);
  declared other(pages(1, 2), GM_READ_WRITE);
  ASSERT_EQ(begin(mine), status::ok);
  on_another_thread([&] {
    ASSERT_EQ(begin(other), status::ok);
    EXPECT_EQ(table.admit_cpu(page(0), write, this_thread()), verdict::wait);
  });
  declared second(pages(1, 2), GM_READ);
  EXPECT_EQ(begin(second), status::busy) << "it would sleep for ever";
  EXPECT_NE(std::string(last_error()).find("waits for a scope that this one has open"), std::string::npos);
  remove(other);
  remove(mine);
}

TEST_F(leases, a_touch_offends_where_the_owner_waits_to_begin) {
  declared mine(pages(0, 1), GM_READ_WRITE);
  ASSERT_EQ(begin(mine), status::ok);
  declared other(pages(1, 2), GM_READ_WRITE);
  std::atomic<bool> has_one{false};
  std::thread waiter([&] {
    ASSERT_EQ(begin(other), status::ok);
    has_one = true;
    declared second(pages(0, 1), GM_READ);
    EXPECT_EQ(begin(second), status::ok) << last_error();
    remove(second);
    remove(other);
  });
  while (!has_one) std::this_thread::yield();
  while (table.cpu_verdict(page(1), write, this_thread()) != verdict::circle) std::this_thread::yield();
  remove(mine);
  waiter.join();
}

}  // namespace
}  // namespace gm
