// SPDX-License-Identifier: Apache-2.0
// stream.hpp - z = x + a * y, the streaming pattern over accessors.
// Cost: two elements read and one written, each byte once and in order, no reuse.
#ifndef GMEM_KERNELS_STREAM_HPP
#define GMEM_KERNELS_STREAM_HPP

#include <cstddef>

#include "kernels/accessor.hpp"

namespace gm::kernels {

// z may be x or y, and overlaps them in no other way.
template <class X, class Y, class Z>
struct triad {
  element<Z> a;
  X x;
  Y y;
  Z z;

  GM_HOST_DEVICE void operator()(std::size_t i) const {
    const element<X> first = x[i];
    const element<Y> second = y[i];
    z[i] = first + a * second;
  }
};

template <class A, class X, class Y, class Z>
triad(A, X, Y, Z) -> triad<X, Y, Z>;

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_STREAM_HPP
