// SPDX-License-Identifier: Apache-2.0
#include "base/mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "unit/seeded.h"

namespace gm {
namespace {

static_assert(sizeof(mutex<lock_rank::block>) == 4, "one stands in every block");

TEST(mutex, keeps_threads_apart) {
  mutex<lock_rank::block> lock;
  constexpr int threads = 4;
  const int rounds = test::scaled(20000);
  long count = 0;  // not atomic: only the lock protects it
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t)
    running.emplace_back([&] {
      for (int i = 0; i < rounds; ++i) {
        lock_guard guard(lock);
        ++count;
      }
    });
  for (std::thread& t : running) t.join();
  EXPECT_EQ(count, static_cast<long>(threads) * rounds);
}

TEST(mutex, a_sleeper_wakes) {
  mutex<lock_rank::block> lock;
  std::atomic<bool> entered{false};
  lock.lock();
  std::thread sleeper([&] {
    lock_guard guard(lock);
    entered = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // long past the spinning
  EXPECT_FALSE(entered);
  lock.unlock();
  sleeper.join();
  EXPECT_TRUE(entered);
}

TEST(mutex, all_of_several_sleepers_wake) {
  mutex<lock_rank::block> lock;
  std::atomic<int> entered{0};
  lock.lock();
  std::vector<std::thread> sleepers;
  for (int i = 0; i < 4; ++i)
    sleepers.emplace_back([&] {
      lock_guard guard(lock);
      ++entered;
    });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  lock.unlock();
  for (std::thread& t : sleepers) t.join();
  EXPECT_EQ(entered, 4);
}

TEST(mutex, try_lock_says_whether_it_got_it) {
  mutex<lock_rank::block> lock;
  EXPECT_TRUE(lock.try_lock());
  bool theirs = true;
  std::thread([&] { theirs = lock.try_lock(); }).join();
  EXPECT_FALSE(theirs);
  lock.unlock();
  std::thread([&] {
    theirs = lock.try_lock();
    if (theirs) lock.unlock();
  }).join();
  EXPECT_TRUE(theirs);
}

TEST(mutex, a_guard_that_was_unlocked_does_not_unlock_again) {
  mutex<lock_rank::block> lock;
  {
    lock_guard guard(lock);
    guard.unlock();
    ASSERT_TRUE(lock.try_lock());  // somebody else's from here on
  }
  bool theirs = true;
  std::thread([&] { theirs = lock.try_lock(); }).join();
  EXPECT_FALSE(theirs);
  lock.unlock();
}

TEST(mutex, locks_may_be_given_up_in_any_order) {
  mutex<lock_rank::block> outer;
  mutex<lock_rank::frames> inner;
  outer.lock();
  inner.lock();
  outer.unlock();
  inner.unlock();
  outer.lock();  // and nothing is left behind
  outer.unlock();
}

TEST(event, past_events_do_not_make_a_waiter_sleep) {
  event changed;
  const std::uint32_t seen = changed.now();
  changed.happened();
  changed.wait_past(seen);  // returns at once, or the test hangs
  EXPECT_NE(changed.now(), seen);
}

TEST(event, no_wake_up_is_lost) {
  event changed;
  std::atomic<int> stock{0};
  const int rounds = test::scaled(5000);
  std::thread consumer([&] {
    for (int taken = 0; taken < rounds;) {
      const std::uint32_t seen = changed.now();
      if (stock.load() > 0) {
        --stock;
        ++taken;
      } else {
        changed.wait_past(seen);
      }
    }
  });
  for (int i = 0; i < rounds; ++i) {
    ++stock;
    changed.happened();
  }
  consumer.join();
  EXPECT_EQ(stock, 0);
}

TEST(event, wakes_everybody) {
  event changed;
  const std::uint32_t seen = changed.now();
  std::vector<std::thread> waiters;
  for (int i = 0; i < 4; ++i) waiters.emplace_back([&] { changed.wait_past(seen); });
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  changed.happened();
  for (std::thread& t : waiters) t.join();
}

#ifdef GMEM_DEBUG_CHECKS

class lock_ranks : public testing::Test {
 protected:
  lock_ranks() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};
using lock_ranks_death_test = lock_ranks;

TEST_F(lock_ranks_death_test, a_lower_rank_under_a_higher_one_dies) {
  mutex<lock_rank::frames> inner;
  mutex<lock_rank::block> outer;
  EXPECT_DEATH(
      {
        inner.lock();
        outer.lock();
      },
      "lock of rank [0-9]+ taken while ranks 0x[0-9a-f]+ are held");
}

TEST_F(lock_ranks_death_test, two_of_one_rank_die) {
  mutex<lock_rank::block> one;
  mutex<lock_rank::block> another;
  EXPECT_DEATH(
      {
        one.lock();
        another.lock();
      },
      "lock of rank [0-9]+ taken while ranks 0x[0-9a-f]+ are held");
}

TEST_F(lock_ranks_death_test, unlocking_what_is_not_held_dies) {
  mutex<lock_rank::block> lock;
  EXPECT_DEATH(lock.unlock(), "check failed");
}

TEST_F(lock_ranks, rising_ranks_and_other_threads_are_fine) {
  mutex<lock_rank::block> outer;
  mutex<lock_rank::frames> inner;
  lock_guard guard(inner);
  std::thread([&] {
    lock_guard first(outer);  // another thread holds nothing
  }).join();
  mutex<lock_rank::moves> innermost;
  lock_guard also(innermost);
}

TEST_F(lock_ranks, a_failed_try_lock_holds_nothing) {
  mutex<lock_rank::moves> high;
  std::thread holder;
  std::atomic<bool> held{false};
  std::atomic<bool> leave{false};
  holder = std::thread([&] {
    lock_guard guard(high);
    held = true;
    while (!leave) std::this_thread::yield();
  });
  while (!held) std::this_thread::yield();
  EXPECT_FALSE(high.try_lock());
  mutex<lock_rank::block> low;
  lock_guard guard(low);  // would die had the try been recorded
  leave = true;
  holder.join();
}

#endif

}  // namespace
}  // namespace gm
