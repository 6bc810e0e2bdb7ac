// SPDX-License-Identifier: Apache-2.0
//
// view.hpp - gm::view, managed memory that a kernel reaches without having declared which parts of it.
//
//   gm::scope use(stream, gm::on_demand(x));
//   gm::view<float> v(use, x);
//   gm::parallel_for(stream, n, GM_LAMBDA(size_t i) { v[i] = 2 * v[index[i]]; });
//
// A view object is used by one thread at a time, since it remembers where it was; copies are cheap, and each thread of
// a kernel has its own (a kernel's body that cannot be copied must not hold views). It belongs to the scope that it was
// made from: it is good for work queued until the scope's end. Pages come when a kernel touches them, and may leave
// again while it runs, for room, or because the CPU or another device touches them. So x may be larger than the
// device's memory, and all processors may use it at the same time; what they do to one element without atomic
// operations is a race, as among threads.
//
//   v[i]                one element. Reading costs two loads of a table beside the element's own; writing pins its page
//   v.pages(a, b)       spans of raw memory, a page at a time, for bulk work: costs two atomics a page
//                       (where the view may write, v[i] is not a T but stands for the element, and so does auto x =
//                       v[i]: say T x = v[i], or v[i].load())
//   view<const T>       reads only: never takes a page from anybody who reads it too
//
// When a scope gets no more pages (its message is at gm_stream_synchronize: no room for what kernels hold at once, a
// copy that failed), elements read as T() from then on, writes are dropped and spans are empty, so that the kernel
// ends. Elements are trivially copyable, of 1, 2, 4 or a multiple of 4 bytes that divides 64 KiB, and none straddles
// two pages: the memory starts at a multiple of their size. An index past the end is caught in builds without NDEBUG,
// with the index and the size; in others it is undefined.
#ifndef GMEM_VIEW_HPP
#define GMEM_VIEW_HPP

#include <gmem/access_map.h>
#include <gmem/gmem.h>
#include <gmem/device_word.hpp>
#include <gmem/host_device.hpp>
#include <gmem/scope.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <utility>

namespace gm {
inline namespace v0 {

namespace detail {

inline constexpr std::uint64_t map_page_bytes = std::uint64_t{1} << GM_MAP_PAGE_BITS;

// Says what is wrong with an index, and ends the kernel or the program.
GM_HOST_DEVICE inline void index_past_end(std::size_t index, std::size_t size) {
#if GMEM_IN_KERNEL
  printf("gmem: index %llu of a view of %llu elements\n", static_cast<unsigned long long>(index),
         static_cast<unsigned long long>(size));
#if defined(__CUDA_ARCH__)
  __trap();
#else
  abort();
#endif
#else
  std::fprintf(stderr, "gmem: index %zu of a view of %zu elements\n", index, size);
  std::abort();
#endif
}

// The protocol of access_map.h, for bytes.
class mapped_bytes {
 public:
  mapped_bytes() = default;
  explicit mapped_bytes(const gm_view_data& data) : data_(data) {}

  GM_HOST_DEVICE std::uint64_t bytes() const { return data_.bytes; }
  GM_HOST_DEVICE unsigned char* direct() const { return data_.direct; }
  GM_HOST_DEVICE std::uint64_t page_of(std::uint64_t byte) const {
    return (data_.first_byte + byte) >> GM_MAP_PAGE_BITS;
  }
  // Of the page, in bytes of the view; the first begins before it where it does not start with a page.
  GM_HOST_DEVICE std::uint64_t end_of(std::uint64_t page) const {
    const std::uint64_t end = ((page + 1) << GM_MAP_PAGE_BITS) - data_.first_byte;
    return end < data_.bytes ? end : data_.bytes;
  }

  template <class T>
  GM_HOST_DEVICE T read(std::uint64_t byte) const {
    const std::uint64_t page = page_of(byte);
#if !GMEM_IN_KERNEL
    // Host code mostly goes on in the page it was in. Its entry is good however old it is, if it stands afterwards.
    // Threads that share the view may have mixed page and entry up: then it is not what stands there.
    if (page == device_word::peek(&last_page_)) [[likely]] {
      const std::uint64_t last = device_word::peek(&last_entry_);
      const T value = device_word::read_unsure(reinterpret_cast<const T*>(place(last, byte)));
      device_word::read_fence();
      if (device_word::peek(data_.entries + page) == last) [[likely]]
        return value;
    }
#endif
    if (data_.direct != nullptr) return device_word::read_unsure(reinterpret_cast<const T*>(data_.direct + byte));
    const std::uint64_t entry = device_word::follow(data_.entries + page);
    T value;
    if ((entry & GM_MAP_PRESENT) != 0 && read_at(entry, byte, value)) [[likely]] {
#if !GMEM_IN_KERNEL
      device_word::mark(&last_entry_, entry);
      device_word::mark(&last_page_, page);
#endif
      return value;
    }
    return read_when_there<T>(*this, byte);
  }

  // The page stays, and may be written where that was asked for, until unpin(page). Null: the scope gets no more.
  GM_HOST_DEVICE unsigned char* pin(std::uint64_t byte, bool to_write) const {
    const std::uint64_t page = page_of(byte);
    const std::uint64_t needed = to_write ? GM_MAP_PRESENT | GM_MAP_WRITABLE : GM_MAP_PRESENT;
    for (;;) {
      const std::uint64_t entry = device_word::load(data_.entries + page);
      if ((entry & needed) != needed) {
        if (!fetch(page, to_write, entry)) return nullptr;
        continue;
      }
      // What would be written may have been made of pages that were not had.
      if (to_write && has_given_up()) return nullptr;
      device_word::add(data_.pins + page);
      if (device_word::load(data_.entries + page) == entry) {
        mark_accessed(page);
        return place(entry, byte);
      }
      device_word::subtract(data_.pins + page);
    }
  }
  GM_HOST_DEVICE void unpin(std::uint64_t page) const { device_word::subtract(data_.pins + page); }

 private:
  // False: the page has left meanwhile.
  template <class T>
  GM_HOST_DEVICE bool read_at(std::uint64_t entry, std::uint64_t byte, T& value) const {
    const std::uint64_t page = page_of(byte);
    value = device_word::read_unsure(reinterpret_cast<const T*>(place(entry, byte)));
    device_word::read_fence();
    if (device_word::peek(data_.entries + page) != entry) return false;
    mark_accessed(page);
    return true;
  }
  // Apart, and with a map of its own, so that the map stays in registers where pages are there.
  template <class T>
  GM_HOST_DEVICE static __attribute__((noinline)) T read_when_there(mapped_bytes map, std::uint64_t byte) {
    const std::uint64_t page = map.page_of(byte);
    for (;;) {
      const std::uint64_t entry = device_word::follow(map.data_.entries + page);
      T value;
      if ((entry & GM_MAP_PRESENT) == 0) {
        if (!map.fetch(page, false, entry)) return T();
      } else if (map.read_at(entry, byte, value)) {
        return value;
      }
    }
  }
  GM_HOST_DEVICE unsigned char* place(std::uint64_t entry, std::uint64_t byte) const {
    const std::uint64_t in_page = (data_.first_byte + byte) & (map_page_bytes - 1);
    return reinterpret_cast<unsigned char*>(data_.pool + ((entry >> GM_MAP_PLACE_SHIFT) << GM_MAP_PAGE_BITS) + in_page);
  }
  GM_HOST_DEVICE void mark_accessed(std::uint64_t page) const {
    if (device_word::peek(data_.accessed + page) == 0) device_word::mark(data_.accessed + page, std::uint8_t{1});
  }

  // Until the entry is another one. False: the scope gets no more pages.
  GM_HOST_DEVICE bool fetch(std::uint64_t page, bool to_write, std::uint64_t entry) const {
    const auto generation = static_cast<std::uint32_t>(entry >> GM_MAP_GENERATION_SHIFT) & GM_MAP_GENERATION_MASK;
    const std::uint32_t wish = (generation + 1) * 2 + (to_write ? 1 : 0);
    for (std::uint32_t posted = device_word::load(data_.wanted + page);;) {
      // Somebody has asked for as much or more.
      if (posted / 2 == generation + 1 && posted >= wish) break;
      if (device_word::exchange_if(data_.wanted + page, posted, wish)) {
        if (!post(page, to_write)) return false;
        break;
      }
      posted = device_word::load(data_.wanted + page);
    }
    while (device_word::peek(data_.entries + page) == entry) {
      if (has_given_up()) return false;
      device_word::pause();
    }
    return true;
  }
  GM_HOST_DEVICE bool has_given_up() const { return device_word::peek(&data_.control->given_up[data_.scope]) != 0; }
  GM_HOST_DEVICE bool post(std::uint64_t page, bool to_write) const {
    const std::uint64_t slots = device_word::peek(&data_.control->slots);
    const std::uint64_t ticket = device_word::take_ticket(&data_.control->tickets);
    // A ticket that is taken is used, or the ring would stand still for others: the host empties it in any case.
    while (ticket - device_word::load(&data_.control->consumed) >= slots) device_word::pause();
    const std::uint64_t turn = (ticket / slots + 1) & GM_REQUEST_TURN_MASK;
    const std::uint64_t request = (data_.first_page + page) |
                                  std::uint64_t{to_write ? 1u : 0u} << GM_REQUEST_WRITE_SHIFT |
                                  std::uint64_t{data_.scope} << GM_REQUEST_SCOPE_SHIFT | turn << GM_REQUEST_TURN_SHIFT;
    auto* const ring = reinterpret_cast<std::uint64_t*>(device_word::peek(&data_.control->ring));
    device_word::post(ring + (ticket & (slots - 1)), request);
    return true;
  }

  gm_view_data data_{};
  // What host code has read last through this copy of the view.
  [[maybe_unused]] mutable std::uint64_t last_entry_ = 0;
  [[maybe_unused]] mutable std::uint64_t last_page_ = ~std::uint64_t{0};
};

// v[i] of a view that may write.
template <class T>
class element {
 public:
  using value_type = T;
  GM_HOST_DEVICE element(const mapped_bytes& map, std::uint64_t byte) : map_(map), byte_(byte) {}
  element(const element&) = default;

  GM_HOST_DEVICE operator T() const { return load(); }
  GM_HOST_DEVICE T load() const { return map_.read<T>(byte_); }
  GM_HOST_DEVICE const element& operator=(const T& value) const {
    return update([&](T* at) { *at = value; });
  }
  GM_HOST_DEVICE const element& operator=(const element& other) const { return *this = other.load(); }
  // Not atomic: one thread's += may be lost beside another's.
  GM_HOST_DEVICE const element& operator+=(const T& value) const {
    return update([&](T* at) { *at = static_cast<T>(*at + value); });
  }
  GM_HOST_DEVICE const element& operator-=(const T& value) const {
    return update([&](T* at) { *at = static_cast<T>(*at - value); });
  }
  GM_HOST_DEVICE const element& operator*=(const T& value) const {
    return update([&](T* at) { *at = static_cast<T>(*at * value); });
  }
  GM_HOST_DEVICE const element& operator/=(const T& value) const {
    return update([&](T* at) { *at = static_cast<T>(*at / value); });
  }
  GM_HOST_DEVICE const element& operator|=(const T& value) const {
    return update([&](T* at) { *at = static_cast<T>(*at | value); });
  }
  GM_HOST_DEVICE const element& operator&=(const T& value) const {
    return update([&](T* at) { *at = static_cast<T>(*at & value); });
  }
  GM_HOST_DEVICE const element& operator++() const {
    return update([&](T* at) { ++*at; });
  }
  GM_HOST_DEVICE const element& operator--() const {
    return update([&](T* at) { --*at; });
  }

  // Atomic among the kernels of one device, and with its page pinned: others have the page before or after. Numbers of
  // 4 or 8 bytes. Returns what was there.
  GM_HOST_DEVICE T fetch_add(T value) const {
    T before{};
    update([&](T* at) { before = device_word::fetch_add(at, value); });
    return before;
  }
  // Whole numbers. Replaces what is there when it is what is expected; says whether.
  GM_HOST_DEVICE bool compare_exchange(T expected, T desired) const {
    bool done = false;
    update([&](T* at) { done = device_word::compare_exchange(at, expected, desired); });
    return done;
  }

 private:
  template <class F>
  GM_HOST_DEVICE const element& update(F&& change) const {
    if (map_.direct() != nullptr) {
      change(reinterpret_cast<T*>(map_.direct() + byte_));
    } else if (unsigned char* at = map_.pin(byte_, true); at != nullptr) {
      change(reinterpret_cast<T*>(at));
      map_.unpin(map_.page_of(byte_));
    }
    return *this;
  }

  const mapped_bytes& map_;
  std::uint64_t byte_;
};

}  // namespace detail

// Part of a page that stays where it is while the span lives. At most one at a time in a thread that also touches other
// pages: every span that is held is a page that cannot make room.
template <class T>
class page_span {
 public:
  page_span() = default;
  GM_HOST_DEVICE page_span(T* data, std::size_t first, std::size_t size) : data_(data), first_(first), size_(size) {}

  GM_HOST_DEVICE T* data() const { return data_; }
  GM_HOST_DEVICE std::size_t size() const { return size_; }    // elements; 0: the scope gets no more pages
  GM_HOST_DEVICE std::size_t first() const { return first_; }  // index in the view of the span's first element
  GM_HOST_DEVICE T& operator[](std::size_t i) const { return data_[i]; }
  GM_HOST_DEVICE T* begin() const { return data_; }
  GM_HOST_DEVICE T* end() const { return data_ + size_; }

 private:
  T* data_ = nullptr;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

template <class T>
class view {
  using mutable_type = std::remove_const_t<T>;

 public:
  using value_type = mutable_type;
  static_assert(std::is_trivially_copyable_v<T>, "a view's elements are copied as bytes");
  static_assert(detail::map_page_bytes % sizeof(T) == 0,
                "an element's size divides 64 KiB, so that none has two pages");

  view() = default;

  // Over memory that the scope has on demand (gm::on_demand), or all of it as declared. Throws gm::error: NOT_MANAGED
  // (not memory of gm_malloc, or freed, or not the scope's), INVALID_ARGUMENT (it does not start at a multiple of
  // sizeof(T); the scope only reads and T is not const).
  view(const scope& use, T* pointer, std::size_t count) {
    if (count == 0) return;
    gm_view_data data;
    check(gm_view_get(use.native(), pointer, detail::bytes_of<T>(count), &data));
    if (reinterpret_cast<std::uintptr_t>(pointer) % sizeof(T) != 0)
      throw error(GM_ERROR_INVALID_ARGUMENT,
                  "a view begins at a multiple of its element's size, " + std::to_string(sizeof(T)) + " bytes");
    if (!std::is_const_v<T> && data.may_write == 0)
      throw error(GM_ERROR_INVALID_ARGUMENT, "the scope only reads this memory: use gm::view<const T>");
    map_ = detail::mapped_bytes(data);
  }
  template <detail::extent X>
  view(const scope& use, X&& x)
      : view(use, detail::elements(std::forward<X>(x)).data(), detail::elements(std::forward<X>(x)).size()) {}

  GM_HOST_DEVICE std::size_t size() const { return map_.bytes() / sizeof(T); }

  // const T: the element's value. Else something that converts to it and takes one by assignment.
  GM_HOST_DEVICE auto operator[](std::size_t i) const {
#if !defined(NDEBUG)
    if (i >= size()) detail::index_past_end(i, size());
#endif
    const detail::element<mutable_type> at(map_, i * sizeof(T));
    if constexpr (std::is_const_v<T>) {
      return at.load();
    } else {
      return at;
    }
  }

  // Calls nothing: an iterator over the spans of elements [first, last), in order. Each is let go when the next comes.
  class page_range {
   public:
    class iterator {
     public:
      GM_HOST_DEVICE iterator(const detail::mapped_bytes* map, std::uint64_t at, std::uint64_t end)
          : map_(map), at_(at), end_(end) {
        take();
      }
      iterator(const iterator&) = delete;
      iterator& operator=(const iterator&) = delete;
      GM_HOST_DEVICE ~iterator() { let_go(); }
      GM_HOST_DEVICE const page_span<T>& operator*() const { return span_; }
      GM_HOST_DEVICE iterator& operator++() {
        let_go();
        at_ = next_;
        take();
        return *this;
      }
      GM_HOST_DEVICE bool operator!=(const iterator& other) const { return at_ != other.at_; }
      GM_HOST_DEVICE bool operator!=(std::nullptr_t) const { return at_ != end_; }

     private:
      GM_HOST_DEVICE void take() {
        if (at_ == end_) return;
        if (map_->direct() != nullptr) {
          next_ = end_;
          span_ = {reinterpret_cast<T*>(map_->direct() + at_), at_ / sizeof(T), (end_ - at_) / sizeof(T)};
          return;
        }
        next_ = map_->end_of(map_->page_of(at_));
        if (next_ > end_) next_ = end_;
        unsigned char* const where = map_->pin(at_, !std::is_const_v<T>);
        held_ = where != nullptr;
        if (!held_) next_ = end_;  // no more pages: the loop is over
        if (!held_) at_ = end_;
        if (held_) span_ = {reinterpret_cast<T*>(where), at_ / sizeof(T), (next_ - at_) / sizeof(T)};
      }
      GM_HOST_DEVICE void let_go() {
        if (held_) map_->unpin(map_->page_of(at_));
        held_ = false;
      }

      const detail::mapped_bytes* map_;
      std::uint64_t at_;
      std::uint64_t end_;
      std::uint64_t next_ = 0;
      bool held_ = false;
      page_span<T> span_;
    };

    GM_HOST_DEVICE page_range(const detail::mapped_bytes& map, std::uint64_t first, std::uint64_t last)
        : map_(map), first_(first), last_(last) {}
    GM_HOST_DEVICE iterator begin() const { return {&map_, first_, last_}; }
    GM_HOST_DEVICE std::nullptr_t end() const { return nullptr; }

   private:
    const detail::mapped_bytes& map_;
    std::uint64_t first_;
    std::uint64_t last_;
  };

  // for (const auto& span : v.pages(first, last)) for (T& x : span) ...   0 <= first <= last <= size().
  GM_HOST_DEVICE page_range pages(std::size_t first, std::size_t last) const {
#if !defined(NDEBUG)
    if (last > size() || first > last) detail::index_past_end(first > last ? first : last, size());
#endif
    return {map_, first * sizeof(T), last * sizeof(T)};
  }
  GM_HOST_DEVICE page_range pages() const { return pages(0, size()); }

 private:
  detail::mapped_bytes map_;
};

template <class X>
view(const scope&, X&&) -> view<detail::element_of<X>>;
template <class T>
view(const scope&, T*, std::size_t) -> view<T>;

}  // namespace v0
}  // namespace gm

#endif  // GMEM_VIEW_HPP
