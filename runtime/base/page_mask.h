// SPDX-License-Identifier: Apache-2.0
// page_mask.h - a set of the 32 pages of a block, bit i for page i, and its runs of neighbours.
#pragma once

#include <bit>
#include <cstdint>

#include "base/units.h"

namespace gm {

using page_mask = std::uint32_t;
inline constexpr page_mask no_pages = 0;
inline constexpr page_mask all_pages = ~page_mask{0};

constexpr page_mask one_page(unsigned page) { return page_mask{1} << page; }

// Pages [first, last) of a block, 0 <= first <= last <= 32.
constexpr page_mask pages_between(unsigned first, unsigned last) {
  if (first >= last) return no_pages;
  const page_mask below_last = last >= pages_per_block ? all_pages : (page_mask{1} << last) - 1;
  return below_last & ~((page_mask{1} << first) - 1);
}

constexpr unsigned count_pages(page_mask mask) { return static_cast<unsigned>(std::popcount(mask)); }

// The pages that a range of arena offsets touches in a block.
constexpr page_mask pages_touched(byte_range range, block_index block) {
  const std::uint64_t base = offset_of(block);
  if (range.end <= base || range.begin >= base + block_bytes || range.begin >= range.end) return no_pages;
  const std::uint64_t begin = range.begin > base ? range.begin - base : 0;
  const std::uint64_t end = range.end < base + block_bytes ? range.end - base : block_bytes;
  return pages_between(static_cast<unsigned>(begin / page_bytes),
                       static_cast<unsigned>((end + page_bytes - 1) / page_bytes));
}

// The pages that lie wholly inside a range.
constexpr page_mask pages_covered(byte_range range, block_index block) {
  const byte_range whole{round_up(range.begin, page_bytes), round_down(range.end, page_bytes)};
  return pages_touched(whole, block);
}

// Calls each(first, count) for every maximal run of neighbouring pages, in order.
template <typename F>
constexpr void for_each_run(page_mask mask, F&& each) {
  while (mask != 0) {
    const auto first = static_cast<unsigned>(std::countr_zero(mask));
    const auto count = static_cast<unsigned>(std::countr_one(mask >> first));
    each(first, count);
    mask &= ~pages_between(first, first + count);
  }
}

}  // namespace gm
