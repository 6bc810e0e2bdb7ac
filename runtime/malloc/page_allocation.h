// SPDX-License-Identifier: Apache-2.0
// page_allocation.h - allocations of whole pages, with nothing of the program's contracts.
#pragma once

#include <cstdint>

#include "api/runtime.h"

namespace gm {

// The first byte; null with the error set.
void* allocate_pages(runtime&, std::uint64_t bytes, std::uint64_t alignment);
// False: no allocation starts there.
bool free_pages(runtime&, std::uint64_t offset);

}  // namespace gm
