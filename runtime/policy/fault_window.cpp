// SPDX-License-Identifier: Apache-2.0
#include "policy/fault_window.h"

#include <algorithm>

namespace gm {
namespace {

fault_window up_to(page_index page, std::uint32_t pages) {
  const std::uint64_t block_end = (page.value / pages_per_block + 1) * pages_per_block;
  return {page, {std::min(page.value + pages, block_end)}};
}

fault_window down_to(page_index page, std::uint32_t pages) {
  const std::uint64_t block_begin = page.value / pages_per_block * pages_per_block;
  const std::uint64_t end = page.value + 1;
  return {{end - std::min<std::uint64_t>(pages, end - block_begin)}, {end}};
}

}  // namespace

fault_window next_window(fault_stream* streams, unsigned count, std::uint32_t now, page_index page,
                         access_pattern pattern) {
  if (pattern == access_pattern::random) return {page, {page.value + 1}};
  fault_stream* oldest = streams;
  for (fault_stream* s = streams; s != streams + count; ++s) {
    if (s->pages != 0) {
      const bool upwards = page == s->high;
      const bool downwards = page.value + 1 == s->low.value;
      if (upwards || downwards) {
        s->pages = std::min<std::uint32_t>(s->pages * 2, pages_per_block);
        const fault_window window = upwards ? up_to(page, s->pages) : down_to(page, s->pages);
        s->low = window.first;
        s->high = window.last;
        s->used = now;
        return window;
      }
    }
    if (s->pages == 0 || (oldest->pages != 0 && now - s->used > now - oldest->used)) oldest = s;
  }
  const std::uint32_t pages = pattern == access_pattern::sequential ? pages_per_block : 1;
  const fault_window window = up_to(page, pages);
  *oldest = {window.first, window.last, pages, now};
  return window;
}

}  // namespace gm
