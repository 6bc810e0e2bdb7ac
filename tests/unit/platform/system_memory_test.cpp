// SPDX-License-Identifier: Apache-2.0
#include "platform/system_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace gm {
namespace {

TEST(system_memory, is_no_more_than_the_machine_or_its_cgroup_has) {
  const std::uint64_t bytes = system_memory_bytes();
  const auto ram = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(getpagesize());
  EXPECT_GT(bytes, 0U);
  EXPECT_LE(bytes, ram);
  std::uint64_t limit = 0;
  std::ifstream group("/sys/fs/cgroup/memory.max");
  if (group >> limit) {
    EXPECT_LE(bytes, limit);
  } else {
    EXPECT_GT(bytes, ram / 1024) << "without a limit it is the machine's";
  }
}

}  // namespace
}  // namespace gm
