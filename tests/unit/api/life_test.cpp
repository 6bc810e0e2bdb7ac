// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

class life : public running_gmem {
 protected:
  void SetUp() override { start(small_options()); }
};

TEST_F(life, words_and_version) {
  EXPECT_STREQ(gm_status_string(GM_OK), "GM_OK");
  EXPECT_STREQ(gm_status_string(GM_ERROR_SYSTEM), "GM_ERROR_SYSTEM");
  EXPECT_STREQ(gm_status_string(static_cast<gm_status>(GM_ERROR_SYSTEM + 1)), "unknown status");
  const std::string version = std::to_string(GM_VERSION_MAJOR) + "." + std::to_string(GM_VERSION_MINOR) + "." +
                              std::to_string(GM_VERSION_PATCH);
  EXPECT_EQ(gm_version(), version);
}

TEST_F(life, it_starts_once) {
  EXPECT_EQ(gm_init(nullptr), GM_ERROR_INVALID_ARGUMENT);
  expect_error("gmem runs already");
}

TEST_F(life, it_does_not_stop_while_anything_lives) {
  byte* p = make(page);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY);
  expect_error("1 allocations live");
  touch_write(p, 3);
  EXPECT_EQ(*p, 3) << "nothing has changed";
  free(p);
  gm_stream s = nullptr;
  ASSERT_EQ(gm_stream_create(1, &s), GM_OK);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY);
  expect_error("1 streams live");
  EXPECT_EQ(gm_stream_destroy(s), GM_OK);
}

TEST_F(life, an_open_scope_over_freed_memory_keeps_it_up) {
  byte* p = make_written(page);
  gm_scope scope = begin(nullptr, p, page, GM_READ);
  free(p);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY);
  end(scope);
}

TEST_F(life, after_shutdown_every_call_says_so_until_init) {
  ASSERT_EQ(gm_shutdown(), GM_OK);
  int x = 0;
  gm_node_info info;
  gm_stream s = nullptr;
  gm_mapping m;
  gm_stats st{};
  std::size_t n = 0;
  st.size = sizeof st;
  const gm_access access{&x, 1, GM_READ};
  gm_scope scope = nullptr;
  EXPECT_EQ(gm_node_info_get(0, &info), GM_ERROR_INVALID_ARGUMENT);
  expect_error("gm_init");
  EXPECT_EQ(gm_stream_create(1, &s), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stream_from_native(1, nullptr, &s), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stream_synchronize(nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_access_begin(nullptr, &access, 1, &scope), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_access_end(nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_prefetch(&x, 1, 0, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_advise(&x, 1, GM_ADVISE_COLD, 0), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_discard(&x, 1), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_pin(&x, 1, 0), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_unpin(&x, 1, 0), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_memcpy(&x, &x, 1, 0, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_memset(&x, 0, 1, 0, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_query(&x, &m), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_residency(&x, 1, 0, &n), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stats_get(&st), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stats_reset(), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_node_count(), 0);
  EXPECT_EQ(gm_device_pointer(&x, 1), nullptr);
  EXPECT_EQ(gm_usable_size(&x), 0U);
  EXPECT_EQ(gm_malloc(1), nullptr);
  EXPECT_EQ(gm_calloc(1, 1), nullptr);
  EXPECT_EQ(gm_realloc(nullptr, 1), nullptr);
  EXPECT_EQ(gm_aligned_alloc(16, 1), nullptr);
  expect_error("gm_init");
  gm_free(nullptr);
  EXPECT_EQ(gm_stream_destroy(nullptr), GM_OK);
  start(small_options());
  EXPECT_EQ(*make_written(page), 1);
}

TEST_F(life, a_failed_start_can_be_tried_again) {
  ASSERT_EQ(gm_shutdown(), GM_OK);
  gm_options wrong = small_options();
  wrong.backend = "opencl";
  EXPECT_EQ(gm_init(&wrong), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_malloc(1), nullptr) << "nothing runs";
  wrong.backend = "hip";  // which is not installed here
  EXPECT_EQ(gm_init(&wrong), GM_ERROR_UNSUPPORTED);
  inject::fail_nth(inject::point::thread_start, 2);  // the second handler
  const gm_options right = small_options();
  EXPECT_NE(gm_init(&right), GM_OK);
  inject::fail_nth(inject::point::thread_start, 0);
  start(small_options());
  EXPECT_EQ(*make_written(page), 1);
}

TEST_F(life, nodes_are_described) {
  ASSERT_EQ(gm_node_count(), 3);
  gm_node_info info{};
  ASSERT_EQ(gm_node_info_get(GM_HOST, &info), GM_OK);
  EXPECT_STREQ(info.backend, "host");
  EXPECT_EQ(info.budget_bytes, 64 * mib);
  EXPECT_EQ(info.free_bytes, 64 * mib);
  EXPECT_EQ(info.same_address, 1);
  for (const int node : {1, 2}) {
    ASSERT_EQ(gm_node_info_get(node, &info), GM_OK);
    EXPECT_STREQ(info.backend, "sim");
    EXPECT_NE(info.name[0], '\0');
    EXPECT_EQ(info.total_bytes, 16 * mib);
    EXPECT_EQ(info.budget_bytes, 16 * mib);
    EXPECT_EQ(info.has_window, 1);
    EXPECT_EQ(info.same_address, 0);
  }
  byte* p = make_written(page);
  ASSERT_EQ(gm_prefetch(p, page, 2, nullptr), GM_OK);
  ASSERT_EQ(gm_node_info_get(2, &info), GM_OK);
  EXPECT_EQ(info.free_bytes, 14 * mib) << "a frame";
  ASSERT_EQ(gm_node_info_get(GM_HOST, &info), GM_OK);
  EXPECT_EQ(info.free_bytes, 64 * mib - page);
}

TEST_F(life, a_forked_child_is_told_and_the_parent_goes_on) {
  byte* p = make_written(page);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    gm_mapping m;
    if (gm_query(p, &m) != GM_ERROR_UNSUPPORTED) _exit(1);
    if (std::string(gm_last_error()).find("forked child") == std::string::npos) _exit(2);
    if (gm_malloc(1) != nullptr || gm_node_count() != 0 || gm_usable_size(p) != 0) _exit(3);
    if (gm_init(nullptr) != GM_ERROR_UNSUPPORTED || gm_shutdown() != GM_ERROR_UNSUPPORTED) _exit(4);
    touch_read(p);
    _exit(5);
  }
  int ended = 0;
  waitpid(child, &ended, 0);
  ASSERT_TRUE(WIFSIGNALED(ended)) << "exit code " << WEXITSTATUS(ended);
  EXPECT_EQ(WTERMSIG(ended), SIGSEGV) << "touching it is SIGSEGV, never silent corruption";
  EXPECT_EQ(*p, 1);
}

TEST_F(life, the_programs_signal_handlers_come_back) {
  struct sigaction now {};
  sigaction(SIGBUS, nullptr, &now);
  const auto ours = now.sa_sigaction;
  ASSERT_EQ(gm_shutdown(), GM_OK);
  sigaction(SIGBUS, nullptr, &now);
  EXPECT_NE(now.sa_sigaction, ours);
  start(small_options());
}

class first_call : public running_gmem {};

TEST_F(first_call, starts_from_the_environment) {
  // In a process of its own: this one may have been shut down, which is not the same as never started.
  EXPECT_EXIT(
      {
        setenv("GM_BACKEND", "sim", 1);
        setenv("GM_SIM_DEVICES", "3", 1);
        setenv("GM_ARENA_SIZE", "1G", 1);
        std::_Exit(gm_node_count());
      },
      testing::ExitedWithCode(4), "");
  EXPECT_EXIT(
      {
        setenv("GM_FAULT_MODE", "sometimes", 1);
        if (gm_malloc(1) != nullptr) std::_Exit(1);
        std::_Exit(std::string(gm_last_error()).find("GM_FAULT_MODE=sometimes") != std::string::npos ? 7 : 2);
      },
      testing::ExitedWithCode(7), "");
}

TEST_F(first_call, of_shutdown_or_free_starts_nothing) {
  EXPECT_EXIT(
      {
        if (gm_shutdown() != GM_OK) std::_Exit(1);
        gm_free(nullptr);
        if (gm_usable_size(&signals_) != 0) std::_Exit(2);
        std::_Exit(running() == nullptr ? 7 : 3);
      },
      testing::ExitedWithCode(7), "");
  EXPECT_DEATH(gm_free(&signals_), "gmem: gm_free\\(0x[0-9a-f]+\\): gmem does not run");
}

TEST_F(first_call, racing_first_calls_start_one_runtime) {
  EXPECT_EXIT(
      {
        setenv("GM_BACKEND", "sim", 1);
        setenv("GM_ARENA_SIZE", "1G", 1);
        std::vector<std::thread> threads;
        std::atomic<int> good{0};
        for (int i = 0; i < 4; ++i)
          threads.emplace_back([&] {
            void* p = gm_malloc(1);
            if (p == nullptr) return;
            touch_write(p, 1);
            gm_free(p);
            ++good;
          });
        for (std::thread& t : threads) t.join();
        std::_Exit(good);
      },
      testing::ExitedWithCode(4), "");
}

TEST_F(life, a_good_start_leaves_no_error) {
  gm_options o = small_options();
  o.backend = "auto";  // looks for others first
  EXPECT_EQ(gm_malloc(~std::size_t{0}), nullptr);
  (void)gm_shutdown();
  start(o);
  EXPECT_STREQ(gm_last_error(), "");
}

// ---- Others see a runtime when it serves faults, and no other -------------------------------------------------------

// Runs look() in another thread, over and over, while act() runs in this one.
template <typename Act, typename Look>
void while_watched(Act&& act, Look&& look) {
  std::atomic<bool> over{false};
  std::atomic<bool> looking{false};
  std::thread watcher([&] {
    while (!over) {
      look();
      looking = true;
    }
  });
  while (!looking) std::this_thread::yield();
  act();
  over = true;
  watcher.join();
}

class coming_up : public running_gmem {
 protected:
  static gm_options in_line() { return small_options({.fault_mode = "inline"}); }
};

TEST_F(coming_up, whoever_sees_it_has_its_signal_handler) {
  struct sigaction outside {};
  sigaction(SIGBUS, nullptr, &outside);
  std::atomic<int> too_early{0};
  const gm_options options = in_line();
  while_watched(
      [&] {
        for (int i = 0; i < 200; ++i) {
          ASSERT_EQ(gm_init(&options), GM_OK) << gm_last_error();
          std::this_thread::sleep_for(std::chrono::microseconds(200));  // the watcher sees it once
          ASSERT_EQ(gm_shutdown(), GM_OK) << gm_last_error();
        }
      },
      [&] {
        while (running() != nullptr) std::this_thread::yield();
        for (int i = 0; i < 1'000'000 && running() == nullptr; ++i) {
        }
        if (running() == nullptr) return;
        struct sigaction now {};
        sigaction(SIGBUS, nullptr, &now);
        if (now.sa_sigaction == outside.sa_sigaction && running() != nullptr) ++too_early;
      });
  EXPECT_EQ(too_early, 0);
}

TEST_F(coming_up, one_that_fails_to_start_is_seen_by_nobody) {
  std::atomic<int> seen{0};
  const gm_options options = small_options();
  while_watched(
      [&] {
        for (int i = 0; i < 50; ++i) {
          inject::fail_nth(inject::point::thread_start, 2);  // the second handler
          EXPECT_NE(gm_init(&options), GM_OK);
        }
        inject::fail_nth(inject::point::thread_start, 0);
      },
      [&] {
        if (running() != nullptr) ++seen;
      });
  EXPECT_EQ(seen, 0);
}

// ---- What the process may not have ----------------------------------------------------------------------------------

TEST_F(coming_up, more_addresses_than_there_are_fail_with_the_remedy) {
  for (const int window : {1, -1}) {
    gm_options o = small_options();
    o.sim_window = window;
    o.arena_size_bytes = std::uint64_t{1} << 46;  // not three times: the arena, its alias, the window
    o.sim_devices = 4;
    EXPECT_EQ(gm_init(&o), GM_ERROR_NO_MEMORY);
    expect_error("GM_ARENA_SIZE");
  }
}

TEST_F(coming_up, files_that_may_not_be_large_are_an_error_and_no_signal) {
  EXPECT_EXIT(
      {
        rlimit small{};
        small.rlim_cur = small.rlim_max = mib;
        setrlimit(RLIMIT_FSIZE, &small);
        const gm_options o = small_options();
        const gm_status result = gm_init(&o);
        std::fputs(gm_last_error(), stderr);
        std::_Exit(result == GM_ERROR_SYSTEM ? 7 : 1);
      },
      testing::ExitedWithCode(7), "ulimit -f");
}

}  // namespace
}  // namespace gm::test
