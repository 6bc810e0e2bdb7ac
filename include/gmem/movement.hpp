// SPDX-License-Identifier: Apache-2.0
//
// movement.hpp - hints, pins and copies: the C functions of the same names over C++ ranges. Part of gmem.hpp.
//
// Each takes a range (a vector, a span, a gm::unique_ptr<T[]>, see extent.hpp) or a pointer and a count of elements
// (bytes for void*). Nothing is done for an empty range. Each throws gm::error with the status that gmem.h names for
// the C function, and has changed nothing then. A stream may be a gm::stream, a gm_stream, or left out: then the work
// is done on return. Threads: any, at any time.
#ifndef GMEM_MOVEMENT_HPP
#define GMEM_MOVEMENT_HPP

#include <gmem/gmem.h>
#include <gmem/error.hpp>
#include <gmem/extent.hpp>

#include <cstddef>
#include <utility>

namespace gm {
inline namespace v0 {

// Brings a current copy of the range to the node, in stream order; others keep theirs until somebody writes.
template <class T>
void prefetch(const T* pointer, std::size_t count, int node, gm_stream stream = nullptr) {
  if (count != 0) check(gm_prefetch(pointer, detail::bytes_of<T>(count), node, stream));
}

template <detail::extent X>
void prefetch(X&& x, int node, gm_stream stream = nullptr) {
  const auto elements = detail::elements(std::forward<X>(x));
  prefetch(elements.data(), elements.size(), node, stream);
}

// Says how the range will be used; see gm_advice. It never changes what memory contains.
template <class T>
void advise(const T* pointer, std::size_t count, gm_advice advice, int node = GM_HOST) {
  if (count != 0) check(gm_advise(pointer, detail::bytes_of<T>(count), advice, node));
}

template <detail::extent X>
void advise(X&& x, gm_advice advice, int node = GM_HOST) {
  const auto elements = detail::elements(std::forward<X>(x));
  advise(elements.data(), elements.size(), advice, node);
}

// Gives the contents up: whole pages inside the range read as zero and take no memory.
template <detail::writable T>
void discard(T* pointer, std::size_t count) {
  if (count != 0) check(gm_discard(pointer, detail::bytes_of<T>(count)));
}

template <detail::writable_extent X>
void discard(X&& x) {
  const auto elements = detail::elements(std::forward<X>(x));
  discard(elements.data(), elements.size());
}

// Brings the range to the node and keeps it there until unpin; see gm_pin. Pins do not nest.
template <class T>
void pin(const T* pointer, std::size_t count, int node) {
  if (count != 0) check(gm_pin(pointer, detail::bytes_of<T>(count), node));
}

template <detail::extent X>
void pin(X&& x, int node) {
  const auto elements = detail::elements(std::forward<X>(x));
  pin(elements.data(), elements.size(), node);
}

template <class T>
void unpin(const T* pointer, std::size_t count, int node) {
  if (count != 0) check(gm_unpin(pointer, detail::bytes_of<T>(count), node));
}

template <detail::extent X>
void unpin(X&& x, int node) {
  const auto elements = detail::elements(std::forward<X>(x));
  unpin(elements.data(), elements.size(), node);
}

// memcpy and memset done by that node, in stream order; sizes are bytes, always. Either side of a copy may be ordinary
// host memory, which must then stay as it is until the work is done. The ranges must not overlap.
inline void memcpy(void* destination, const void* source, std::size_t bytes, int node, gm_stream stream = nullptr) {
  if (bytes != 0) check(gm_memcpy(destination, source, bytes, node, stream));
}

inline void memset(void* destination, int value, std::size_t bytes, int node, gm_stream stream = nullptr) {
  if (bytes != 0) check(gm_memset(destination, value, bytes, node, stream));
}

}  // namespace v0
}  // namespace gm

#endif  // GMEM_MOVEMENT_HPP
