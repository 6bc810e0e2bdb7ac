// SPDX-License-Identifier: Apache-2.0
#include "policy/thrash.h"

#include <algorithm>

namespace gm {
namespace {

// How long a pin lasts that follows on so many others.
std::uint64_t pin_ns(unsigned pins) {
  std::uint64_t ns = shortest_pin_ns;
  for (unsigned i = 0; i < pins && ns < longest_pin_ns; ++i) ns *= 2;
  return std::min(ns, longest_pin_ns);
}

thrash_record& record_of(thrash_table& table, block_index block) {
  // Neighbouring blocks are looked up together, and so stand apart: the multiplier is odd, 2^64 over the golden ratio.
  const std::uint64_t hash = block.value * 0x9e3779b97f4a7c15U;
  static_assert(thrash_table::count == 256);
  return table.records[hash >> 56];
}

// The end of the record's last movement or pin, from when on it counts as left alone.
std::uint64_t last_heard_ns(const thrash_record& r) { return std::max(r.moved_ns, r.pinned_until_ns); }

bool left_alone(const thrash_record& r, std::uint64_t now_ns) {
  return now_ns > last_heard_ns(r) && now_ns - last_heard_ns(r) > bounce_within_ns;
}

thrash_answer stays(const thrash_record& r, const movement& m) {
  return {m.remote_possible ? treatment::remote : treatment::pin, r.node, r.pinned_until_ns};
}

}  // namespace

thrash_answer next_treatment(thrash_table& table, const movement& m) {
  thrash_record& r = record_of(table, m.block);
  const std::uint64_t key = m.block.value + 1;
  if (r.block_plus_one != key && r.block_plus_one != 0 && !left_alone(r, m.now_ns)) return {};
  if (r.block_plus_one != key || left_alone(r, m.now_ns))
    r = {.block_plus_one = key, .moved_ns = m.now_ns, .node = static_cast<std::uint16_t>(m.to)};
  if (m.now_ns < r.pinned_until_ns) return m.to == r.node ? thrash_answer{} : stays(r, m);
  r.written |= m.write;
  if (m.to != r.node) {
    if (r.bounces < bounces_that_thrash) ++r.bounces;
    if (r.bounces == bounces_that_thrash && r.written) {
      r.pinned_until_ns = m.now_ns + pin_ns(r.pins);
      if (r.pins < 16) ++r.pins;
      r.bounces = bounces_that_thrash - 1;  // the first bounce after it is one too many
      return stays(r, m);
    }
    r.node = static_cast<std::uint16_t>(m.to);
  }
  r.moved_ns = m.now_ns;
  return {r.bounces == bounces_that_thrash ? treatment::duplicate : treatment::normal, r.node, 0};
}

}  // namespace gm
