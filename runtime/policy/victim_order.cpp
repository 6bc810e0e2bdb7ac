// SPDX-License-Identifier: Apache-2.0
#include "policy/victim_order.h"

namespace gm {
namespace {

// A frame whose place this is goes when it has not been used for so many looks.
constexpr std::uint32_t looks_at_kept = 3;
// One look of so many is where the hand is in the streamed list.
constexpr std::uint32_t looks_a_hand = 8;

// A block was here not long ago when since then so many times what there is of frames was evicted, or less.
constexpr std::uint32_t evictions_remembered = 3;
// Nearly all, in 256ths.
constexpr std::uint32_t share_of_loops = 230;

// Most frames in protected_, of so many that are not streamed.
constexpr std::uint32_t most_protected(std::uint32_t frames) { return frames - frames / 8; }

}  // namespace

bool returning_data::comes_back(std::uint32_t evicted, std::uint32_t frames) {
  const bool was_here = evicted != never && evicted / evictions_remembered <= frames;
  share_ = share_ - share_ / 8 + (was_here ? 32 : 0);
  return was_here && share_ > share_of_loops;
}

verdict judge_frame(const frame_look& f) {
  if (f.list == frame_list::protected_)
    return f.accessed && f.advised != victim_class::cold ? verdict::look_again : verdict::demote;
  if (f.advised == victim_class::cold && f.list == frame_list::probation) return verdict::evict;
  if (f.advised == victim_class::kept) {
    if (f.accessed) return verdict::promote;
    return f.looks < looks_at_kept ? verdict::look_again : verdict::evict;
  }
  if (f.list == frame_list::streamed) {
    // What was brought ahead and is not used yet waits for its use.
    if (f.newest) return f.accessed || f.looks != 0 ? verdict::evict : verdict::look_again;
    if (f.looks == 0) return verdict::look_again;
    return f.accessed && f.advised != victim_class::cold ? verdict::promote : verdict::evict;
  }
  if (!f.accessed) return verdict::evict;
  return f.looks == 0 ? verdict::look_again : verdict::promote;
}

frame_place next_to_look_at(const frame_counts& c, std::uint32_t turn) {
  if (c.streamed > c.in_use) {
    if (turn % looks_a_hand == 0) return {frame_list::streamed, false, turn / looks_a_hand % c.streamed};
    return {frame_list::streamed, true, c.in_use};
  }
  if (c.probation + c.protected_ == 0) return {frame_list::streamed, false, 0};
  const bool too_many = c.protected_ > most_protected(c.probation + c.protected_);
  return {c.probation == 0 || too_many ? frame_list::protected_ : frame_list::probation, false, 0};
}

}  // namespace gm
