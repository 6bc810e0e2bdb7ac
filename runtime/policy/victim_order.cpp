// SPDX-License-Identifier: Apache-2.0
#include "policy/victim_order.h"

namespace gm {
namespace {

// A frame whose place this is goes when it has not been used for so many looks.
constexpr std::uint32_t looks_at_kept = 3;

}  // namespace

verdict judge_frame(const frame_look& f) {
  if (f.list == frame_list::protected_) {
    const bool stays = f.accessed && !f.streamed && f.advised != victim_class::cold;
    return stays ? verdict::look_again : verdict::demote;
  }
  if (f.advised == victim_class::cold) return verdict::evict;
  if (f.advised == victim_class::kept) {
    if (f.accessed) return verdict::promote;
    return f.looks < looks_at_kept ? verdict::look_again : verdict::evict;
  }
  // What was brought ahead has not been used yet; what was used will not be again.
  if (f.streamed) return f.accessed || f.looks != 0 ? verdict::evict : verdict::look_again;
  if (!f.accessed) return verdict::evict;
  return f.looks == 0 ? verdict::look_again : verdict::promote;
}

}  // namespace gm
