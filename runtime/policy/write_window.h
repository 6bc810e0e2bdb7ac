// SPDX-License-Identifier: Apache-2.0
// write_window.h - how many pages the CPU takes for itself at a write, of pages that other nodes have copies of too.
//
// A page taken is taken from those nodes, and has to be sent to them again: so only the page that was written is, until
// a stream of writes in order, one fault a page, has written as many pages as a block has. From then on each takes the
// rest of its block. Advice says otherwise: sequential takes the rest of the block at once, random never more than the
// page. A stream ends with its allocation, as in fault_window.h, and is not one of those: reading in order, or the
// first touches of fresh memory, say nothing of what will be written. A pure function of the streams and the touch: no
// clocks, no table. Locking: rank fault_streams, for a few instructions.
#pragma once

#include "policy/fault_window.h"

namespace gm {

struct write_stream {
  page_index low;  // the next write of this stream is expected at high (upwards) or at low - 1 (downwards)
  page_index high;
  std::uint32_t written = 0;  // pages that faults in order have said were written, up to a block's; 0: unused
  std::uint32_t used = 0;     // when, in faults
};

inline constexpr std::uint32_t writes_worth_a_block = pages_per_block;

// Continues the stream that the write belongs to, or starts one in place of the least recently used.
fault_window next_write_window(write_stream* streams, unsigned count, std::uint32_t now, const fault_touch&);

class write_streams {
 public:
  fault_window next(const fault_touch& touch) {
    lock_guard guard(lock_);
    return next_write_window(streams_, count, ++now_, touch);
  }

 private:
  static constexpr unsigned count = 16;
  mutex<lock_rank::fault_streams> lock_;
  write_stream streams_[count];
  std::uint32_t now_ = 0;
};

}  // namespace gm
