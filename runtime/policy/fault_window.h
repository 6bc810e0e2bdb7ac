// SPDX-License-Identifier: Apache-2.0
// fault_window.h - how many pages a CPU fault takes at once.
//
// Touching pages in order doubles the window, from one page up to a block; a touch out of order starts again at one.
// Streams in both directions are known, several at a time (threads walk different arrays). A stream ends with its
// allocation: what stands behind it in memory is somebody else's, and its first touch starts anew.
// A pure function of the streams and the touch: no clocks, no table.
// Locking: rank fault_streams, for a few instructions.
#pragma once

#include <cstdint>

#include "base/mutex.h"
#include "base/units.h"
#include "vm/advice_map.h"

namespace gm {

// Pages [first, last) to serve, around the touched one and inside its block and allocation.
struct fault_window {
  page_index first;
  page_index last;
};

struct fault_stream {
  page_index low;  // the next touch of this stream is expected at high (upwards) or at low - 1 (downwards)
  page_index high;
  std::uint32_t pages = 0;  // of the last window; 0: an unused stream
  std::uint32_t used = 0;   // when, in faults
};

struct fault_touch {
  page_index page;
  page_index first;  // pages [first, last) are the allocation's, as far as it lies in the page's block
  page_index last;
  bool begins = false;  // first is the allocation's first page
  access_pattern pattern = access_pattern::unknown;
};

// Continues the stream that the page belongs to, or starts one in place of the least recently used.
fault_window next_window(fault_stream* streams, unsigned count, std::uint32_t now, const fault_touch&);

class fault_streams {
 public:
  fault_window next(const fault_touch& touch) {
    lock_guard guard(lock_);
    return next_window(streams_, count, ++now_, touch);
  }

 private:
  static constexpr unsigned count = 16;
  mutex<lock_rank::fault_streams> lock_;
  fault_stream streams_[count];
  std::uint32_t now_ = 0;
};

}  // namespace gm
