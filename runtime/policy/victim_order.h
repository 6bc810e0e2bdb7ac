// SPDX-License-Identifier: Apache-2.0
// victim_order.h - which frames are evicted first: by advice, and by what was seen of their use.
//
// A segmented LRU with second chances, and a list of its own for streamed data. A device's frames stand in three lists,
// each in the order in which they came:
//
//   new --> probation --used again after a look--> protected_ --not used: demoted--> probation
//   new, in a stream --> streamed --used again after a look--> protected_
//   new, but evicted not long ago, as nearly all that comes of late --> streamed
//
// A look clears the accessed mark of a frame. In probation and protected_ the oldest frame is looked at. Its first look
// in probation finds the mark of the very use that brought it, which says nothing: it is looked at again. So what is
// used once passes through, what is used again stays, and a scan cannot flush what is hot.
// Of streamed data the newest that is used already goes, just behind the stream's head: if the stream comes by again,
// that is the last to be wanted, and a part of what does not fit stays where it is instead of all of it being brought
// each time. So it is with data that comes back soon after it was evicted, in whatever order it is gone through, as
// long as nearly all that comes has been there before: an order by age evicts just what is wanted next. Each eighth
// look is at the next frame of a round through the list, so that what no stream comes back to goes in the end. Ideas:
// segmented LRU (Karedla, Love and Wherry, 1994), second chance (CLOCK; Corbato, 1968), most recently used first for
// loops (Chou and DeWitt, 1985), insertion where it goes first when the order by age fails (Qureshi et al., 2007). Pure
// functions: no clocks, no locks; what there is of state is the caller's.
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

constexpr frame_list list_of_new_frame(bool streamed) {
  return streamed ? frame_list::streamed : frame_list::probation;
}

// How much of what gets frames has lost one a short while ago. One a device; guarded by the caller's lock.
class returning_data {
 public:
  static constexpr std::uint32_t never = ~std::uint32_t{0};
  // A block gets a frame; evicted: how many frames were evicted since its last one was, or never. True: it comes back,
  // as does nearly everything of late.
  bool comes_back(std::uint32_t evicted, std::uint32_t frames);

 private:
  std::uint32_t share_ = 0;  // of what came lately, in 256ths
};

// What is known of a frame that is looked at.
struct frame_look {
  victim_class advised = victim_class::normal;
  frame_list list = frame_list::probation;
  bool newest = false;      // looked at from the newest end of its list
  bool accessed = false;    // since the last look, or since it came
  std::uint32_t looks = 0;  // so far, since it came or was demoted; a demoted frame starts with 1
};

enum class verdict : std::uint8_t {
  evict,
  look_again,  // goes to the newest end of its list; streamed, it stays in its place
  promote,     // to the newest end of protected_
  demote,      // to the newest end of probation
};

verdict judge_frame(const frame_look&);

// Which frame to look at; there is one at least. turn: how many looks there were before, on this device.
frame_place next_to_look_at(const frame_counts&, std::uint32_t turn);

}  // namespace gm
