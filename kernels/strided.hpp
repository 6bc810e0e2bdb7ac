// SPDX-License-Identifier: Apache-2.0
// strided.hpp - to[i] = from[i * stride], a column out of a matrix that is stored by rows.
// Cost: one element written, and for the one read a whole sector of 32 bytes, or from the stride of a page on a page.
#ifndef GMEM_KERNELS_STRIDED_HPP
#define GMEM_KERNELS_STRIDED_HPP

#include <cstddef>

#include "kernels/accessor.hpp"

namespace gm::kernels {

template <class From, class To>
struct strided {
  From from;
  To to;
  std::size_t stride;

  GM_HOST_DEVICE void operator()(std::size_t i) const {
    const element<From> x = from[i * stride];
    to[i] = x;
  }
};

template <class From, class To>
strided(From, To, std::size_t) -> strided<From, To>;

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_STRIDED_HPP
