// SPDX-License-Identifier: Apache-2.0
#include "base/memory_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <string>

#include "base/os_limit.h"
#include "base/units.h"

namespace gm {
namespace {

constexpr std::uint64_t bytes = block_bytes;

class memory_file : public testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    fd = memfd_create("memory_file_test", MFD_CLOEXEC);
    ASSERT_GE(fd, 0);
  }
  void TearDown() override {
    (void)munlockall();
    close(fd);
  }
  // What the file takes.
  std::uint64_t taken() const {
    struct stat now {};
    EXPECT_EQ(fstat(fd, &now), 0);
    return static_cast<std::uint64_t>(now.st_blocks) * 512;
  }
  int fd = -1;
};
using memory_file_death_test = memory_file;

TEST_F(memory_file, is_mapped_empty_readable_and_writable) {
  ASSERT_TRUE(size_memory_file(fd, bytes));
  const std::uintptr_t base = reserve_addresses(bytes);
  ASSERT_NE(base, 0U);
  ASSERT_TRUE(map_memory_file(base, fd, bytes)) << std::strerror(errno);
  EXPECT_EQ(taken(), 0U);
  auto* const p = reinterpret_cast<volatile unsigned char*>(base);
  p[bytes - 1] = 3;
  EXPECT_EQ(p[bytes - 1], 3);
  EXPECT_EQ(taken(), os_page_bytes);
  munmap(reinterpret_cast<void*>(base), bytes);
}

TEST_F(memory_file, takes_nothing_under_mlockall_either) {
  if (mlockall(MCL_FUTURE) != 0) GTEST_SKIP() << "no memory may be locked here: " << std::strerror(errno);
  ASSERT_TRUE(size_memory_file(fd, bytes));
  const std::uintptr_t base = reserve_addresses(bytes);
  ASSERT_NE(base, 0U);
  ASSERT_TRUE(map_memory_file(base, fd, bytes)) << std::strerror(errno);
  EXPECT_EQ(taken(), 0U);
  munmap(reinterpret_cast<void*>(base), bytes);
}

TEST_F(memory_file, what_cannot_be_mapped_leaves_a_reservation) {
  const std::uintptr_t base = reserve_addresses(bytes);
  ASSERT_NE(base, 0U);
  EXPECT_FALSE(map_memory_file(base, -1, bytes));
  EXPECT_EQ(errno, EBADF);
  unsigned char in_core = 0;
  EXPECT_EQ(mincore(reinterpret_cast<void*>(base), os_page_bytes, &in_core), 0) << "the addresses are still taken";
  munmap(reinterpret_cast<void*>(base), bytes);
}

TEST_F(memory_file_death_test, larger_than_files_may_be_is_an_error_and_no_signal) {
  EXPECT_EXIT(
      {
        rlimit small{};
        small.rlim_cur = small.rlim_max = bytes / 2;
        if (setrlimit(RLIMIT_FSIZE, &small) != 0) _exit(1);
        if (size_memory_file(fd, bytes)) _exit(2);
        if (errno != EFBIG) _exit(3);
        _exit(size_memory_file(fd, bytes / 2) ? 7 : 4);
      },
      testing::ExitedWithCode(7), "");
}

TEST(os_limit, each_names_its_remedy) {
  EXPECT_NE(std::string(os_limit_words(EMFILE)).find("ulimit -n"), std::string::npos);
  EXPECT_NE(std::string(os_limit_words(EFBIG)).find("ulimit -f"), std::string::npos);
  EXPECT_NE(std::string(os_limit_words(EAGAIN)).find("ulimit -l"), std::string::npos);
  EXPECT_STREQ(os_limit_words(EINVAL), "");
}

}  // namespace
}  // namespace gm
