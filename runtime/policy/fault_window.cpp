// SPDX-License-Identifier: Apache-2.0
#include "policy/fault_window.h"

#include <algorithm>

namespace gm {
namespace {

fault_window up_to(const fault_touch& touch, std::uint32_t pages) {
  return {touch.page, {std::min(touch.page.value + pages, touch.last.value)}};
}

fault_window down_to(const fault_touch& touch, std::uint32_t pages) {
  const std::uint64_t end = touch.page.value + 1;
  return {{end - std::min<std::uint64_t>(pages, end - touch.first.value)}, {end}};
}

}  // namespace

fault_window next_window(fault_stream* streams, unsigned count, std::uint32_t now, const fault_touch& touch) {
  if (touch.pattern == access_pattern::random) return up_to(touch, 1);
  fault_stream* oldest = streams;
  for (fault_stream* s = streams; s != streams + count; ++s) {
    if (s->pages != 0) {
      const bool upwards = touch.page == s->high && !(touch.begins && touch.page == touch.first);
      const bool downwards = touch.page.value + 1 == s->low.value;
      if (upwards || downwards) {
        s->pages = std::min<std::uint32_t>(s->pages * 2, pages_per_block);
        const fault_window window = upwards ? up_to(touch, s->pages) : down_to(touch, s->pages);
        s->low = window.first;
        s->high = window.last;
        s->used = now;
        return window;
      }
    }
    if (s->pages == 0 || (oldest->pages != 0 && now - s->used > now - oldest->used)) oldest = s;
  }
  const std::uint32_t pages = touch.pattern == access_pattern::sequential ? pages_per_block : 1;
  const fault_window window = up_to(touch, pages);
  *oldest = {window.first, window.last, pages, now};
  return window;
}

}  // namespace gm
