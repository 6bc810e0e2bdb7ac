// SPDX-License-Identifier: Apache-2.0
// victim_order.h - which frames are evicted first: by advice, and by what was seen of their use.
//
// A segmented LRU with second chances. A device's frames stand in two lists, each in the order in which they came:
//
//   new --> probation --accessed again after a look--> protected
//               |  ^                                      |
//     evict <---+  +-------- not accessed: demoted -------+
//
// Frames are looked at from the oldest end, and a look clears the accessed mark. A frame's first look in probation
// finds the mark of the very access that brought it, which says nothing: it is looked at again. So what is used once
// passes through probation, and what is used again stays. protected_ holds at most a share of the frames: beyond it,
// its oldest are looked at. Data that looks streamed goes as soon as it was used. Ideas: segmented LRU (Karedla, Love
// and Wherry, 1994), second chance (CLOCK; Corbato, 1968). Pure functions: no state, no clocks, no locks.
#pragma once

#include <cstdint>

#include "frame/frame_pool.h"
#include "vm/advice_map.h"

namespace gm {

// For a block that was just used on the device.
inline victim_class victim_class_of(const advice& a, unsigned device) {
  if (a.cold || a.pattern == access_pattern::sequential) return victim_class::cold;
  if (a.preferred_node == static_cast<int>(device)) return victim_class::kept;
  if (a.preferred_node >= 0 || a.read_mostly) return victim_class::cold;
  return victim_class::normal;
}

enum class frame_list : std::uint8_t { probation, protected_ };

// What is known of a frame at the oldest end of its list.
struct frame_look {
  victim_class advised = victim_class::normal;
  frame_list list = frame_list::probation;
  bool accessed = false;    // since the last look, or since it came
  bool streamed = false;    // looks as if used once
  std::uint32_t looks = 0;  // so far, since it came or was demoted; a demoted frame starts with 1
};

enum class verdict : std::uint8_t {
  evict,
  look_again,  // goes to the newest end of its list
  promote,     // to the newest end of protected_
  demote,      // to the newest end of probation
};

verdict judge_frame(const frame_look&);

// Most frames in protected_, of so many.
constexpr std::uint32_t most_protected(std::uint32_t frames) { return frames - frames / 8; }

// Whose oldest frame to look at next. Counts are of frames that can be evicted.
constexpr frame_list list_to_look_at(std::uint32_t probation, std::uint32_t protected_frames) {
  const bool too_many = protected_frames > most_protected(probation + protected_frames);
  return probation == 0 || too_many ? frame_list::protected_ : frame_list::probation;
}

}  // namespace gm
