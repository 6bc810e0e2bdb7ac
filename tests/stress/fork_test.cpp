// SPDX-License-Identifier: Apache-2.0
// fork_test.cpp - processes forked while threads use gmem: a child that touches managed memory dies of SIGSEGV, a child
// that calls gmem is told, and the parent does not notice.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>
#include <vector>

#include "model/watchdog.h"
#include "stress/device_work.h"
#include "stress/stress_flavours.h"

namespace gm::test {
namespace {

constexpr std::size_t words_count = 2 * block_size / sizeof(std::uint64_t);

// Adds one to every word, again and again, by turns on the device and on the CPU.
struct counting {
  std::uint64_t* words = nullptr;
  std::uint64_t rounds = 0;
  std::atomic<bool> stop{false};

  void run(watchdog& dog) {
    const device_stream stream(1);
    while (!stop.load()) {
      ASSERT_EQ(add_on_device(stream, words, words_count, 1), GM_OK) << gm_last_error();
      for (std::size_t i = 0; i < words_count; ++i) ++words[i];
      rounds += 2;
      dog.progress();
    }
    EXPECT_EQ(stream.wait(), GM_OK) << gm_last_error();
  }
};

template <typename What>
int status_of_child(What what) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    std::signal(SIGBUS, SIG_DFL);
    what();
    _exit(0);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

class forked : public testing::TestWithParam<flavour> {};

TEST_P(forked, while_threads_run) {
  if (under_tsan) GTEST_SKIP() << "ThreadSanitizer does not let a forked child of a threaded process do much";
  const live_runtime live(GetParam());
  ASSERT_TRUE(live.started());
  watchdog dog("fork");
  counting threads_work[2];
  std::vector<std::thread> threads;
  for (counting& c : threads_work) {
    c.words = static_cast<std::uint64_t*>(gm_calloc(words_count, sizeof(std::uint64_t)));
    threads.emplace_back([&c, &dog] { c.run(dog); });
  }
  auto* idle = static_cast<volatile std::uint8_t*>(gm_malloc(page_size));
  idle[0] = 5;
  for (std::uint64_t i = 0; i < scaled(20); ++i) {
    const int read_it = status_of_child([&] { _exit(idle[0]); });
    EXPECT_TRUE(WIFSIGNALED(read_it) && WTERMSIG(read_it) == SIGSEGV) << "status " << read_it;
    const int wrote_it = status_of_child([&] { threads_work[0].words[words_count / 2] = 1; });
    EXPECT_TRUE(WIFSIGNALED(wrote_it) && WTERMSIG(wrote_it) == SIGSEGV) << "status " << wrote_it;
    const int told = status_of_child([&] {
      gm_mapping m{};
      size_t resident = 0;
      if (gm_query(const_cast<std::uint8_t*>(idle), &m) != GM_ERROR_UNSUPPORTED) _exit(1);
      if (gm_malloc(10) != nullptr) _exit(2);
      if (gm_prefetch(const_cast<std::uint8_t*>(idle), 1, 1, nullptr) != GM_ERROR_UNSUPPORTED) _exit(3);
      if (gm_residency(const_cast<std::uint8_t*>(idle), 1, 0, &resident) != GM_ERROR_UNSUPPORTED) _exit(4);
      if (gm_init(nullptr) != GM_ERROR_UNSUPPORTED) _exit(5);
      if (gm_shutdown() != GM_ERROR_UNSUPPORTED) _exit(6);
      if (gm_node_count() != 0) _exit(7);
      if (gm_last_error()[0] == '\0') _exit(8);
    });
    EXPECT_TRUE(WIFEXITED(told) && WEXITSTATUS(told) == 0) << "status " << told;
    dog.progress();
  }
  for (counting& c : threads_work) c.stop.store(true);
  for (std::thread& t : threads) t.join();
  for (counting& c : threads_work) {
    EXPECT_GT(c.rounds, 0u);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < words_count; ++i) wrong += c.words[i] != c.rounds ? 1 : 0;
    EXPECT_EQ(wrong, 0u);
    gm_free(c.words);
  }
  EXPECT_EQ(idle[0], 5);
  gm_free(const_cast<std::uint8_t*>(idle));
  expect_nothing_is_kept();
}

INSTANTIATE_TEST_SUITE_P(stress, forked, testing::ValuesIn(every_flavour(16 * mebibyte)), flavour_name);

}  // namespace
}  // namespace gm::test
