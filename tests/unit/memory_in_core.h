// SPDX-License-Identifier: Apache-2.0
// memory_in_core.h - how much memory an arena really takes, asked of the kernel.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <vector>

#include "platform/arena.h"

namespace gm::test {

// OS pages of the range that exist in the arena's memfd.
inline std::uint64_t os_pages_in_core(const arena& memory, byte_range range) {
  std::vector<unsigned char> in_core(range.bytes() / os_page_bytes);
  if (mincore(memory.alias(range.begin), range.bytes(), in_core.data()) != 0) return ~std::uint64_t{0};
  std::uint64_t count = 0;
  for (const unsigned char page : in_core) count += page & 1u;
  return count;
}

inline constexpr std::uint64_t os_pages_per_page = page_bytes / os_page_bytes;

}  // namespace gm::test
