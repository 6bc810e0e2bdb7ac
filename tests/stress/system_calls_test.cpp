// SPDX-License-Identifier: Apache-2.0
// system_calls_test.cpp - system calls on managed memory, wherever its pages are: the kernel's own access faults as any
// other does. Thread mode; in line they may fail with EFAULT, and no more than that.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <thread>
#include <vector>

#include "model/oracle_kernel.h"
#include "model/watchdog.h"
#include "stress/stress_flavours.h"

namespace gm::test {
namespace {

constexpr std::size_t bytes = block_size + 5 * page_size + 321;

class system_calls : public testing::Test {
 protected:
  explicit system_calls(const flavour& f = stress_flavour("thread", true, "thread", 32 * mebibyte)) : live_(f) {}
  void SetUp() override {
    ASSERT_TRUE(live_.started());
    from_ = static_cast<std::uint8_t*>(gm_malloc(bytes));
    to_ = static_cast<std::uint8_t*>(gm_malloc(bytes));
    wanted_.resize(bytes);
    fill_with(wanted_.data(), bytes, 4);
    fill_with(from_, bytes, 4);
  }
  void TearDown() override {
    gm_free(from_);
    gm_free(to_);
    expect_nothing_is_kept();
  }

  // Written by the device, on either side of a page that the host has.
  void to_devices() {
    ASSERT_EQ(gm_memcpy(from_, wanted_.data(), bytes, 1, nullptr), GM_OK) << gm_last_error();
    ASSERT_EQ(gm_memset(to_, 0xee, bytes, 2, nullptr), GM_OK) << gm_last_error();
    to_[3 * page_size] = 1;
    const volatile std::uint8_t* touched = from_ + 7 * page_size;
    (void)*touched;
  }
  void expect_copied() { EXPECT_TRUE(std::equal(wanted_.begin(), wanted_.end(), to_)); }

  // call(at, count) until all is through; it says how much it did.
  template <typename Call>
  static void transfer(Call&& call) {
    for (std::size_t at = 0; at < bytes;) {
      const ssize_t done = call(at, bytes - at);
      ASSERT_GT(done, 0) << std::strerror(errno);
      at += static_cast<std::size_t>(done);
    }
  }
  template <typename Send, typename Receive>
  void at_once(Send&& send_some, Receive&& receive_some) {
    std::thread sender([&] { transfer(send_some); });
    transfer(receive_some);
    sender.join();
    expect_copied();
  }

  live_runtime live_;
  watchdog dog_{"system_calls"};
  std::uint8_t* from_ = nullptr;
  std::uint8_t* to_ = nullptr;
  std::vector<std::uint8_t> wanted_;
};

TEST_F(system_calls, a_pipe) {
  int ends[2] = {};
  ASSERT_EQ(pipe(ends), 0);
  to_devices();
  at_once([&](std::size_t at, std::size_t count) { return write(ends[1], from_ + at, count); },
          [&](std::size_t at, std::size_t count) { return read(ends[0], to_ + at, count); });
  close(ends[0]);
  close(ends[1]);
}

TEST_F(system_calls, a_stream_socket) {
  int ends[2] = {};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  to_devices();
  at_once([&](std::size_t at, std::size_t count) { return send(ends[0], from_ + at, count, 0); },
          [&](std::size_t at, std::size_t count) { return recv(ends[1], to_ + at, count, 0); });
  close(ends[0]);
  close(ends[1]);
}

TEST_F(system_calls, messages) {
  int ends[2] = {};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
  to_devices();
  constexpr std::size_t one = 3000;
  for (std::size_t at = 0; at + one <= bytes; at += one) {
    ASSERT_EQ(send(ends[0], from_ + at, one, 0), static_cast<ssize_t>(one)) << std::strerror(errno);
    ASSERT_EQ(recv(ends[1], to_ + at, one, 0), static_cast<ssize_t>(one)) << std::strerror(errno);
  }
  EXPECT_TRUE(std::equal(wanted_.begin(), wanted_.begin() + bytes / one * one, to_));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(system_calls, a_file) {
  const int file = memfd_create("system_calls", 0);
  ASSERT_GE(file, 0);
  to_devices();
  ASSERT_EQ(pwrite(file, from_, bytes, 0), static_cast<ssize_t>(bytes)) << std::strerror(errno);
  const iovec parts[] = {
      {to_, 100}, {to_ + 100, 2 * page_size}, {to_ + 100 + 2 * page_size, bytes - 100 - 2 * page_size}};
  ASSERT_EQ(preadv(file, parts, 3, 0), static_cast<ssize_t>(bytes)) << std::strerror(errno);
  expect_copied();
  close(file);
}

// NOMAP pages: nothing has ever been there.
TEST_F(system_calls, memory_that_nobody_touched) {
  auto* fresh = static_cast<std::uint8_t*>(gm_calloc(bytes, 1));
  const int file = memfd_create("system_calls", 0);
  ASSERT_GE(file, 0);
  ASSERT_EQ(pwrite(file, fresh, bytes, 0), static_cast<ssize_t>(bytes)) << std::strerror(errno);
  auto* other = static_cast<std::uint8_t*>(gm_calloc(bytes, 1));
  ASSERT_EQ(pread(file, other, bytes, 0), static_cast<ssize_t>(bytes)) << std::strerror(errno);
  for (std::size_t i = 0; i < bytes; ++i) ASSERT_EQ(other[i], 0);
  close(file);
  gm_free(fresh);
  gm_free(other);
}

// Offences inside a system call are its error: no signal, no hang.
TEST_F(system_calls, offences_are_efault) {
  int ends[2] = {};
  ASSERT_EQ(pipe(ends), 0);
  const auto refused = [&](void* p) {
    errno = 0;
    const ssize_t wrote = write(ends[1], p, 100);
    const bool write_refused = wrote == -1 && errno == EFAULT;
    if (wrote > 0) {
      std::uint8_t sink[100];
      (void)!read(ends[0], sink, sizeof sink);
    }
    (void)!write(ends[1], wanted_.data(), 100);
    errno = 0;
    const ssize_t got = read(ends[0], p, 100);
    const bool read_refused = got == -1 && errno == EFAULT;
    std::uint8_t sink[200];
    if (got != 100) (void)!read(ends[0], sink, sizeof sink);
    return write_refused && read_refused;
  };
  // Freed.
  auto* freed = static_cast<std::uint8_t*>(gm_malloc(block_size));
  freed[100] = 1;
  gm_free(freed);
  EXPECT_TRUE(refused(freed + 100));
  // Never allocated.
  EXPECT_TRUE(refused(from_ + 200 * mebibyte));
  // In a scope of this thread.
  gm_stream stream = nullptr;
  ASSERT_EQ(gm_stream_create(1, &stream), GM_OK);
  const gm_access access{from_, page_size, GM_READ_WRITE};
  gm_scope scope = nullptr;
  ASSERT_EQ(gm_access_begin(stream, &access, 1, &scope), GM_OK);
  EXPECT_TRUE(refused(from_));
  ASSERT_EQ(gm_access_end(scope), GM_OK);
  ASSERT_EQ(gm_stream_synchronize(stream), GM_OK);
  // And afterwards all is as it was.
  EXPECT_FALSE(refused(from_));
  EXPECT_TRUE(std::equal(wanted_.begin(), wanted_.begin() + 100, from_));
  ASSERT_EQ(gm_stream_destroy(stream), GM_OK);
  close(ends[0]);
  close(ends[1]);
}

class system_calls_in_line : public system_calls {
 protected:
  system_calls_in_line() : system_calls(stress_flavour("inline", true, "inline", 32 * mebibyte)) {}
};

// An absent page may refuse the call, there or before; when the CPU has touched it, it does not.
TEST_F(system_calls_in_line, move_what_they_say_or_are_efault) {
  const int file = memfd_create("system_calls", 0);
  ASSERT_GE(file, 0);
  to_devices();
  std::size_t refusals = 0;
  const auto refused = [&](ssize_t done) {
    if (done >= 0) return false;
    EXPECT_EQ(errno, EFAULT) << std::strerror(errno);
    EXPECT_LE(++refusals, 2 * (bytes / page_size + 2)) << "a page refuses although the CPU has touched it";
    return !HasFailure();
  };
  transfer([&](std::size_t at, std::size_t count) {
    const ssize_t done = pwrite(file, from_ + at, count, static_cast<off_t>(at));
    if (!refused(done)) return done;
    EXPECT_EQ(static_cast<const volatile std::uint8_t*>(from_)[at], wanted_[at]);
    return pwrite(file, from_ + at, 1, static_cast<off_t>(at));
  });
  transfer([&](std::size_t at, std::size_t count) {
    const ssize_t done = pread(file, to_ + at, count, static_cast<off_t>(at));
    if (!refused(done)) return done;
    static_cast<volatile std::uint8_t*>(to_)[at] = 0;
    return pread(file, to_ + at, 1, static_cast<off_t>(at));
  });
  EXPECT_GT(refusals, 0u) << "no page was absent: the test tests nothing";
  expect_copied();
  close(file);
}

}  // namespace
}  // namespace gm::test
