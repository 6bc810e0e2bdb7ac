// SPDX-License-Identifier: Apache-2.0
// offending_touches_test.cpp - touches that must end in a signal, never in a hang, in a program that takes the signals:
// it goes on, nothing has changed, and other threads notice nothing.
#include <atomic>
#include <thread>
#include <vector>

#include "stress/device_work.h"
#include "stress/offences.h"
#include "unit/caught_signal.h"

namespace gm::test {
namespace {

int signal_of_write(std::uint8_t* at) {
  return catch_signals::during([&] { *static_cast<volatile std::uint8_t*>(at) = 1; });
}
int signal_of_read(const std::uint8_t* at) {
  return catch_signals::during([&] { (void)*static_cast<const volatile std::uint8_t*>(at); });
}

class offending_touches : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { ASSERT_TRUE(live_.started()); }

  catch_signals catcher_;  // before gmem's own handler
  live_runtime live_{offences_flavour(GetParam())};
  watchdog dog_{"offending_touches"};
};

TEST_P(offending_touches, are_survived_and_change_nothing) {
  for (const offence& o : offences) {
    SCOPED_TRACE(o.name);
    scene s;
    o.commit(s);
    for (std::size_t page = 0; page < s.offending_pages; ++page)
      for (const std::size_t at : {page * page_size, page * page_size + 100}) {
        EXPECT_EQ(signal_of_read(s.offending + at), o.reads_are_fine ? 0 : o.signal) << "at " << at;
        if (o.reads_are_fine) EXPECT_EQ(s.offending[at], s.before);
        EXPECT_EQ(signal_of_write(s.offending + at), o.signal) << "at " << at;
        EXPECT_EQ(catch_signals::address(), s.offending + at);
      }
    s.expect_kept();
    s.undo();
    s.expect_kept();
    for (std::size_t at = 0; at < s.offending_pages * page_size; at += page_size) {
      if (!o.forgivable) {
        EXPECT_EQ(signal_of_write(s.offending + at), o.signal) << "at " << at;
        continue;
      }
      EXPECT_EQ(s.offending[at], s.before) << "at " << at;
      EXPECT_EQ(s.offending[at + 100], s.before) << "at " << at;
      EXPECT_EQ(signal_of_write(s.offending + at), 0) << "at " << at;
    }
    s.free_all();
    EXPECT_TRUE(table_is_valid_at_rest());
    dog_.progress();
  }
}

TEST_P(offending_touches, of_ones_own_scope_are_just_a_wait_to_other_threads) {
  auto* memory = static_cast<std::uint8_t*>(gm_calloc(1, page_size));
  const device_stream stream(1);
  const gm_access access{memory, page_size, GM_READ_WRITE};
  gm_scope scope = nullptr;
  ASSERT_EQ(gm_access_begin(stream.get(), &access, 1, &scope), GM_OK) << gm_last_error();
  std::atomic<bool> through{false};
  const std::uint64_t before = stats_now().parked_faults;
  std::thread innocent([&] {
    memory[1] = 2;
    through = true;
  });
  while (stats_now().parked_faults == before && !through) std::this_thread::yield();
  EXPECT_EQ(signal_of_write(memory), SIGBUS);
  EXPECT_EQ(signal_of_write(memory + 100), SIGBUS) << "again";
  EXPECT_FALSE(through) << "the other thread's access conflicts with the scope";
  ASSERT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
  innocent.join();
  EXPECT_EQ(signal_of_write(memory), 0) << "the scope is over";
  EXPECT_EQ(memory[1], 2);
  gm_free(memory);
}

// Some threads touch wild addresses and one its own open scopes, again and again, while others use memory beside them,
// also in the page that the scopes are over.
TEST_P(offending_touches, of_many_threads_are_not_their_neighbours) {
  constexpr unsigned wild_threads = 3;
  constexpr unsigned users = 2;
  const std::uint64_t rounds = 20 + scaled(200);
  auto* memory = static_cast<std::uint8_t*>(gm_calloc(users, 2 * page_size));
  auto* sums = static_cast<std::uint64_t*>(gm_calloc(1, page_size));
  std::atomic<unsigned> offending{wild_threads + 1};
  std::atomic<unsigned> disturbed{0};
  std::atomic<unsigned> unnoticed{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < wild_threads; ++t)
    threads.emplace_back([&, t] {
      std::uint8_t* const wild = memory + 100 * mebibyte;
      for (std::uint64_t i = 0; i < rounds; ++i) {
        unnoticed += signal_of_write(wild + t * 100) != SIGSEGV ? 1 : 0;
        unnoticed += signal_of_read(wild + (t + 1) * page_size) != SIGSEGV ? 1 : 0;
        dog_.progress();
      }
      offending.fetch_sub(1);
    });
  threads.emplace_back([&] {
    const device_stream stream(1);
    const gm_access access{sums, page_size, GM_READ_WRITE};
    for (std::uint64_t i = 0; i < rounds; ++i) {
      gm_scope scope = nullptr;
      ASSERT_EQ(gm_access_begin(stream.get(), &access, 1, &scope), GM_OK) << gm_last_error();
      unnoticed += signal_of_write(reinterpret_cast<std::uint8_t*>(sums)) != SIGBUS ? 1 : 0;
      EXPECT_TRUE(queue_add(stream, sums, 1, 1)) << gm_last_error();
      ASSERT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
      dog_.progress();
    }
    offending.fetch_sub(1);
  });
  for (unsigned t = 1; t <= users; ++t)
    threads.emplace_back([&, t] {
      std::uint8_t* const mine = memory + (t - 1) * 2 * page_size;
      auto* const beside = reinterpret_cast<std::uint8_t*>(sums + t);
      std::uint8_t round = 0;
      do {
        mine[page_size] = ++round;
        disturbed += gm_prefetch(mine, 2 * page_size, 1, nullptr) != GM_OK || mine[page_size] != round ? 1 : 0;
        disturbed += signal_of_write(beside) != 0 ? 1 : 0;
      } while (offending.load() > 0 && !HasFailure());
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(unnoticed.load(), 0u);
  EXPECT_EQ(disturbed.load(), 0u);
  EXPECT_EQ(sums[0], rounds);
  for (unsigned t = 1; t <= users; ++t) EXPECT_EQ(sums[t], 1u);
  gm_free(memory);
  gm_free(sums);
  expect_nothing_is_kept();
}

INSTANTIATE_TEST_SUITE_P(stress, offending_touches, testing::Values("thread", "inline"), fault_mode_name);

}  // namespace
}  // namespace gm::test
