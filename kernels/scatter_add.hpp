// SPDX-License-Identifier: Apache-2.0
// scatter_add.hpp - to[places[i]] += from[i], random atomic additions, any number of them to one place.
// Cost: one place and one element read in order, and a sector of 32 bytes anywhere read and written.
#ifndef GMEM_KERNELS_SCATTER_ADD_HPP
#define GMEM_KERNELS_SCATTER_ADD_HPP

#include <cstddef>

#include "kernels/accessor.hpp"
#include "kernels/atomic.hpp"

namespace gm::kernels {

// Sums of fractions depend on the order, which is none.
template <class From, class Places, class To>
struct scatter_add {
  From from;
  Places places;
  To to;

  GM_HOST_DEVICE void operator()(std::size_t i) const {
    const element<Places> place = places[i];
    const element<From> x = from[i];
    fetch_add(to, place, x);
  }
};

template <class From, class Places, class To>
scatter_add(From, Places, To) -> scatter_add<From, Places, To>;

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_SCATTER_ADD_HPP
