// SPDX-License-Identifier: Apache-2.0
// placement.h - where copies come from and what mappings they leave, from advice: pure functions.
#pragma once

#include "vm/advice_map.h"

namespace gm {

// Whether a prefetch to a device leaves the CPU's mapping in place, read-only. Otherwise the CPU's next read faults
// (without a copy), and the device's next write finds nothing to revoke.
inline bool prefetch_keeps_cpu_mapping(const advice& a) { return a.read_mostly || (a.accessed_by & 1u) != 0; }

// Whether a CPU fault maps the whole block rather than a window grown from experience.
inline bool fault_takes_block(const advice& a) {
  return a.pattern != access_pattern::random && (a.pattern == access_pattern::sequential || (a.accessed_by & 1u) != 0);
}

}  // namespace gm
