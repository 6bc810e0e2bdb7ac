// SPDX-License-Identifier: Apache-2.0
#include "platform/arena.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "base/inject.h"
#include "unit/memory_in_core.h"

namespace gm {
namespace {

using test::os_pages_in_core;
using test::os_pages_per_page;

constexpr std::uint64_t arena_bytes = 8 * block_bytes;

// Sanitizers make mlockall do nothing.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

bool all_zero(const std::byte* first, std::uint64_t bytes) {
  return std::all_of(first, first + bytes, [](std::byte b) { return b == std::byte{0}; });
}

class arena_memory : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(memory.create(arena_bytes), status::ok) << last_error(); }
  void TearDown() override {
    inject::fail_nth(inject::point::host_memory, 0);
    inject::fail_nth(inject::point::punch_pages, 0);
  }
  arena memory;
};

TEST_F(arena_memory, has_two_mappings_apart_and_aligned_to_blocks) {
  EXPECT_EQ(memory.bytes(), arena_bytes);
  EXPECT_EQ(memory.user_base() % block_bytes, 0U);
  EXPECT_EQ(memory.alias_base() % block_bytes, 0U);
  const auto [low, high] = std::minmax({memory.user_base(), memory.alias_base()});
  EXPECT_GE(high, low + arena_bytes);
}

TEST_F(arena_memory, knows_its_own_addresses) {
  const std::byte* first = memory.user(0);
  EXPECT_TRUE(memory.contains(first));
  EXPECT_FALSE(memory.contains(first - 1));
  EXPECT_TRUE(memory.contains(first + arena_bytes - 1));
  EXPECT_FALSE(memory.contains(first + arena_bytes));
  EXPECT_FALSE(memory.contains(nullptr));
  EXPECT_FALSE(memory.contains(memory.alias(0))) << "the alias is the runtime's";
  EXPECT_EQ(memory.offset_of(memory.user(12345)), 12345U);
}

TEST_F(arena_memory, takes_nothing_until_it_is_touched) {
  EXPECT_EQ(os_pages_in_core(memory, {0, arena_bytes}), 0U);
  *memory.user(5 * block_bytes) = std::byte{1};
  EXPECT_EQ(os_pages_in_core(memory, {0, arena_bytes}), 1U);
}

TEST_F(arena_memory, both_mappings_are_the_same_bytes) {
  *memory.user(page_bytes + 1) = std::byte{7};
  EXPECT_EQ(*memory.alias(page_bytes + 1), std::byte{7});
  *memory.alias(3 * block_bytes) = std::byte{9};
  EXPECT_EQ(*memory.user(3 * block_bytes), std::byte{9});
}

TEST_F(arena_memory, populate_makes_zero_pages_and_keeps_what_was_there) {
  *memory.alias(page_bytes + 5) = std::byte{42};
  ASSERT_EQ(memory.populate({page_bytes, 3 * page_bytes}), status::ok) << last_error();
  EXPECT_EQ(os_pages_in_core(memory, {0, arena_bytes}), 2 * os_pages_per_page) << "that range and no more";
  EXPECT_EQ(*memory.alias(page_bytes + 5), std::byte{42});
  EXPECT_TRUE(all_zero(memory.alias(2 * page_bytes), page_bytes));
}

TEST_F(arena_memory, punch_gives_back_and_reads_zero_on_both_sides) {
  for (const std::uint64_t page : {0, 1, 2}) std::memset(memory.user(page * page_bytes), 1 + int(page), page_bytes);
  ASSERT_EQ(memory.punch({page_bytes, 2 * page_bytes}), status::ok) << last_error();
  EXPECT_EQ(os_pages_in_core(memory, {0, 3 * page_bytes}), 2 * os_pages_per_page);
  EXPECT_TRUE(all_zero(memory.user(page_bytes), page_bytes));
  EXPECT_TRUE(all_zero(memory.alias(page_bytes), page_bytes));
  EXPECT_EQ(*memory.user(page_bytes - 1), std::byte{1}) << "the neighbours stand";
  EXPECT_EQ(*memory.user(2 * page_bytes), std::byte{3});
}

TEST_F(arena_memory, an_empty_range_is_fine) {
  inject::fail_nth(inject::point::host_memory, 1);
  inject::fail_nth(inject::point::punch_pages, 1);
  EXPECT_EQ(memory.populate({page_bytes, page_bytes}), status::ok);
  EXPECT_EQ(memory.punch({page_bytes, page_bytes}), status::ok);
}

TEST_F(arena_memory, a_failing_populate_makes_nothing) {
  inject::fail_nth(inject::point::host_memory, 1);
  EXPECT_EQ(memory.populate({0, page_bytes}), status::no_memory);
  EXPECT_EQ(os_pages_in_core(memory, {0, arena_bytes}), 0U);
  EXPECT_EQ(memory.populate({0, page_bytes}), status::ok);
}

TEST_F(arena_memory, a_failing_punch_keeps_the_bytes) {
  std::memset(memory.user(0), 5, page_bytes);
  inject::fail_nth(inject::point::punch_pages, 1);
  EXPECT_EQ(memory.punch({0, page_bytes}), status::system);
  EXPECT_EQ(*memory.user(0), std::byte{5});
}

// How a child that does something with the arena ends.
template <typename F>
int status_of_child(F&& act) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would turn it into an exit
    act();
    _exit(0);
  }
  int ended = 0;
  waitpid(child, &ended, 0);
  return ended;
}

TEST_F(arena_memory, a_forked_child_has_none_of_it) {
  *memory.user(0) = std::byte{1};
  // Not the arena's end: the child may have mapped something of its own where the hole ends, as sanitizers do.
  for (const std::byte* address : {memory.user(0), memory.alias(0), memory.user(page_bytes)}) {
    const int ended = status_of_child([&] {
      const std::byte seen = *static_cast<const volatile std::byte*>(address);
      asm volatile("" : : "r"(static_cast<unsigned>(seen)));  // some instrumented builds drop a load that nobody uses
    });
    ASSERT_TRUE(WIFSIGNALED(ended));
    EXPECT_EQ(WTERMSIG(ended), SIGSEGV);
  }
  EXPECT_EQ(*memory.user(0), std::byte{1}) << "the parent keeps it";
}

// Descriptors of this process that are arenas.
std::vector<int> arena_descriptors() {
  std::vector<int> found;
  DIR* folder = opendir("/proc/self/fd");
  for (const dirent* entry = readdir(folder); entry != nullptr; entry = readdir(folder)) {
    char target[256] = {};
    const std::string name = std::string("/proc/self/fd/") + entry->d_name;
    if (readlink(name.c_str(), target, sizeof target - 1) > 0 && std::strncmp(target, "/memfd:gmem ", 12) == 0)
      found.push_back(std::atoi(entry->d_name));
  }
  closedir(folder);
  return found;
}

TEST_F(arena_memory, its_descriptor_does_not_survive_exec) {
  const std::vector<int> descriptors = arena_descriptors();
  ASSERT_EQ(descriptors.size(), 1U);
  EXPECT_NE(fcntl(descriptors[0], F_GETFD) & FD_CLOEXEC, 0);
}

TEST(arena, leaves_nothing_behind) {
  {
    arena memory;
    ASSERT_EQ(memory.create(arena_bytes), status::ok);
    ASSERT_EQ(arena_descriptors().size(), 1U);
  }
  EXPECT_TRUE(arena_descriptors().empty());
}

// ---- Over addresses that somebody has reserved -------------------------------------------------------------------

class lent_addresses : public testing::Test {
 protected:
  void SetUp() override {
    void* got = mmap(nullptr, arena_bytes + block_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(got, MAP_FAILED);
    start = reinterpret_cast<std::uintptr_t>(got);
    base = round_up(start, block_bytes);
  }
  void TearDown() override { munmap(reinterpret_cast<void*>(start), arena_bytes + block_bytes); }

  // The range is nobody's to use, and nobody's to map by accident.
  bool is_reserved() const {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      std::uintptr_t first = 0;
      std::uintptr_t last = 0;
      char access[5] = {};
      if (std::sscanf(line.c_str(), "%lx-%lx %4s", &first, &last, access) != 3) continue;
      if (first <= base && base + arena_bytes <= last) return std::string(access) == "---p";
    }
    return false;
  }

  std::uintptr_t start = 0;
  std::uintptr_t base = 0;
};

TEST_F(lent_addresses, hold_the_user_mapping_and_come_back) {
  ASSERT_TRUE(is_reserved());
  {
    arena memory;
    ASSERT_EQ(memory.create(arena_bytes, base), status::ok) << last_error();
    EXPECT_EQ(memory.user_base(), base);
    *memory.user(page_bytes) = std::byte{5};
    EXPECT_EQ(*memory.alias(page_bytes), std::byte{5});
    EXPECT_FALSE(is_reserved());
  }
  EXPECT_TRUE(is_reserved()) << "the reservation is its owner's to give up";
}

TEST_F(lent_addresses, may_be_left_for_others) {
  arena memory;
  ASSERT_EQ(memory.create(arena_bytes, base), status::ok) << last_error();
  memory.destroy();
  EXPECT_TRUE(is_reserved());
  EXPECT_TRUE(arena_descriptors().empty());
  ASSERT_EQ(memory.create(arena_bytes), status::ok) << last_error();
  EXPECT_NE(memory.user_base(), base);
  memory.destroy();
  memory.destroy();
  EXPECT_EQ(memory.bytes(), 0U);
}

TEST(arena, may_be_far_larger_than_memory) {
  arena memory;
  ASSERT_EQ(memory.create(std::uint64_t{1} << 40), status::ok) << last_error();
  *memory.alias((std::uint64_t{1} << 40) - 1) = std::byte{3};
  EXPECT_EQ(*memory.user((std::uint64_t{1} << 40) - 1), std::byte{3});
}

TEST(arena, more_addresses_than_there_are_fail_with_the_remedy) {
  {
    arena memory;
    EXPECT_NE(memory.create(std::uint64_t{1} << 50), status::ok);
    EXPECT_NE(std::string(last_error()).find("GM_ARENA_SIZE"), std::string::npos) << last_error();
  }
  EXPECT_TRUE(arena_descriptors().empty());
}

TEST(arena, mlockall_does_not_reach_it) {
  if (mlockall(MCL_FUTURE) != 0) GTEST_SKIP() << "no memory may be locked here: " << std::strerror(errno);
  arena memory;
  const status made = memory.create(arena_bytes);
  munlockall();
  ASSERT_EQ(made, status::ok) << last_error();
  EXPECT_EQ(os_pages_in_core(memory, {0, arena_bytes}), 0U);
}

TEST(arena_death_test, limits_of_the_process_are_named) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        rlimit small{};
        small.rlim_cur = small.rlim_max = arena_bytes / 2;
        setrlimit(RLIMIT_FSIZE, &small);
        arena memory;
        const status s = memory.create(arena_bytes);
        std::fputs(last_error(), stderr);
        _exit(s == status::system ? 7 : 1);
      },
      testing::ExitedWithCode(7), "sizing the arena.*ulimit -f");
  EXPECT_EXIT(
      {
        rlimit small{};
        small.rlim_cur = small.rlim_max = arena_bytes / 2;
        // Who may lock anything is not limited.
        if (setrlimit(RLIMIT_MEMLOCK, &small) != 0 || (geteuid() == 0 && setuid(65534) != 0)) _exit(2);
        if (mlockall(MCL_FUTURE) != 0) _exit(3);
        arena memory;
        const status s = memory.create(arena_bytes);
        std::fputs(sanitized ? "ulimit -l" : last_error(), stderr);
        _exit(sanitized || s == status::permission ? 7 : 1);
      },
      testing::ExitedWithCode(7), "ulimit -l");
}

}  // namespace
}  // namespace gm
