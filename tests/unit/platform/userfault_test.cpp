// SPDX-License-Identifier: Apache-2.0
#include "platform/userfault.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/inject.h"
#include "platform/thread.h"
#include "unit/caught_signal.h"
#include "unit/memory_in_core.h"

namespace gm {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t arena_bytes = 4 * block_bytes;
constexpr byte_range page_at(std::uint64_t n) { return {n * page_bytes, (n + 1) * page_bytes}; }
constexpr byte_range os_page_at(std::uint64_t offset) { return {offset, offset + os_page_bytes}; }

// An arena with a real userfaultfd and one handler thread, which notes each fault and does what the test says.
class user_faults : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(memory.create(arena_bytes), status::ok) << last_error();
    ASSERT_EQ(kernel.open(memory, fault_mode::thread), status::ok) << last_error();
    handler = std::thread([this] { handle(); });
  }

  void TearDown() override {
    for (unsigned p = 0; p < static_cast<unsigned>(inject::point::count_); ++p)
      inject::fail_nth(static_cast<inject::point>(p), 0);
    if (!handler.joinable()) return;
    leaving = true;
    (void)load(arena_bytes - os_page_bytes);  // the handler sleeps in a read that only a fault ends
    handler.join();
  }

  void handle() {
    for (;;) {
      cpu_fault fault{};
      if (!kernel.read_fault(fault)) continue;
      if (leaving && fault.offset == arena_bytes - os_page_bytes) {
        (void)kernel.map_zero(os_page_at(fault.offset));
        return;
      }
      const std::scoped_lock guard(lock);
      faults.push_back(fault);
      serve(fault);
      served.notify_all();
    }
  }

  // What the handler does with a fault: makes a zero page, or maps what is there for the access.
  void serve_with(std::function<void(const cpu_fault&)> how) {
    const std::scoped_lock guard(lock);
    serve = std::move(how);
  }
  std::vector<cpu_fault> faults_so_far() {
    const std::scoped_lock guard(lock);
    return faults;
  }
  bool wait_for_faults(std::size_t count) {
    std::unique_lock guard(lock);
    return served.wait_for(guard, 20s, [&] { return faults.size() >= count; });
  }

  unsigned char load(std::uint64_t offset) const {
    return *reinterpret_cast<const volatile unsigned char*>(memory.user(offset));
  }
  void store(std::uint64_t offset, unsigned char value) const {
    *reinterpret_cast<volatile unsigned char*>(memory.user(offset)) = value;
  }

  arena memory;
  userfault kernel;
  std::atomic<bool> leaving{false};
  std::mutex lock;
  std::condition_variable served;
  std::vector<cpu_fault> faults;
  std::function<void(const cpu_fault&)> serve = [this](const cpu_fault& fault) {
    ASSERT_EQ(kernel.map_zero(os_page_at(fault.offset)), status::ok) << last_error();
  };
  std::thread handler;
};

TEST_F(user_faults, a_read_of_nothing_says_where_and_who) {
  EXPECT_EQ(load(3 * page_bytes + 5000), 0);
  const std::vector<cpu_fault> seen = faults_so_far();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].offset, 3 * page_bytes + 4096);
  EXPECT_EQ(seen[0].access, cpu_access::read);
  EXPECT_EQ(seen[0].thread, this_thread());
}

TEST_F(user_faults, a_write_says_write) {
  store(0, 9);
  const std::vector<cpu_fault> seen = faults_so_far();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].access, cpu_access::write);
  EXPECT_EQ(*memory.alias(0), std::byte{9});
}

TEST_F(user_faults, zero_pages_are_writable_and_exist) {
  ASSERT_EQ(kernel.map_zero(page_at(0)), status::ok);
  EXPECT_EQ(test::os_pages_in_core(memory, page_at(0)), test::os_pages_per_page);
  store(page_bytes - 1, 3);
  EXPECT_EQ(load(page_bytes - 1), 3);
  EXPECT_TRUE(faults_so_far().empty());
}

TEST_F(user_faults, map_shows_the_bytes_of_the_alias) {
  std::memset(memory.alias(0), 7, block_bytes);
  ASSERT_EQ(kernel.map({0, block_bytes}, cpu_access::write), status::ok) << last_error();
  EXPECT_EQ(load(0), 7);
  EXPECT_EQ(load(block_bytes - 1), 7);
  store(page_bytes, 8);
  EXPECT_EQ(*memory.alias(page_bytes), std::byte{8});
  EXPECT_TRUE(faults_so_far().empty());
}

TEST_F(user_faults, what_the_memfd_lacks_cannot_be_mapped) {
  EXPECT_NE(kernel.map(page_at(0), cpu_access::read), status::ok);
  EXPECT_EQ(load(0), 0);
  EXPECT_EQ(faults_so_far().size(), 1U) << "it stayed absent";
}

TEST_F(user_faults, a_read_only_page_faults_for_a_write_until_it_is_allowed) {
  ASSERT_EQ(memory.populate(page_at(0)), status::ok);
  ASSERT_EQ(kernel.map(page_at(0), cpu_access::read), status::ok);
  EXPECT_EQ(load(0), 0);
  EXPECT_TRUE(faults_so_far().empty());
  serve_with([this](const cpu_fault& fault) {
    EXPECT_EQ(fault.access, cpu_access::write);
    EXPECT_EQ(kernel.allow_write(page_at(0)), status::ok);
  });
  store(os_page_bytes, 4);
  store(2 * os_page_bytes, 4);  // of the same range: no second fault
  const std::vector<cpu_fault> seen = faults_so_far();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].offset, os_page_bytes);
  EXPECT_EQ(seen[0].thread, this_thread());
}

TEST_F(user_faults, deny_write_takes_writing_and_leaves_reading) {
  ASSERT_EQ(kernel.map_zero(page_at(0)), status::ok);
  store(0, 1);
  ASSERT_EQ(kernel.deny_write(page_at(0)), status::ok);
  EXPECT_EQ(load(0), 1);
  EXPECT_TRUE(faults_so_far().empty());
  serve_with([this](const cpu_fault&) { EXPECT_EQ(kernel.allow_write(page_at(0)), status::ok); });
  store(0, 2);
  EXPECT_EQ(faults_so_far().size(), 1U);
}

TEST_F(user_faults, pages_mapped_already_stay_as_they_are) {
  ASSERT_EQ(memory.populate(page_at(0)), status::ok);
  ASSERT_EQ(kernel.map(os_page_at(os_page_bytes), cpu_access::write), status::ok);
  ASSERT_EQ(kernel.map(page_at(0), cpu_access::read), status::ok) << last_error();
  store(os_page_bytes, 1);
  EXPECT_TRUE(faults_so_far().empty()) << "still writable";
  serve_with([this](const cpu_fault&) { EXPECT_EQ(kernel.allow_write(page_at(0)), status::ok); });
  store(2 * os_page_bytes, 1);
  EXPECT_EQ(faults_so_far().size(), 1U) << "the others were mapped read-only";
}

TEST_F(user_faults, dropped_pages_are_absent_and_their_bytes_stand) {
  ASSERT_EQ(kernel.map_zero(page_at(0)), status::ok);
  store(100, 6);
  ASSERT_EQ(kernel.drop(page_at(0)), status::ok);
  EXPECT_EQ(*memory.alias(100), std::byte{6});
  serve_with([this](const cpu_fault&) { EXPECT_EQ(kernel.map(page_at(0), cpu_access::write), status::ok); });
  EXPECT_EQ(load(100), 6);
  EXPECT_EQ(faults_so_far().size(), 1U);
}

TEST_F(user_faults, a_write_protected_page_that_was_dropped_may_come_back_writable) {
  ASSERT_EQ(kernel.map_zero(page_at(0)), status::ok);
  ASSERT_EQ(kernel.deny_write(page_at(0)), status::ok);
  ASSERT_EQ(kernel.drop(page_at(0)), status::ok);
  ASSERT_EQ(kernel.map(page_at(0), cpu_access::write), status::ok);
  store(0, 1);
  EXPECT_TRUE(faults_so_far().empty());
}

TEST_F(user_faults, punching_the_memfd_drops_the_user_mapping) {
  ASSERT_EQ(kernel.map_zero(page_at(0)), status::ok);
  store(0, 1);
  ASSERT_EQ(memory.punch(page_at(0)), status::ok);
  EXPECT_EQ(load(0), 0);
  EXPECT_EQ(faults_so_far().size(), 1U);
}

TEST_F(user_faults, locked_pages_are_dropped_like_others) {
  ASSERT_EQ(kernel.map_zero(page_at(0)), status::ok);
  if (mlock(memory.user(0), page_bytes) != 0) GTEST_SKIP() << "no memory may be locked here: " << std::strerror(errno);
  store(100, 6);
  ASSERT_EQ(kernel.drop(page_at(0)), status::ok) << last_error();
  serve_with([this](const cpu_fault&) { EXPECT_EQ(kernel.map(page_at(0), cpu_access::write), status::ok); });
  EXPECT_EQ(load(100), 6);
  EXPECT_EQ(faults_so_far().size(), 1U);
  munlock(memory.user(0), page_bytes);
}

TEST_F(user_faults, locking_brings_pages_by_faults) {
  if (mlock(memory.user(0), page_bytes) != 0) GTEST_SKIP() << "no memory may be locked here: " << std::strerror(errno);
  for (const cpu_fault& fault : faults_so_far()) EXPECT_EQ(fault.thread, this_thread());
  EXPECT_EQ(load(0), 0);
  munlock(memory.user(0), page_bytes);
}

TEST_F(user_faults, wake_lets_the_sleeper_try_again) {
  std::atomic<int> times{0};
  serve_with([&](const cpu_fault& fault) {
    if (++times == 3) (void)kernel.map_zero(os_page_at(fault.offset));
  });
  std::thread sleeper([this] { EXPECT_EQ(load(0), 0); });
  ASSERT_TRUE(wait_for_faults(1));
  kernel.wake(page_at(0));
  ASSERT_TRUE(wait_for_faults(2));
  EXPECT_EQ(times, 2) << "once for each wake";
  kernel.wake(page_at(0));
  sleeper.join();
  EXPECT_EQ(times, 3);
}

TEST_F(user_faults, each_of_several_sleepers_is_told_apart) {
  serve_with([](const cpu_fault&) {});
  std::vector<std::thread> sleepers;
  std::atomic<thread_id> ids[3];
  for (unsigned i = 0; i < 3; ++i)
    sleepers.emplace_back([this, &ids, i] {
      ids[i] = this_thread();
      (void)load(i * page_bytes);
    });
  ASSERT_TRUE(wait_for_faults(3));
  for (const cpu_fault& fault : faults_so_far()) EXPECT_EQ(fault.thread, ids[fault.offset / page_bytes].load());
  ASSERT_EQ(kernel.map_zero({0, 3 * page_bytes}), status::ok);  // one call wakes them all
  for (std::thread& t : sleepers) t.join();
}

TEST_F(user_faults, a_system_call_waits_like_a_load) {
  if (kernel.user_mode_only()) GTEST_SKIP() << "only user-mode faults here";
  *memory.alias(0) = std::byte{'x'};
  serve_with([this](const cpu_fault& fault) { (void)kernel.map(os_page_at(fault.offset), cpu_access::write); });
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  EXPECT_EQ(write(ends[1], memory.user(0), 1), 1) << std::strerror(errno);
  char got = 0;
  EXPECT_EQ(read(ends[0], &got, 1), 1);
  EXPECT_EQ(got, 'x');
  EXPECT_EQ(faults_so_far().size(), 1U);
  close(ends[0]);
  close(ends[1]);
}

TEST_F(user_faults, injected_failures_change_nothing) {
  ASSERT_EQ(kernel.map_zero(page_at(0)), status::ok);
  inject::fail_nth(inject::point::drop_pages, 1);
  EXPECT_EQ(kernel.drop(page_at(0)), status::no_memory);
  inject::fail_nth(inject::point::protect_pages, 1);
  EXPECT_EQ(kernel.deny_write(page_at(0)), status::no_memory);
  store(0, 1);
  EXPECT_TRUE(faults_so_far().empty()) << "still mapped and writable";
  inject::fail_nth(inject::point::zero_pages, 1);
  EXPECT_EQ(kernel.map_zero(page_at(1)), status::no_memory);
  inject::fail_nth(inject::point::map_pages, 1);
  EXPECT_EQ(kernel.map(page_at(0), cpu_access::read), status::no_memory);
  EXPECT_EQ(test::os_pages_in_core(memory, page_at(1)), 0U);
}

// With the program's handlers of SIGBUS in place before anything.
class poisoned_pages : public user_faults {
 protected:
  test::catch_signals signals;
};

TEST_F(poisoned_pages, touch_is_sigbus_until_healed) {
  if (!kernel.poison(0)) GTEST_SKIP() << "this kernel cannot poison";
  EXPECT_EQ(signals.during([&] { (void)load(17); }), SIGBUS);
  EXPECT_EQ(signals.address(), memory.user(17));
  EXPECT_EQ(signals.during([&] { store(17, 1); }), SIGBUS);
  EXPECT_TRUE(faults_so_far().empty()) << "no handler is asked";
  ASSERT_EQ(kernel.drop(os_page_at(0)), status::ok);
  EXPECT_EQ(signals.during([&] { (void)load(17); }), 0);
  EXPECT_EQ(faults_so_far().size(), 1U);
}

TEST_F(poisoned_pages, only_that_os_page) {
  ASSERT_EQ(kernel.map_zero(page_at(0)), status::ok);
  if (!kernel.poison(os_page_bytes)) GTEST_SKIP() << "this kernel cannot poison";
  EXPECT_EQ(signals.during([&] { (void)load(0); }), 0);
  EXPECT_EQ(signals.during([&] { (void)load(os_page_bytes); }), SIGBUS);
  EXPECT_EQ(signals.during([&] { (void)load(2 * os_page_bytes); }), 0);
}

TEST_F(poisoned_pages, a_read_only_page_can_be_poisoned) {
  ASSERT_EQ(kernel.map_zero(page_at(0)), status::ok);
  ASSERT_EQ(kernel.deny_write(page_at(0)), status::ok);
  if (!kernel.poison(0)) GTEST_SKIP() << "this kernel cannot poison";
  EXPECT_EQ(signals.during([&] { (void)load(0); }), SIGBUS);
}

TEST_F(poisoned_pages, a_locked_page_can_be_poisoned) {
  ASSERT_EQ(kernel.map_zero(page_at(0)), status::ok);
  if (mlock(memory.user(0), page_bytes) != 0) GTEST_SKIP() << "no memory may be locked here: " << std::strerror(errno);
  if (!kernel.poison(page_bytes)) GTEST_SKIP() << "this kernel cannot poison";
  EXPECT_TRUE(kernel.poison(0)) << last_error();
  EXPECT_EQ(signals.during([&] { (void)load(0); }), SIGBUS);
  munlock(memory.user(0), page_bytes);
}

TEST_F(poisoned_pages, a_sleeper_gets_the_signal) {
  serve_with([this](const cpu_fault& fault) { EXPECT_TRUE(kernel.poison(fault.offset)); });
  if (!kernel.poison(0)) GTEST_SKIP() << "this kernel cannot poison";
  ASSERT_EQ(kernel.drop(os_page_at(0)), status::ok);
  EXPECT_EQ(signals.during([&] { (void)load(0); }), SIGBUS);
  EXPECT_EQ(faults_so_far().size(), 1U);
}

TEST_F(poisoned_pages, a_system_call_gets_efault) {
  if (!kernel.poison(0)) GTEST_SKIP() << "this kernel cannot poison";
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  EXPECT_EQ(write(ends[1], memory.user(0), 1), -1);
  EXPECT_EQ(errno, EFAULT);
  close(ends[0]);
  close(ends[1]);
}

// In line: the thread that touched serves itself, in its signal handler.
class in_line_faults : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(memory.create(arena_bytes), status::ok) << last_error();
    ASSERT_EQ(kernel.open(memory, fault_mode::in_line), status::ok) << last_error();
  }
  arena memory;
  userfault kernel;
};

TEST_F(in_line_faults, an_absent_page_is_sigbus_in_the_thread_that_touched) {
  const test::catch_signals signals;
  EXPECT_EQ(signals.during([&] { (void)*static_cast<volatile std::byte*>(memory.user(99)); }), SIGBUS);
  EXPECT_EQ(signals.address(), memory.user(99));
  ASSERT_EQ(kernel.map_zero(os_page_at(0)), status::ok);
  EXPECT_EQ(signals.during([&] { (void)*static_cast<volatile std::byte*>(memory.user(99)); }), 0);
  ASSERT_EQ(kernel.deny_write(os_page_at(0)), status::ok);
  EXPECT_EQ(signals.during([&] { *static_cast<volatile std::byte*>(memory.user(99)) = std::byte{1}; }), SIGBUS);
}

TEST_F(in_line_faults, a_system_call_on_an_absent_page_gets_efault) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  EXPECT_EQ(write(ends[1], memory.user(0), 1), -1);
  EXPECT_EQ(errno, EFAULT);
  ASSERT_EQ(kernel.map_zero(os_page_at(0)), status::ok);
  EXPECT_EQ(write(ends[1], memory.user(0), 1), 1);
  close(ends[0]);
  close(ends[1]);
}

TEST(opening_userfault, leaves_no_page_mapped_that_was) {
  arena memory;
  ASSERT_EQ(memory.create(arena_bytes), status::ok) << last_error();
  *memory.user(5) = std::byte{9};
  userfault kernel;
  ASSERT_EQ(kernel.open(memory, fault_mode::in_line), status::ok) << last_error();
  const test::catch_signals signals;
  EXPECT_EQ(signals.during([&] { (void)*static_cast<volatile std::byte*>(memory.user(5)); }), SIGBUS);
  ASSERT_EQ(kernel.map(os_page_at(0), cpu_access::read), status::ok) << "the bytes stand: " << last_error();
  EXPECT_EQ(*memory.user(5), std::byte{9});
}

TEST(opening_userfault, without_descriptors_says_so) {
  arena memory;
  ASSERT_EQ(memory.create(arena_bytes), status::ok) << last_error();
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const int lowest_free = dup(STDERR_FILENO);
  close(lowest_free);
  const rlimit none{static_cast<rlim_t>(lowest_free), before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &none);
  userfault kernel;
  const status s = kernel.open(memory, fault_mode::thread);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(s, status::system) << "not a matter of permission";
  EXPECT_NE(std::string(last_error()).find("ulimit -n"), std::string::npos) << last_error();
}

}  // namespace
}  // namespace gm
