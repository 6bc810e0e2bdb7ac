// SPDX-License-Identifier: Apache-2.0
// registration.h - when host memory is worth registering with the copy engines: a pure function.
#pragma once

#include <cstdint>

#include "base/units.h"

namespace gm {

// Registering and unregistering take about what copying two blocks the slow way costs more than copying them directly
// (an H200: 0.1 ms a MiB to register; 10 to 17 GB/s through pageable memory, 54 GB/s directly). So a block that has
// been copied as often has lost what registering would have cost, and never loses more than that once more.
inline constexpr std::uint32_t copied_pages_worth_registering = 2 * pages_per_block;

// copied: pages of the block copied from or to its host memory since that became whole, or was last considered.
inline bool worth_registering(std::uint32_t copied) { return copied >= copied_pages_worth_registering; }

}  // namespace gm
