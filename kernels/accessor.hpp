// SPDX-License-Identifier: Apache-2.0
// accessor.hpp - what kernels read and write through: anything cheap to copy that has [i].
//
// A raw pointer is one. So is a class with a value_type whose [i] gives the element, or a reference object that
// converts to the element and takes one by assignment. Kernels are written for the narrower of the two: they name the
// type of what they read (element<A> x = a[i], never auto) and say a[i] = x, never a[i] += x.
#ifndef GMEM_KERNELS_ACCESSOR_HPP
#define GMEM_KERNELS_ACCESSOR_HPP

#include <gmem/host_device.hpp>

#include <cstddef>
#include <type_traits>

namespace gm::kernels {

template <class Accessor>
struct element_of {
  using type = std::remove_cv_t<typename Accessor::value_type>;
};

template <class T>
struct element_of<T*> {
  using type = std::remove_cv_t<T>;
};

template <class Accessor>
using element = typename element_of<Accessor>::type;

// The same value everywhere, in no memory: the values of a graph's matrix, whose entries are all 1.
template <class T>
struct constant {
  using value_type = T;
  T value;

  GM_HOST_DEVICE T operator[](std::size_t) const { return value; }
};

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_ACCESSOR_HPP
