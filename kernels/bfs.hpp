// SPDX-License-Identifier: Apache-2.0
// bfs.hpp - one level of a breadth-first search.
// Cost: a depth read for every node; for those of this level two offsets, a target an edge in order, and a sector of 32
// bytes anywhere for each target's depth, written if it is new.
#ifndef GMEM_KERNELS_BFS_HPP
#define GMEM_KERNELS_BFS_HPP

#include <cstddef>
#include <cstdint>

#include "kernels/accessor.hpp"
#include "kernels/atomic.hpp"

namespace gm::kernels {

inline constexpr std::uint32_t unreached = 0xffffffff;

// Every node at the depth gives the next one to those of its targets that nobody has reached, and adds their number to
// reached[0]. Node first_node + i has the edges offsets[i] to offsets[i + 1] of targets; depths has all nodes.
// Which of several nodes reaches a target first is chance; depths and number are not.
template <class Offsets, class Targets, class Depths, class Reached>
struct bfs_level {
  Offsets offsets;
  Targets targets;
  Depths depths;
  Reached reached;
  std::size_t first_node;
  std::uint32_t depth;

  GM_HOST_DEVICE void operator()(std::size_t i) const {
    if (load(depths, first_node + i) != depth) return;
    const element<Offsets> end = offsets[i + 1];
    element<Reached> found = 0;
    for (element<Offsets> edge = offsets[i]; edge < end; ++edge) {
      const element<Targets> target = targets[edge];
      if (load(depths, target) == unreached && compare_exchange(depths, target, unreached, depth + 1)) ++found;
    }
    if (found != 0) fetch_add(reached, 0, found);
  }
};

template <class Offsets, class Targets, class Depths, class Reached>
bfs_level(Offsets, Targets, Depths, Reached, std::size_t, std::uint32_t)
    -> bfs_level<Offsets, Targets, Depths, Reached>;

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_BFS_HPP
