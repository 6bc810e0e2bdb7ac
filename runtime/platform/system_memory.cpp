// SPDX-License-Identifier: Apache-2.0
#include "platform/system_memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace gm {
namespace {
// 0 when the file is not there or says "max".
std::uint64_t number_in(const char* path) {
  std::FILE* file = std::fopen(path, "re");
  if (file == nullptr) return 0;
  unsigned long long value = 0;
  if (std::fscanf(file, "%llu", &value) != 1) value = 0;
  std::fclose(file);
  return value;
}
}  // namespace

std::uint64_t system_memory_bytes() {
  std::uint64_t bytes =
      static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"})
    if (const std::uint64_t limit = number_in(path); limit != 0) bytes = std::min(bytes, limit);
  return bytes;
}

}  // namespace gm
