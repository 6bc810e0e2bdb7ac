// SPDX-License-Identifier: Apache-2.0
// spmv.hpp - y = A * x for a sparse matrix of compressed rows.
// Cost: a row's two offsets, a column and a value an entry in order, and for x a sector of 32 bytes anywhere an entry.
//
// Row i has the entries offsets[i] to offsets[i + 1] of columns and values. A tile of rows is the same with offsets of
// its own, from 0, and y from its first row on.
#ifndef GMEM_KERNELS_SPMV_HPP
#define GMEM_KERNELS_SPMV_HPP

#include <cstddef>

#include "kernels/accessor.hpp"

namespace gm::kernels {

// The product of one row and x: entries are added up in order, so the CPU's sum is the same.
template <class Offsets, class Columns, class Values, class X>
GM_HOST_DEVICE element<X> row_times(const Offsets& offsets, const Columns& columns, const Values& values, const X& x,
                                    std::size_t row) {
  const element<Offsets> end = offsets[row + 1];
  element<X> sum{};
  for (element<Offsets> entry = offsets[row]; entry < end; ++entry) {
    const element<Columns> column = columns[entry];
    const element<Values> value = values[entry];
    const element<X> factor = x[column];
    sum = sum + value * factor;
  }
  return sum;
}

template <class Offsets, class Columns, class Values, class X, class Y>
struct spmv {
  Offsets offsets;
  Columns columns;
  Values values;
  X x;
  Y y;

  GM_HOST_DEVICE void operator()(std::size_t row) const { y[row] = row_times(offsets, columns, values, x, row); }
};

template <class Offsets, class Columns, class Values, class X, class Y>
spmv(Offsets, Columns, Values, X, Y) -> spmv<Offsets, Columns, Values, X, Y>;

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_SPMV_HPP
