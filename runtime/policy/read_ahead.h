// SPDX-License-Identifier: Apache-2.0
// read_ahead.h - which units a node will touch next, from the order of its faults. A unit is a page or a block, as the
// caller has it: one table for each.
//
// A stream is a run of faults in one allocation with a constant step, forwards or backwards:
//   a lone touch --its neighbour is touched--> guessed --the next one is--> known, brings 1, 2, 4 .. most units ahead
//   two lone touches --a third at the same distance--> known
// The neighbour of the last lone touch is believed at once; that of an earlier one may be chance, and has to go on: so
// walks that take turns are told apart. Where all was brought in time the next fault is one step further on than that;
// one in between shows that less ahead would do, and halves it. One that was passed already (warps come out of order)
// says nothing, but two of those in order are the same walk begun anew. Any other is a lone touch. A few of those
// without a step of a stream, and it is over: among scattered touches nothing is a stream for long.
// A stream that has been followed for a while looks as if its data were used once (streamed).
// A pure function of the table and the touch; the table is the caller's, of fixed size, all zero at first.
// Locking: the caller's; a few dozen compares a call.
#pragma once

#include <cstdint>

#include "vm/advice_map.h"

namespace gm {

inline constexpr std::uint32_t most_units_ahead = 16;
inline constexpr std::uint64_t longest_step_units = 64;
inline constexpr std::uint32_t steps_of_streamed_data = 4;

struct ahead_stream {
  std::uint64_t allocation = 0;  // its first unit: streams end with it
  std::uint64_t last = 0;        // the last unit touched
  std::uint64_t late = 0;        // the last touch of what was passed, or last
  std::int64_t step = 0;         // units
  std::uint32_t ahead = 0;       // units that were brought ahead of last
  std::uint32_t steps = 0;       // seen in this direction, up to a few
  std::uint32_t used = 0;        // when, in faults; 0: an unused stream
  std::uint32_t lone_since = 0;  // touches of the allocation that were no stream's, since
};

struct ahead_table {
  static constexpr unsigned count = 16;
  static constexpr unsigned lone_count = 16;
  struct lone_touch {
    std::uint64_t allocation;
    std::uint64_t unit;
    bool is_one;
  };
  ahead_stream streams[count] = {};
  lone_touch lone[lone_count] = {};  // the last touches that were no stream's, the last first
  std::uint32_t now = 0;
};

struct ahead_touch {
  std::uint64_t unit;
  std::uint64_t first;  // units [first, last) are the allocation's
  std::uint64_t last;
  access_pattern pattern = access_pattern::unknown;
  std::uint32_t most = most_units_ahead;  // that can be brought ahead now: what room there is
  bool at_begin = true;                   // where a walk upwards comes into the unit
  bool at_end = true;                     // ... downwards
  bool may_begin = true;                  // else it is no lone touch, from which a stream might begin
};

// To bring: units unit + step, unit + 2 * step .., count of them, all inside the allocation.
struct ahead_answer {
  std::int64_t step = 0;
  std::uint32_t count = 0;
  bool streamed = false;
  bool walking = false;  // the stream is believed, also where there is nothing to bring or no room
  bool operator==(const ahead_answer&) const = default;
};

ahead_answer next_ahead(ahead_table&, const ahead_touch&);

// count, less what would leave the allocation.
std::uint32_t units_inside(const ahead_touch&, std::int64_t step, std::uint32_t count);

}  // namespace gm
