// SPDX-License-Identifier: Apache-2.0
// replayer.h - runs a trace through a policy, without a device: a node of so many frames, whose data lies on the host.
//
// A touch of a page that is not there is a fault: the policy says what is brought, a block that has no frame gets one,
// and the order of eviction says whose. Everything arrives at once: times of the trace are not made longer by faults.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "policy/bring_plan.h"
#include "replay/frame_cache.h"
#include "replay/trace.h"

namespace gm::test {

struct replay_counts {
  std::uint64_t faults = 0;         // for pages that were not there
  std::uint64_t upgrades = 0;       // for pages that were there, to be read
  std::uint64_t pages_moved = 0;    // to the node
  std::uint64_t pages_wasted = 0;   // brought and never touched before they went, or before the end
  std::uint64_t evictions = 0;      // frames
  std::uint64_t pages_written = 0;  // taken home, by evictions or at the end: all that were given to write
};

std::string text_of(const replay_counts&);

enum class eviction_order : std::uint8_t { first_in, least_recent, judged };

struct replay_policy {
  bool brings_ahead = true;  // plan_fault(); else one page a fault
  eviction_order order = eviction_order::judged;
};

// One page a fault, first in first out: what any policy has to be better than.
inline constexpr replay_policy null_policy{false, eviction_order::first_in};
inline constexpr replay_policy built_in_policy{};

replay_counts replay(const trace&, const replay_policy&, std::size_t frames);

// The fewest times that a block has to be given a frame, whatever the policy.
std::uint64_t fewest_frames_given(const trace&, std::size_t frames);
std::uint64_t distinct_pages(const trace&);

}  // namespace gm::test
