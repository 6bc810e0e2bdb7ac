// SPDX-License-Identifier: Apache-2.0
// parked_faults_test.cpp - CPU threads that touch what a scope or queued work holds: they sleep, others are served, and
// they go on when it is done.
#include <thread>

#include "stress/queued_work.h"

namespace gm::test {
namespace {

class parked_faults : public queued_work {
 protected:
  static std::uint64_t parked() { return stats_now().parked_faults; }
  // Until so many have been parked, or one was not.
  static void wait_until_parked(std::uint64_t count, const std::atomic<unsigned>& passed) {
    while (parked() < count && passed.load() == 0) std::this_thread::yield();
  }
};

// Some arrive while the scope is open, some when it has ended and its kernel has not run.
TEST_P(parked_faults, go_on_when_the_work_is_done) {
  constexpr std::size_t touchers_each_time = 4;
  constexpr std::size_t step = block_size / 2 / touchers_each_time;
  std::uint8_t* p = filled(block_size, 1);
  std::uint8_t* beside = filled(page_size, 5);
  gate g;
  std::atomic<unsigned> passed{0};
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> threads;
  const auto place = [&](std::size_t i) { return i * step + 100 * i; };
  const auto touch_and_wait_until_parked = [&] {
    const std::uint64_t before = parked();
    for (std::size_t i = 0; i < touchers_each_time; ++i)
      threads.emplace_back([&, at = place(threads.size())] {
        const std::uint8_t seen = static_cast<volatile std::uint8_t*>(p)[at];
        passed.fetch_add(1);
        if (seen != written_byte(2, at)) wrong.fetch_add(1);
        static_cast<volatile std::uint8_t*>(p)[at] = 77;
      });
    wait_until_parked(before + touchers_each_time, passed);
  };
  const open_scope scope = begin(first_, p, block_size, GM_READ_WRITE);
  touch_and_wait_until_parked();
  EXPECT_EQ(passed.load(), 0u) << "while the scope is open";
  EXPECT_EQ(g.hold(first_.get()), GM_OK) << gm_last_error();
  launch(scope, 1, 2);
  end(scope);
  touch_and_wait_until_parked();
  // The handlers serve others meanwhile.
  expect_contents(beside, page_size, 5);
  EXPECT_EQ(passed.load(), 0u) << "while the kernel is queued";
  g.open();
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong.load(), 0u);
  std::vector<std::uint8_t> wanted(block_size);
  fill_with(wanted.data(), block_size, 2);
  for (std::size_t i = 0; i < threads.size(); ++i) wanted[place(i)] = 77;
  EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), p));
  expect_kernels_were_right();
  gm_free(p);
  gm_free(beside);
}

// A prefetch to the host maps what it brings, but not what queued work of somebody else still writes or reads.
TEST_P(parked_faults, stay_parked_behind_a_prefetch_to_the_host) {
  std::vector<std::uint8_t> plain(page_size);
  const struct {
    const char* what;
    bool queued_writes;
    bool cpu_writes;
  } cases[] = {{"a CPU write before a queued write", true, true},
               {"a CPU read before a queued write", true, false},
               {"a CPU write before a queued read", false, true}};
  for (const auto& each : cases) {
    SCOPED_TRACE(each.what);
    std::uint8_t* p = filled(page_size, 1);
    gate g;
    ASSERT_EQ(g.hold(first_.get()), GM_OK);
    if (each.queued_writes)
      ASSERT_EQ(gm_memset(p, 7, page_size, GM_HOST, first_.get()), GM_OK) << gm_last_error();
    else
      ASSERT_EQ(gm_memcpy(plain.data(), p, page_size, GM_HOST, first_.get()), GM_OK) << gm_last_error();
    ASSERT_EQ(gm_prefetch(p, page_size, GM_HOST, other_device_.get()), GM_OK) << gm_last_error();
    const std::uint64_t before = parked();
    std::atomic<unsigned> passed{0};
    std::uint8_t seen = 0;
    std::thread toucher([&] {
      volatile std::uint8_t* at = p + 5;
      if (each.cpu_writes)
        *at = 99;
      else
        seen = *at;
      passed.fetch_add(1);
    });
    wait_until_parked(before + 1, passed);
    EXPECT_EQ(passed.load(), 0u);
    g.open();
    toucher.join();
    ASSERT_EQ(first_.wait(), GM_OK) << gm_last_error();
    EXPECT_EQ(p[5], each.cpu_writes ? 99 : 7);
    if (!each.cpu_writes) EXPECT_EQ(seen, 7);
    if (!each.queued_writes) EXPECT_EQ(plain[5], written_byte(1, 5));
    gm_free(p);
  }
}

INSTANTIATE_TEST_SUITE_P(stress, parked_faults, testing::ValuesIn(every_flavour(0, {tight})), flavour_name);

}  // namespace
}  // namespace gm::test
