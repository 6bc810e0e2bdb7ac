// SPDX-License-Identifier: Apache-2.0
//
// scope.hpp - gm::scope, what queued device work is about to touch. Part of gmem.hpp.
//
//   {
//     gm::scope use(stream, gm::read(x), gm::write(y));
//     const float* from = gm::device_pointer(x.data(), stream);
//     float* to = gm::device_pointer(y.data(), stream);
//     gm::parallel_for(stream, n, GM_LAMBDA(size_t i) { to[i] = 2 * from[i]; });
//   }  // the pages stay where they are until the work queued before this brace is done; the host does not wait
//
// Within the braces this thread must not touch x or y itself: it would wait for its own scope for ever, and gets SIGBUS
// and a message instead. After them it may at once: the access waits for the kernel and for nothing else.
#ifndef GMEM_SCOPE_HPP
#define GMEM_SCOPE_HPP

#include <gmem/gmem.h>
#include <gmem/error.hpp>
#include <gmem/extent.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace gm {
inline namespace v0 {

// One declared range: made by gm::read, gm::write and gm::read_write, consumed by gm::scope. It owns nothing.
class access {
 public:
  access(const void* pointer, std::size_t bytes, gm_mode mode) noexcept
      : access_{const_cast<void*>(pointer), bytes, mode} {}

  [[nodiscard]] const gm_access& native() const noexcept { return access_; }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return access_.bytes; }

 private:
  gm_access access_;
};

// Counts are elements (bytes for void*). All of these throw gm::error, INVALID_ARGUMENT, when the size in bytes
// overflows; everything else about the range is checked when the scope begins.

// The work reads the range; whoever else reads it keeps its copy.
template <class T>
[[nodiscard]] access read(const T* pointer, std::size_t count) {
  return access(pointer, detail::bytes_of<T>(count), GM_READ);
}

template <detail::extent X>
[[nodiscard]] access read(X&& x) {
  const auto elements = detail::elements(std::forward<X>(x));
  return access(elements.data(), elements.size_bytes(), GM_READ);
}

// The work overwrites every byte of the range: the old contents are not brought to the device.
template <detail::writable T>
[[nodiscard]] access write(T* pointer, std::size_t count) {
  return access(pointer, detail::bytes_of<T>(count), GM_WRITE);
}

template <detail::writable_extent X>
[[nodiscard]] access write(X&& x) {
  const auto elements = detail::elements(std::forward<X>(x));
  return access(elements.data(), elements.size_bytes(), GM_WRITE);
}

// The work reads the range, writes it, or writes only parts of it.
template <detail::writable T>
[[nodiscard]] access read_write(T* pointer, std::size_t count) {
  return access(pointer, detail::bytes_of<T>(count), GM_READ_WRITE);
}

template <detail::writable_extent X>
[[nodiscard]] access read_write(X&& x) {
  const auto elements = detail::elements(std::forward<X>(x));
  return access(elements.data(), elements.size_bytes(), GM_READ_WRITE);
}

// The work fetches what it touches of the range itself, through a gm::view (view.hpp): as much as it likes of memory
// that may be larger than the device's. Nothing is brought by the scope. With const elements the work only reads. On a
// device without access maps (gm_node_info.has_access_map) it is read or read_write instead, and all must fit.
template <class T>
[[nodiscard]] access on_demand(T* pointer, std::size_t count) {
  const int mode = (std::is_const_v<T> ? GM_READ : GM_READ_WRITE) | GM_ON_DEMAND;
  return access(pointer, detail::bytes_of<T>(count), static_cast<gm_mode>(mode));
}

template <detail::extent X>
[[nodiscard]] access on_demand(X&& x) {
  const auto elements = detail::elements(std::forward<X>(x));
  return on_demand(elements.data(), elements.size());
}

// From construction to end() or destruction, the work queued on the stream finds the ranges on its device.
// Empty ranges are left out; a scope over nothing but empty ranges is not open. Movable, not copyable. Threads: begin
// and end it in one thread; another thread's conflicting scope waits for the end.
class [[nodiscard]] scope {
 public:
  // Brings the ranges, all or none, in the order of their addresses. stream: a gm::stream, a gm_stream, or nullptr for
  // the first device with everything there on return. Behind a conflicting scope that has ended the stream waits and
  // the host does not; behind one open in another thread this call waits.
  // Throws gm::error: NOT_MANAGED, NO_MEMORY (more than the device's budget), BUSY (a conflicting scope is open in this
  // thread, or the range is pinned to the host), DEVICE. Nothing is held then.
  template <std::same_as<access>... Rest>
  explicit scope(gm_stream stream, const access& first, const Rest&... rest) {
    std::array<gm_access, 1 + sizeof...(Rest)> accesses;
    std::size_t count = 0;
    for (const access* a : {&first, &rest...}) {
      if (a->size_bytes() != 0) accesses[count++] = a->native();
    }
    begin(stream, accesses.data(), count);
  }

  // The same for a number of ranges that is known at run time only.
  scope(gm_stream stream, std::span<const access> ranges) {
    std::vector<gm_access> accesses;
    accesses.reserve(ranges.size());
    for (const access& a : ranges) {
      if (a.size_bytes() != 0) accesses.push_back(a.native());
    }
    begin(stream, accesses.data(), accesses.size());
  }

  scope(scope&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

  // Ends the scope that was here as the destructor does.
  scope& operator=(scope&& other) noexcept {
    scope moved(std::move(other));
    std::swap(handle_, moved.handle_);
    return *this;
  }

  // Ends the declaration without waiting. An error is not reported here: use end() for that, or the stream's
  // synchronize(), which reports the work that the error kept from running.
  ~scope() {
    if (handle_ != nullptr) static_cast<void>(gm_access_end(handle_));
  }

  // Ends the declaration without waiting; a second call does nothing. Throws gm::error, DEVICE, when a copy that the
  // scope needed has failed: its kernels were not run. The scope is ended all the same.
  void end() {
    if (handle_ != nullptr) check(gm_access_end(std::exchange(handle_, nullptr)));
  }

  // For gm_view_get; null when the scope is not open.
  [[nodiscard]] gm_scope native() const noexcept { return handle_; }
  [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }

 private:
  void begin(gm_stream stream, const gm_access* accesses, std::size_t count) {
    if (count != 0) check(gm_access_begin(stream, accesses, count, &handle_));
  }

  gm_scope handle_ = nullptr;
};

}  // namespace v0
}  // namespace gm

#endif  // GMEM_SCOPE_HPP
