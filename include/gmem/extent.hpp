// SPDX-License-Identifier: Apache-2.0
//
// extent.hpp - what the C++ forms accept as "a range of managed memory". Part of gmem.hpp.
//
// Anything that lies in one piece and knows its size: gm::vector, std::span, arrays, a view over those, or a
// gm::unique_ptr<T[]>. It must be an lvalue or borrowed (as a span is): a temporary vector would be gone before the
// device comes to it, so that does not compile. Whether the memory is managed at all is for the runtime to say.
#ifndef GMEM_EXTENT_HPP
#define GMEM_EXTENT_HPP

#include <gmem/error.hpp>
#include <gmem/memory.hpp>

#include <cstddef>
#include <limits>
#include <ranges>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

namespace gm {
inline namespace v0 {
namespace detail {

template <class Range>
requires std::ranges::contiguous_range<Range> && std::ranges::sized_range<Range> && std::ranges::borrowed_range<Range>
constexpr auto elements(Range&& range) noexcept {
  using element = std::remove_reference_t<std::ranges::range_reference_t<Range>>;
  return std::span<element>(std::ranges::data(range), static_cast<std::size_t>(std::ranges::size(range)));
}

template <class T>
std::span<T> elements(const gm::unique_ptr<T[]>& array) noexcept {
  return std::span<T>(array.get(), array.get_deleter().count());
}

template <class T>
std::span<T> elements(const gm::unique_ptr<T[]>&& array) = delete;

template <class X>
concept extent = requires(X&& x) {
  elements(std::forward<X>(x));
};

// What may be written, alone and as an extent's elements.
template <class T>
concept writable = !std::is_const_v<T>;

template <extent X>
using element_of = typename decltype(elements(std::declval<X>()))::element_type;

template <class X>
concept writable_extent = extent<X> && writable<element_of<X>>;

// count elements in bytes; void counts as bytes. INVALID_ARGUMENT when that overflows.
template <class T>
constexpr std::size_t bytes_of(std::size_t count) {
  if constexpr (std::is_void_v<T>) {
    return count;
  } else {
    if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) {
      throw error(GM_ERROR_INVALID_ARGUMENT, "a range of " + std::to_string(count) + " elements of " +
                                                 std::to_string(sizeof(T)) +
                                                 " bytes is larger than any address space; check the count");
    }
    return count * sizeof(T);
  }
}

}  // namespace detail
}  // namespace v0
}  // namespace gm

#endif  // GMEM_EXTENT_HPP
