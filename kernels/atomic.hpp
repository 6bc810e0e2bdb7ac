// SPDX-License-Identifier: Apache-2.0
// atomic.hpp - atomic operations on a[i], on the host and in device code.
//
// All are relaxed: they order nothing but the one element. Elements are numbers of 4 or 8 bytes, and for
// compare_exchange whole ones. An accessor whose [i] has load(), fetch_add() or compare_exchange() of its own is asked
// for those. Cost: an element read and written, and on a device its whole sector of 32 bytes.
#ifndef GMEM_KERNELS_ATOMIC_HPP
#define GMEM_KERNELS_ATOMIC_HPP

#include <atomic>
#include <cstddef>
#include <type_traits>

#include "kernels/accessor.hpp"

#if defined(__HIPCC__)
#include <hip/hip_runtime.h>
#elif defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

namespace gm::kernels {

namespace detail {

// The type in which the device has the operation: fractions as they are, whole numbers without their sign, since adding
// and comparing are the same bits either way.
template <class T>
using device_word = std::conditional_t<std::is_floating_point_v<T>, T,
                                       std::conditional_t<sizeof(T) == 4, unsigned int, unsigned long long>>;

template <class T>
inline constexpr bool has_atomics = std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8);

template <class T>
GM_HOST_DEVICE T load_word(const T* from) {
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
  return *static_cast<const volatile T*>(from);
#else
  return std::atomic_ref<T>(*const_cast<T*>(from)).load(std::memory_order_relaxed);
#endif
}

template <class T>
GM_HOST_DEVICE T fetch_add_word(T* to, T value) {
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
  using word = device_word<T>;
  return static_cast<T>(atomicAdd(reinterpret_cast<word*>(to), static_cast<word>(value)));
#else
  return std::atomic_ref<T>(*to).fetch_add(value, std::memory_order_relaxed);
#endif
}

template <class T>
GM_HOST_DEVICE bool compare_exchange_word(T* to, T expected, T desired) {
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
  using word = device_word<T>;
  const word before = atomicCAS(reinterpret_cast<word*>(to), static_cast<word>(expected), static_cast<word>(desired));
  return before == static_cast<word>(expected);
#else
  return std::atomic_ref<T>(*to).compare_exchange_strong(expected, desired, std::memory_order_relaxed);
#endif
}

}  // namespace detail

// What a[i] holds now, while others may be changing it.
template <class Accessor>
GM_HOST_DEVICE element<Accessor> load(const Accessor& a, std::size_t i) {
  static_assert(detail::has_atomics<element<Accessor>>);
  if constexpr (requires { a[i].load(); }) {
    return a[i].load();
  } else {
    return detail::load_word(&a[i]);
  }
}

// Adds to a[i]. Returns what was there before.
template <class Accessor>
GM_HOST_DEVICE element<Accessor> fetch_add(const Accessor& a, std::size_t i, element<Accessor> value) {
  static_assert(detail::has_atomics<element<Accessor>>);
  if constexpr (requires { a[i].fetch_add(value); }) {
    return a[i].fetch_add(value);
  } else {
    return detail::fetch_add_word(&a[i], value);
  }
}

// Replaces a[i] if it is what is expected. Returns whether it was.
template <class Accessor>
GM_HOST_DEVICE bool compare_exchange(const Accessor& a, std::size_t i, element<Accessor> expected,
                                     element<Accessor> desired) {
  static_assert(detail::has_atomics<element<Accessor>> && std::is_integral_v<element<Accessor>>);
  if constexpr (requires { a[i].compare_exchange(expected, desired); }) {
    return a[i].compare_exchange(expected, desired);
  } else {
    return detail::compare_exchange_word(&a[i], expected, desired);
  }
}

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_ATOMIC_HPP
