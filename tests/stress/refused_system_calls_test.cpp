// SPDX-License-Identifier: Apache-2.0
// refused_system_calls_test.cpp - an offence inside a system call is EFAULT of that call, and of nothing else: when the
// call has returned, the page is as before, to its thread and to all others.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <thread>
#include <vector>

#include "stress/device_work.h"
#include "stress/offences.h"
#include "unit/caught_signal.h"

namespace gm::test {
namespace {

class refused_system_calls : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(live_.started());
    ASSERT_EQ(pipe(pipe_), 0);
    ASSERT_GE(zero_, 0);
  }
  void TearDown() override {
    for (const int fd : {zero_, pipe_[0], pipe_[1]}) close(fd);
    expect_nothing_is_kept();
  }

  // The kernel writes there, or reads from there: errno, 0 when it did.
  int write_to(std::uint8_t* p) const { return read(zero_, p, 10) == 10 ? 0 : errno; }
  int read_from(const std::uint8_t* p) const {
    if (write(pipe_[1], p, 10) != 10) return errno;
    std::uint8_t sink[10];
    return read(pipe_[0], sink, sizeof sink) == sizeof sink ? 0 : errno;
  }
  static std::vector<std::uint8_t*> pages(std::size_t count) {
    std::vector<std::uint8_t*> all(count);
    for (std::uint8_t*& p : all) p = static_cast<std::uint8_t*>(gm_malloc(page_size));
    return all;
  }
  template <typename F>
  static void on_another_thread(F&& act) {
    std::thread(act).join();
  }

  catch_signals catcher_;  // before gmem's own handler
  live_runtime live_{offences_flavour("thread")};
  watchdog dog_{"refused_system_calls"};
  int zero_ = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  int pipe_[2] = {-1, -1};
};

TEST_F(refused_system_calls, without_host_memory_fail_until_there_is_some) {
  std::vector<std::uint8_t*> kept = pages(host_budget_pages);
  std::vector<std::uint8_t*> wanted = pages(host_budget_pages);
  for (std::uint8_t* p : kept) *p = 1;
  for (int again = 0; again < 2; ++again)
    for (std::uint8_t* p : wanted) {
      EXPECT_EQ(write_to(p), EFAULT);
      EXPECT_EQ(read_from(p), EFAULT);
    }
  for (std::uint8_t* p : kept) gm_free(p);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    switch (i % 3) {
      case 0:
        EXPECT_EQ(write_to(wanted[i]), 0) << i;
        break;
      case 1:
        on_another_thread([&] { EXPECT_EQ(read_from(wanted[i]), 0) << i; });
        break;
      default:
        EXPECT_EQ(catch_signals::during([&] { *wanted[i] = 1; }), 0) << i;
    }
  }
  for (std::uint8_t* p : wanted) gm_free(p);
}

TEST_F(refused_system_calls, into_one_s_own_scope_leave_the_page_to_who_may_read_it) {
  auto* p = static_cast<std::uint8_t*>(gm_malloc(page_size));
  std::fill(p, p + page_size, std::uint8_t{3});
  const gm_access access{p, page_size, GM_READ};
  gm_scope scope = nullptr;
  ASSERT_EQ(gm_access_begin(nullptr, &access, 1, &scope), GM_OK) << gm_last_error();
  for (std::uint64_t i = 0; i < 1 + scaled(50); ++i) {
    EXPECT_EQ(write_to(p + 4096), EFAULT);
    EXPECT_EQ(read_from(p + 4096), 0) << "it reads along";
    on_another_thread([&] { EXPECT_EQ(read_from(p + 4096), 0) << "so does another thread"; });
    on_another_thread([&] { EXPECT_EQ(p[4096], 3); });
    dog_.progress();
  }
  EXPECT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
  EXPECT_EQ(write_to(p + 4096), 0);
  gm_free(p);
}

// A thread that takes no SIGBUS cannot be told that its call is over: the page heals by itself.
TEST_F(refused_system_calls, of_a_thread_that_blocks_sigbus_poison_for_a_moment_only) {
  std::vector<std::uint8_t*> kept = pages(host_budget_pages);
  auto* p = static_cast<std::uint8_t*>(gm_malloc(page_size));
  for (std::uint8_t* k : kept) *k = 1;
  std::atomic<bool> refused{false};
  std::atomic<bool> over{false};
  std::thread deaf([&] {
    sigset_t bus;
    sigemptyset(&bus);
    sigaddset(&bus, SIGBUS);
    pthread_sigmask(SIG_BLOCK, &bus, nullptr);
    EXPECT_EQ(write_to(p), EFAULT);
    refused = true;
    while (!over) std::this_thread::yield();
    pthread_sigmask(SIG_UNBLOCK, &bus, nullptr);  // and what was sent meanwhile does no harm
    EXPECT_EQ(write_to(p), 0);
  });
  while (!refused) std::this_thread::yield();
  for (std::uint8_t* k : kept) gm_free(k);
  while (write_to(p) != 0) std::this_thread::yield();  // else the watchdog
  over = true;
  deaf.join();
  gm_free(p);
}

// More threads at once than gmem keeps an eye on, in system calls and in their own code.
TEST_F(refused_system_calls, and_touches_of_a_crowd_are_all_answered) {
  constexpr unsigned count = condemned::capacity + condemned::capacity / 4;
  auto* p = static_cast<std::uint8_t*>(gm_malloc(page_size));
  std::uint8_t* const wild = p + 100 * mebibyte;
  std::atomic<unsigned> wrong{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < count; ++t)
    threads.emplace_back([&, t] {
      while (!go) std::this_thread::yield();
      for (int i = 0; i < 3; ++i) {
        std::uint8_t* const at = wild + (t * 7 + static_cast<unsigned>(i)) * 4096;
        const bool right =
            t % 2 == 0 ? write_to(at) == EFAULT
                       : catch_signals::during([&] { *static_cast<volatile std::uint8_t*>(at) = 1; }) == SIGSEGV;
        if (!right) wrong.fetch_add(1);
        dog_.progress();
      }
    });
  go = true;
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong.load(), 0u);
  gm_free(p);
}

}  // namespace
}  // namespace gm::test
