// SPDX-License-Identifier: Apache-2.0
// placement.h - where a page should be, and what mappings copies leave, from advice: pure functions, without state.
#pragma once

#include <cstdint>

#include "vm/advice_map.h"

namespace gm {

// Whether a prefetch to a device leaves the CPU's mapping in place, read-only. Otherwise the CPU's next read faults
// (without a copy), and the device's next write finds nothing to revoke.
inline bool prefetch_keeps_cpu_mapping(const advice& a) { return a.read_mostly || (a.accessed_by & 1u) != 0; }

// Whether a CPU fault maps the whole block rather than a window grown from experience.
inline bool fault_takes_block(const advice& a) {
  return a.pattern != access_pattern::random && (a.pattern == access_pattern::sequential || (a.accessed_by & 1u) != 0);
}

// The node that the program prefers, or -1.
inline int preferred_node_of(const advice& a) {
  return a.preferred_node < 0 ? -1 : static_cast<unsigned char>(a.preferred_node);
}

// A node that has no copy of a page wants to read or write it.
struct placement_question {
  advice told = {};
  unsigned node = host_node;
  bool write = false;
  bool remote_possible = false;   // the node could reach the page where it is
  std::uint64_t valid_nodes = 0;  // bit n: node n has a current copy. 0: NOMAP
};

struct placement_answer {
  unsigned node = host_node;  // where the page should be. Not the node that asks: that one reaches it there
  bool duplicate = false;     // other nodes keep their copies
  bool operator==(const placement_answer&) const = default;
};

// Who reads gets a copy and takes nobody's; who writes has it alone. Only where a node can reach others' memory may a
// page stay away from it: in the place that the program prefers, if it is there or nowhere yet, or, advised to be
// accessed by the node, wherever it is. Data that is mostly read is copied all the same.
inline placement_answer place_page(const placement_question& q) {
  const placement_answer here{q.node, !q.write && q.valid_nodes != 0};
  if (!q.remote_possible || (q.told.read_mostly && !q.write)) return here;
  const int preferred = preferred_node_of(q.told);
  if (preferred >= 0 && static_cast<unsigned>(preferred) != q.node) {
    const bool there = (q.valid_nodes >> preferred & 1U) != 0;
    if (there || q.valid_nodes == 0) return {static_cast<unsigned>(preferred), false};
  }
  if (q.valid_nodes != 0 && (q.told.accessed_by >> q.node & 1U) != 0) {
    unsigned n = 0;
    while ((q.valid_nodes >> n & 1U) == 0) ++n;
    return {n, false};
  }
  return here;
}

}  // namespace gm
