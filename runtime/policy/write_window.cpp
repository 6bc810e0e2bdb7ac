// SPDX-License-Identifier: Apache-2.0
#include "policy/write_window.h"

namespace gm {

fault_window next_write_window(write_stream* streams, unsigned count, std::uint32_t now, const fault_touch& touch) {
  const fault_window alone{touch.page, {touch.page.value + 1}};
  if (touch.pattern == access_pattern::random) return alone;
  if (touch.pattern == access_pattern::sequential) return {touch.page, touch.last};
  write_stream* oldest = streams;
  for (write_stream* s = streams; s != streams + count; ++s) {
    const bool upwards = s->written != 0 && touch.page == s->high && !(touch.begins && touch.page == touch.first);
    const bool downwards = s->written != 0 && touch.page.value + 1 == s->low.value;
    if (upwards || downwards) {
      fault_window window = alone;
      if (s->written < writes_worth_a_block)
        ++s->written;
      else if (upwards)
        window.last = touch.last;
      else
        window.first = touch.first;
      s->low = window.first;
      s->high = window.last;
      s->used = now;
      return window;
    }
    if (s->written == 0 || (oldest->written != 0 && now - s->used > now - oldest->used)) oldest = s;
  }
  *oldest = {alone.first, alone.last, 1, now};
  return alone;
}

}  // namespace gm
