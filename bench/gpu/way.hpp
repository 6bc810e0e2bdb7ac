// SPDX-License-Identifier: Apache-2.0
// way.hpp - the ways in which a program can have its data on CPU and device.
//
//   declared    gmem: a scope around the kernel, plain pointers on the CPU
//   prefetched  gmem: and a gm_prefetch before whoever uses all of the data
//   on_demand   gmem: the kernel fetches what it touches, through a view, and nobody says what that is
//   faults      the vendor's managed memory, left alone
//   hints       the vendor's managed memory with prefetches, and advice where data is only read
//   copies      pinned host memory, device memory, and a copy wherever one is needed: the program knows
//   zero_copy   pinned host memory, which kernels reach over the link
#pragma once

#include <array>

namespace gm::bench {

enum class way : unsigned { declared, prefetched, on_demand, faults, hints, copies, zero_copy };
inline constexpr std::array all_ways = {way::declared, way::prefetched, way::on_demand, way::faults,
                                        way::hints,    way::copies,     way::zero_copy};

constexpr const char* name_of(way which) {
  constexpr const char* names[] = {"declared", "prefetched", "on_demand", "faults", "hints", "copies", "zero_copy"};
  return names[static_cast<unsigned>(which)];
}

}  // namespace gm::bench
