// SPDX-License-Identifier: Apache-2.0
// stencil.hpp - each cell of a board from itself and its four neighbours.
// Cost: one element written and one read, as long as three rows stay in a cache; else three read.
#ifndef GMEM_KERNELS_STENCIL_HPP
#define GMEM_KERNELS_STENCIL_HPP

#include <cstddef>

#include "kernels/accessor.hpp"

namespace gm::kernels {

// to = own * from + others * (the four neighbours of from), by rows; cells of the rim are copied. The boards do not
// overlap. i goes over width * height cells.
template <class From, class To>
struct stencil {
  From from;
  To to;
  std::size_t width, height;
  element<From> own, others;

  GM_HOST_DEVICE void operator()(std::size_t i) const {
    const std::size_t row = i / width, column = i % width;
    const element<From> here = from[i];
    if (row == 0 || column == 0 || row + 1 == height || column + 1 == width) {
      to[i] = here;
      return;
    }
    const element<From> above = from[i - width];
    const element<From> left = from[i - 1];
    const element<From> right = from[i + 1];
    const element<From> below = from[i + width];
    to[i] = own * here + others * (above + left + right + below);
  }
};

template <class From, class To, class Own, class Others>
stencil(From, To, std::size_t, std::size_t, Own, Others) -> stencil<From, To>;

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_STENCIL_HPP
