// SPDX-License-Identifier: Apache-2.0
// system_calls_test.cpp - the kernel as a user of managed memory: read, write, send, recv, fork, while devices hold it.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>
#include <vector>

#include "model/live_runtime.h"
#include "model/watchdog.h"
#include "stress/device_work.h"

namespace gm::test {
namespace {

constexpr std::size_t words = 3 * page_size / sizeof(std::uint64_t) + 100;
constexpr std::size_t bytes = words * sizeof(std::uint64_t);

std::uint64_t* filled(std::uint64_t base) {
  auto* memory = static_cast<std::uint64_t*>(gm_malloc(bytes));
  for (std::size_t i = 0; i < words; ++i) memory[i] = base + i;
  return memory;
}

// All of it, in pieces as the kernel likes.
bool write_all(int fd, const void* from, std::size_t left) {
  for (const char* at = static_cast<const char*>(from); left != 0;) {
    const ssize_t done = write(fd, at, left);
    if (done <= 0) return false;
    at += done;
    left -= static_cast<std::size_t>(done);
  }
  return true;
}

bool read_all(int fd, void* to, std::size_t left) {
  for (char* at = static_cast<char*>(to); left != 0;) {
    const ssize_t done = read(fd, at, left);
    if (done <= 0) return false;
    at += done;
    left -= static_cast<std::size_t>(done);
  }
  return true;
}

TEST(system_calls, read_and_write_work_on_what_a_device_holds) {
  const live_runtime runtime({.name = "thread"});
  ASSERT_TRUE(runtime.started());
  watchdog dog("system_calls");
  const int rounds = static_cast<int>(20 * test_scale()) + 3;
  std::vector<std::thread> pairs;
  for (int pair = 0; pair < 3; ++pair)
    pairs.emplace_back([&, pair] {
      int ends[2];
      ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
      device_stream stream(1 + pair % 2);
      std::uint64_t* const from = filled(7);
      std::uint64_t* const to = filled(0);
      std::uint64_t base = 7;
      for (int round = 0; round < rounds; ++round) {
        dog.progress();
        ASSERT_EQ(add_on_device(stream, from, words, 3), GM_OK) << gm_last_error();
        ASSERT_EQ(add_on_device(stream, to, words, 1), GM_OK) << gm_last_error();
        base += 3;
        // Neither side has been waited for, and no page of either is on the host.
        std::thread reader([&] { EXPECT_TRUE(read_all(ends[1], to, bytes)); });
        EXPECT_TRUE(write_all(ends[0], from, bytes));
        reader.join();
        for (std::size_t i = 0; i < words; ++i) ASSERT_EQ(to[i], base + i) << "word " << i << ", round " << round;
      }
      close(ends[0]);
      close(ends[1]);
      gm_free(from);
      gm_free(to);
    });
  for (std::thread& t : pairs) t.join();
  EXPECT_TRUE(debug_settle(30 * second_ns));
  EXPECT_TRUE(table_is_valid_at_rest());
}

TEST(system_calls, send_and_recv_work_too) {
  const live_runtime runtime({.name = "thread", .window = false});
  ASSERT_TRUE(runtime.started());
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
  {
    device_stream stream(2);
    std::uint64_t* const memory = filled(1);
    ASSERT_EQ(add_on_device(stream, memory, words, 1), GM_OK) << gm_last_error();
    ASSERT_EQ(send(ends[0], memory + 10, 4096, 0), 4096) << strerror(errno);
    ASSERT_EQ(add_on_device(stream, memory, words, 1), GM_OK) << gm_last_error();
    ASSERT_EQ(recv(ends[1], memory + 8192, 4096, 0), 4096) << strerror(errno);
    for (std::size_t i = 0; i < words; ++i) {
      const bool received = i >= 8192 && i < 8192 + 512;
      ASSERT_EQ(memory[i], received ? 2 + 10 + (i - 8192) : 3 + i) << "word " << i;
    }
    gm_free(memory);
  }
  close(ends[0]);
  close(ends[1]);
}

TEST(system_calls, on_memory_that_is_not_the_callers_fail_with_EFAULT) {
  const live_runtime runtime({.name = "thread"});
  ASSERT_TRUE(runtime.started());
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  {
    device_stream stream(1);
    std::uint64_t* const memory = filled(1);
    const gm_access access{memory, bytes, GM_READ_WRITE};
    gm_scope scope = nullptr;
    ASSERT_EQ(gm_access_begin(stream.get(), &access, 1, &scope), GM_OK) << gm_last_error();
    EXPECT_EQ(write(ends[1], memory, 100), -1) << "a scope of this thread is open over it";
    EXPECT_EQ(errno, EFAULT);
    ASSERT_EQ(gm_access_end(scope), GM_OK);
    EXPECT_EQ(write(ends[1], memory, 100), 100) << "the scope has ended";
    gm_free(memory);
    ASSERT_TRUE(debug_settle(30 * second_ns));
    EXPECT_EQ(write(ends[1], memory, 100), -1) << "freed";
    EXPECT_EQ(errno, EFAULT);
    // The same addresses, handed out again, are as good as new.
    std::uint64_t* const again = filled(5);
    EXPECT_EQ(again, memory) << "this test relies on it";
    EXPECT_EQ(write(ends[1], again, 100), 100);
    gm_free(again);
  }
  close(ends[0]);
  close(ends[1]);
}

TEST(system_calls, a_forked_child_has_none_of_it_and_the_parent_goes_on) {
  const live_runtime runtime({.name = "thread"});
  ASSERT_TRUE(runtime.started());
  watchdog dog("fork");
  std::atomic<bool> over{false};
  std::thread busy([&] {
    device_stream stream(1);
    std::uint64_t* const memory = filled(0);
    std::uint64_t base = 0;
    while (!over) {
      ASSERT_EQ(add_on_device(stream, memory, words, 1), GM_OK) << gm_last_error();
      ++base;
      for (std::size_t i = 0; i < words; i += 997) ASSERT_EQ(memory[i], base + i);
    }
    gm_free(memory);
  });
  std::uint64_t* const memory = filled(3);
  for (int round = 0; round < 8; ++round) {
    dog.progress();
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      // Only what is safe in the child of a process with threads. A child that fails to die says so by its exit status.
      signal(SIGSEGV, SIG_DFL);
      if (gm_malloc(10) != nullptr) _exit(1);
      *const_cast<volatile std::uint64_t*>(memory) = 1;
      _exit(2);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status)) << "exit status " << WEXITSTATUS(status);
    EXPECT_EQ(WTERMSIG(status), SIGSEGV);
    ASSERT_EQ(memory[words - 1], 3 + words - 1);
  }
  over = true;
  busy.join();
  gm_free(memory);
}

}  // namespace
}  // namespace gm::test
