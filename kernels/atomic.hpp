// SPDX-License-Identifier: Apache-2.0
// atomic.hpp - atomic operations on a[i], on the host and in device code.
//
// All are relaxed: they order nothing but the one element. Elements are numbers of 4 or 8 bytes, and for
// compare_exchange whole ones. An accessor whose [i] has load(), fetch_add() or compare_exchange() of its own is asked
// for those. Cost: an element read and written, and on a device its whole sector of 32 bytes.
#ifndef GMEM_KERNELS_ATOMIC_HPP
#define GMEM_KERNELS_ATOMIC_HPP

#include <gmem/device_word.hpp>

#include <cstddef>
#include <type_traits>

#include "kernels/accessor.hpp"

namespace gm::kernels {

template <class T>
inline constexpr bool has_atomics = std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8);

// What a[i] holds now, while others may be changing it.
template <class Accessor>
GM_HOST_DEVICE element<Accessor> load(const Accessor& a, std::size_t i) {
  static_assert(has_atomics<element<Accessor>>);
  if constexpr (requires { a[i].load(); }) {
    return a[i].load();
  } else {
    return device_word::peek(&a[i]);
  }
}

// Adds to a[i]. Returns what was there before.
template <class Accessor>
GM_HOST_DEVICE element<Accessor> fetch_add(const Accessor& a, std::size_t i, element<Accessor> value) {
  static_assert(has_atomics<element<Accessor>>);
  if constexpr (requires { a[i].fetch_add(value); }) {
    return a[i].fetch_add(value);
  } else {
    return device_word::fetch_add(&a[i], value);
  }
}

// Replaces a[i] if it is what is expected. Returns whether it was.
template <class Accessor>
GM_HOST_DEVICE bool compare_exchange(const Accessor& a, std::size_t i, element<Accessor> expected,
                                     element<Accessor> desired) {
  static_assert(has_atomics<element<Accessor>> && std::is_integral_v<element<Accessor>>);
  if constexpr (requires { a[i].compare_exchange(expected, desired); }) {
    return a[i].compare_exchange(expected, desired);
  } else {
    return device_word::compare_exchange(&a[i], expected, desired);
  }
}

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_ATOMIC_HPP
