// SPDX-License-Identifier: Apache-2.0
// gather.hpp - to[i] = from[places[i]], random reads.
// Cost: one place read and one element written in order, and a sector of 32 bytes anywhere for the element read.
#ifndef GMEM_KERNELS_GATHER_HPP
#define GMEM_KERNELS_GATHER_HPP

#include <cstddef>

#include "kernels/accessor.hpp"

namespace gm::kernels {

template <class From, class Places, class To>
struct gather {
  From from;
  Places places;
  To to;

  GM_HOST_DEVICE void operator()(std::size_t i) const {
    const element<Places> place = places[i];
    const element<From> x = from[place];
    to[i] = x;
  }
};

template <class From, class Places, class To>
gather(From, Places, To) -> gather<From, Places, To>;

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_GATHER_HPP
