// SPDX-License-Identifier: Apache-2.0
//
// device_word.hpp - words that kernels and others change at the same time, on the host and in device code. Part of
// view.hpp.
//
// Every operation is whole (no half-written word is seen). load and add order later accesses of the same thread behind
// themselves; subtract orders earlier ones before itself. Scope: the device, for tables that its kernels share; post()
// is for host memory.
#ifndef GMEM_DEVICE_WORD_HPP
#define GMEM_DEVICE_WORD_HPP

#include <gmem/host_device.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__HIPCC__)
#include <hip/hip_runtime.h>
#elif defined(__CUDACC__)
#include <cuda_runtime.h>
#endif
#if !defined(__CUDA_ARCH__) && !defined(__HIP_DEVICE_COMPILE__)
#include <atomic>
#include <thread>
#endif

#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
#define GMEM_IN_KERNEL 1
#else
#define GMEM_IN_KERNEL 0
#endif

namespace gm {
inline namespace v0 {
namespace device_word {

#if defined(__SANITIZE_THREAD__)
#define GMEM_WATCHED_BY_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GMEM_WATCHED_BY_TSAN 1
#endif
#endif

// What is there now. A volatile read: aligned words of up to 8 bytes are read whole, such reads stay in their order,
// and around them the compiler keeps in registers what nobody else writes, which it does not around atomic operations.
template <class W>
GM_HOST_DEVICE W peek(const W* from) {
#if defined(GMEM_WATCHED_BY_TSAN)
  return std::atomic_ref<W>(*const_cast<W*>(from)).load(std::memory_order_relaxed);
#else
  return *static_cast<const volatile W*>(from);
#endif
}

// peek, for a word that says from where to read next. On the host the address orders the two reads.
template <class W>
GM_HOST_DEVICE W follow(const W* from) {
  const W seen = peek(from);
#if GMEM_IN_KERNEL
  __threadfence();
#endif
  return seen;
}

// Earlier reads by peek, follow and read_unsure come before later ones.
GM_HOST_DEVICE inline void read_fence() {
#if GMEM_IN_KERNEL
  __threadfence();
#elif !defined(__x86_64__)  // where the processor keeps reads in order, as volatile ones are already
  std::atomic_thread_fence(std::memory_order_acquire);
#endif
}

template <class W>
GM_HOST_DEVICE W load(const W* from) {
#if GMEM_IN_KERNEL
  const W seen = peek(from);
  __threadfence();
  return seen;
#else
  return std::atomic_ref<W>(*const_cast<W*>(from)).load(std::memory_order_acquire);
#endif
}

// No order with anything. A volatile write, for the reason of peek.
template <class W>
GM_HOST_DEVICE void mark(W* to, W value) {
#if defined(GMEM_WATCHED_BY_TSAN) && !GMEM_IN_KERNEL
  std::atomic_ref<W>(*to).store(value, std::memory_order_relaxed);
#else
  *static_cast<volatile W*>(to) = value;
#endif
}

GM_HOST_DEVICE inline void add(std::uint32_t* to) {
#if GMEM_IN_KERNEL
  atomicAdd(to, 1u);
  __threadfence();
#else
  std::atomic_ref<std::uint32_t>(*to).fetch_add(1, std::memory_order_seq_cst);
#endif
}

GM_HOST_DEVICE inline void subtract(std::uint32_t* to) {
#if GMEM_IN_KERNEL
  __threadfence();
  atomicSub(to, 1u);
#else
  std::atomic_ref<std::uint32_t>(*to).fetch_sub(1, std::memory_order_seq_cst);
#endif
}

GM_HOST_DEVICE inline bool exchange_if(std::uint32_t* to, std::uint32_t expected, std::uint32_t desired) {
#if GMEM_IN_KERNEL
  return atomicCAS(to, expected, desired) == expected;
#else
  return std::atomic_ref<std::uint32_t>(*to).compare_exchange_strong(expected, desired, std::memory_order_seq_cst);
#endif
}

GM_HOST_DEVICE inline std::uint64_t take_ticket(std::uint64_t* counter) {
#if GMEM_IN_KERNEL
  return atomicAdd(reinterpret_cast<unsigned long long*>(counter), 1ull);
#else
  return std::atomic_ref<std::uint64_t>(*counter).fetch_add(1, std::memory_order_seq_cst);
#endif
}

// To host memory that the host is looking at.
GM_HOST_DEVICE inline void post(std::uint64_t* to, std::uint64_t value) {
#if GMEM_IN_KERNEL
  __threadfence_system();
  *reinterpret_cast<volatile unsigned long long*>(to) = value;
#else
  std::atomic_ref<std::uint64_t>(*to).store(value, std::memory_order_release);
#endif
}

// One step of a loop that waits for somebody else. On the host he may need this thread's processor.
GM_HOST_DEVICE inline void pause() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
  __nanosleep(100);
#elif GMEM_IN_KERNEL
  // Others of the device run on all the same.
#else
  std::this_thread::yield();
#endif
}

// Numbers of 4 or 8 bytes, in the type in which devices have the operation: whole ones without their sign, since adding
// and comparing are the same bits either way.
template <class T>
using operand = std::conditional_t<std::is_floating_point_v<T>, T,
                                   std::conditional_t<sizeof(T) == 4, unsigned int, unsigned long long>>;

// Relaxed. Returns what was there.
template <class T>
GM_HOST_DEVICE T fetch_add(T* to, T value) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "numbers of 4 or 8 bytes");
#if GMEM_IN_KERNEL
  return static_cast<T>(atomicAdd(reinterpret_cast<operand<T>*>(to), static_cast<operand<T>>(value)));
#else
  return std::atomic_ref<T>(*to).fetch_add(value, std::memory_order_relaxed);
#endif
}

// Relaxed. Says whether it was replaced.
template <class T>
GM_HOST_DEVICE bool compare_exchange(T* to, T expected, T desired) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "whole numbers of 4 or 8 bytes");
#if GMEM_IN_KERNEL
  const auto before =
      atomicCAS(reinterpret_cast<operand<T>*>(to), static_cast<operand<T>>(expected), static_cast<operand<T>>(desired));
  return before == static_cast<operand<T>>(expected);
#else
  return std::atomic_ref<T>(*to).compare_exchange_strong(expected, desired, std::memory_order_relaxed);
#endif
}

// hipcc has memcpy for the host alone.
template <class T, class Bits>
GM_HOST_DEVICE T made_of(const Bits& bits) {
  static_assert(sizeof(T) == sizeof(Bits));
  T value;
#if defined(__HIP_DEVICE_COMPILE__)
  __builtin_memcpy(&value, &bits, sizeof value);
#else
  std::memcpy(&value, &bits, sizeof value);
#endif
  return value;
}

// The bytes of a T, whole where it is a number of up to 8 bytes, while a copy engine may be overwriting them: who reads
// finds out afterwards.
template <class T>
#if !GMEM_IN_KERNEL
__attribute__((no_sanitize("thread")))
#endif
GM_HOST_DEVICE inline T
read_unsure(const T* from) {
  if constexpr (sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8) {
    using word =
        std::conditional_t<sizeof(T) == 1, std::uint8_t,
                           std::conditional_t<sizeof(T) == 2, std::uint16_t,
                                              std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>>;
    const word bits = *reinterpret_cast<const volatile word*>(from);
    return made_of<T>(bits);
  } else {
    static_assert(alignof(T) >= 4 && sizeof(T) % 4 == 0, "elements are of 1, 2, 4 or a multiple of 4 bytes");
    std::uint32_t bits[sizeof(T) / 4];
    const auto* words = reinterpret_cast<const volatile std::uint32_t*>(from);
    for (std::size_t i = 0; i < sizeof(T) / 4; ++i) bits[i] = words[i];
    return made_of<T>(bits);
  }
}

}  // namespace device_word
}  // namespace v0
}  // namespace gm

#endif  // GMEM_DEVICE_WORD_HPP
