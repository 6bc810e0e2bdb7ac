// SPDX-License-Identifier: Apache-2.0
// victim_order.h - which frames are evicted first, from advice: pure functions.
#pragma once

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

}  // namespace gm
