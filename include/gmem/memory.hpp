// SPDX-License-Identifier: Apache-2.0
//
// memory.hpp - managed memory for containers and owners. Part of gmem.hpp.
//
//   gm::vector<float> x(n);                                     // zeros, written by the CPU
//   auto y = gm::make_unique<float[]>(n);                       // zeros that nobody has to write
//   auto z = gm::make_unique_for_overwrite<float[]>(n);         // contents undefined
//   std::pmr::vector<float> w(n, gm::memory_resource());
//
// Units: elements, not bytes.   Threads: as std::allocator; any thread may free what another allocated.
// Errors: gm::bad_alloc (a std::bad_alloc) when gm_malloc returns NULL, std::bad_array_new_length when the size in
// bytes overflows. Memory that queued device work still uses may be given up at any time: its fence releases it.
#ifndef GMEM_MEMORY_HPP
#define GMEM_MEMORY_HPP

#include <gmem/gmem.h>
#include <gmem/error.hpp>

#include <cstddef>
#include <limits>
#include <memory>
#include <memory_resource>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace gm {
inline namespace v0 {

namespace detail {

inline constexpr std::size_t malloc_alignment = 16;  // what gm_malloc promises

inline void* allocate_bytes(std::size_t bytes, std::size_t alignment) {
  void* pointer = alignment <= malloc_alignment ? gm_malloc(bytes) : gm_aligned_alloc(alignment, bytes);
  if (pointer == nullptr) throw bad_alloc();
  return pointer;
}

template <class T>
T* allocate_elements(std::size_t count) {
  if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_array_new_length();
  return static_cast<T*>(allocate_bytes(count * sizeof(T), alignof(T)));
}

template <class T>
concept single_object = !std::is_array_v<T>;

template <class T>
concept unbounded_array = std::is_unbounded_array_v<T>;

// Types whose T() is all zero bytes, so that gm_calloc's untouched pages serve. (A pointer to member's is not.)
template <class T>
inline constexpr bool zero_bytes_are_value = std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_pointer_v<T>;

}  // namespace detail

// The allocator of managed memory. Stateless: any two are equal, and one frees what another gave.
template <class T>
class allocator {
 public:
  using value_type = T;
  using is_always_equal = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;

  allocator() noexcept = default;
  template <class U>
  allocator(const allocator<U>&) noexcept {}  // NOLINT(google-explicit-constructor): required of allocators

  // Memory for count elements, not constructed. Throws gm::bad_alloc, std::bad_array_new_length.
  [[nodiscard]] T* allocate(std::size_t count) { return detail::allocate_elements<T>(count); }
  void deallocate(T* pointer, std::size_t /*count*/) noexcept { gm_free(pointer); }
};

template <class T, class U>
bool operator==(const allocator<T>&, const allocator<U>&) noexcept {
  return true;
}

// A std::vector in managed memory. The vector object itself, with its pointer and size, is ordinary memory: a kernel
// takes gm::device_pointer(v.data(), node). As with any vector, growing it moves the elements: not within a scope.
template <class T>
using vector = std::vector<T, allocator<T>>;

// Ends an object, or count objects, in managed memory and frees it: what gm::unique_ptr uses.
template <class T>
class deleter {
 public:
  void operator()(T* pointer) const noexcept {
    std::destroy_at(pointer);
    gm_free(const_cast<std::remove_cv_t<T>*>(pointer));
  }
};

template <class T>
class deleter<T[]> {
 public:
  deleter() noexcept = default;
  explicit deleter(std::size_t count) noexcept : count_(count) {}

  void operator()(T* pointer) const noexcept {
    std::destroy_n(pointer, count_);
    gm_free(const_cast<std::remove_cv_t<T>*>(pointer));
  }

  // How many elements the array has. Scopes and hints take the whole array by it: gm::read(array).
  std::size_t count() const noexcept { return count_; }

 private:
  std::size_t count_ = 0;
};

// gm::unique_ptr<T> and gm::unique_ptr<T[]>: std::unique_ptr over managed memory. Made by make_unique below.
template <class T>
using unique_ptr = std::unique_ptr<T, deleter<T>>;

// One object, constructed by the CPU from the arguments. Throws gm::bad_alloc and what the constructor throws.
template <detail::single_object T, class... Arguments>
[[nodiscard]] unique_ptr<T> make_unique(Arguments&&... arguments) {
  std::unique_ptr<void, decltype(&gm_free)> memory(detail::allocate_elements<T>(1), &gm_free);
  T* object = ::new (memory.get()) T(std::forward<Arguments>(arguments)...);
  static_cast<void>(memory.release());
  return unique_ptr<T>(object);
}

// count elements of value T(). For numbers, enumerations and pointers these are gm_calloc's zeros: no page is touched,
// and none takes memory before somebody writes. Other types are constructed by the CPU, one by one.
template <detail::unbounded_array T>
[[nodiscard]] unique_ptr<T> make_unique(std::size_t count) {
  using element = std::remove_extent_t<T>;
  if constexpr (detail::zero_bytes_are_value<element> && alignof(element) <= detail::malloc_alignment) {
    void* memory = gm_calloc(count, sizeof(element));
    if (memory == nullptr) throw bad_alloc();
    return unique_ptr<T>(static_cast<element*>(memory), deleter<T>(count));
  } else {
    std::unique_ptr<void, decltype(&gm_free)> memory(detail::allocate_elements<element>(count), &gm_free);
    auto* first = static_cast<element*>(memory.get());
    std::uninitialized_value_construct_n(first, count);
    static_cast<void>(memory.release());
    return unique_ptr<T>(first, deleter<T>(count));
  }
}

// count elements whose contents are undefined (their default constructor runs, which for numbers does nothing): for
// what a kernel or a read(2) is about to overwrite whole.
template <detail::unbounded_array T>
[[nodiscard]] unique_ptr<T> make_unique_for_overwrite(std::size_t count) {
  using element = std::remove_extent_t<T>;
  std::unique_ptr<void, decltype(&gm_free)> memory(detail::allocate_elements<element>(count), &gm_free);
  auto* first = static_cast<element*>(memory.get());
  std::uninitialized_default_construct_n(first, count);
  static_cast<void>(memory.release());
  return unique_ptr<T>(first, deleter<T>(count));
}

namespace detail {

class resource final : public std::pmr::memory_resource {
  void* do_allocate(std::size_t bytes, std::size_t alignment) override { return allocate_bytes(bytes, alignment); }
  void do_deallocate(void* pointer, std::size_t, std::size_t) override { gm_free(pointer); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }
};

}  // namespace detail

// Managed memory for std::pmr containers. One object for the whole program; it lives as long as the process, so that
// containers of static storage duration may use it too.
inline std::pmr::memory_resource* memory_resource() {
  static auto* const resource = new detail::resource;
  return resource;
}

}  // namespace v0
}  // namespace gm

#endif  // GMEM_MEMORY_HPP
