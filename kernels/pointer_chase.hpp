// SPDX-License-Identifier: Apache-2.0
// pointer_chase.hpp - follows links, each of which is known only when the one before it has been read.
// Cost: steps times a sector of 32 bytes anywhere, one after the other: latency, not bandwidth.
#ifndef GMEM_KERNELS_POINTER_CHASE_HPP
#define GMEM_KERNELS_POINTER_CHASE_HPP

#include <cstddef>

#include "kernels/accessor.hpp"

namespace gm::kernels {

// ends[i] is where steps links lead from starts[i]; next[p] is the place behind p.
template <class Next, class Starts, class Ends>
struct pointer_chase {
  Next next;
  Starts starts;
  Ends ends;
  std::size_t steps;

  GM_HOST_DEVICE void operator()(std::size_t i) const {
    element<Next> here = starts[i];
    for (std::size_t step = 0; step < steps; ++step) here = next[here];
    ends[i] = here;
  }
};

template <class Next, class Starts, class Ends>
pointer_chase(Next, Starts, Ends, std::size_t) -> pointer_chase<Next, Starts, Ends>;

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_POINTER_CHASE_HPP
