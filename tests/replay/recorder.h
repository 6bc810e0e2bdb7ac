// SPDX-License-Identifier: Apache-2.0
// recorder.h - makes a trace of what a kernel of kernels/ touches: accessors over ordinary memory that note each page.
//
// A touch is noted when it misses a little table of recent pages (as a TLB's): what a node would fault on that brings
// single pages and keeps only a few. A first write to a page that is in the table for reading is noted as well. Time is
// 1 ns an access of an element. Pages are as small as the recording wants them: data a hundredth the size has as many.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "policy/placement.h"
#include "replay/trace.h"

namespace gm::test {

class recorder {
 public:
  explicit recorder(std::size_t bytes_a_page) : bytes_a_page_(bytes_a_page) {}
  trace& result() { return result_; }
  std::size_t bytes_a_page() const { return bytes_a_page_; }

  // Pages of a new allocation, in blocks of its own. Returns the first.
  std::uint64_t allocate(std::size_t bytes) {
    const std::uint64_t first = next_;
    const std::uint64_t pages = (bytes + bytes_a_page_ - 1) / bytes_a_page_;
    result_.allocations.push_back({first, first + pages});
    next_ = round_up(first + pages, pages_per_block);
    return first;
  }
  void touch(std::uint64_t page, bool write) {
    ++now_ns_;
    for (recent& r : recent_)
      if (r.used != 0 && r.page == page) {
        r.used = now_ns_;
        if (write && !r.written) note(page, write);
        r.written |= write;
        return;
      }
    note(page, write);
    *std::min_element(recent_.begin(), recent_.end(),
                      [](const recent& a, const recent& b) { return a.used < b.used; }) = {page, now_ns_, write};
  }

 private:
  struct recent {
    std::uint64_t page = 0;
    std::uint64_t used = 0;  // when; 0: never
    bool written = false;
  };
  void note(std::uint64_t page, bool write) { result_.touches.push_back({now_ns_, 1, page, write}); }

  std::size_t bytes_a_page_;
  std::uint64_t next_ = 0;
  std::uint64_t now_ns_ = 0;
  std::array<recent, 16> recent_{};
  trace result_;
};

// An array whose touches are recorded, as an accessor (kernels/accessor.hpp). Copies are of the same array.
template <class T>
class recorded {
 public:
  using value_type = T;

  recorded(recorder& to, std::size_t count, T value = T{})
      : to_(&to), first_page_(to.allocate(count * sizeof(T))), data_(std::make_shared<std::vector<T>>(count, value)) {}

  class reference {
   public:
    reference(const recorded& of, std::size_t i) : of_(of), i_(i) {}
    operator T() const { return load(); }
    void operator=(T value) const { of_.touched(i_, true) = value; }
    T load() const { return of_.touched(i_, false); }
    T fetch_add(T value) const {
      T& here = of_.touched(i_, true);
      const T before = here;
      here = static_cast<T>(before + value);
      return before;
    }
    bool compare_exchange(T expected, T desired) const {
      T& here = of_.touched(i_, true);
      if (here != expected) return false;
      here = desired;
      return true;
    }

   private:
    const recorded& of_;
    std::size_t i_;
  };
  reference operator[](std::size_t i) const { return {*this, i}; }
  // Not recorded: what is there before the kernel runs.
  std::vector<T>& contents() const { return *data_; }

 private:
  T& touched(std::size_t i, bool write) const {
    to_->touch(first_page_ + i * sizeof(T) / to_->bytes_a_page(), write);
    return (*data_)[i];
  }

  recorder* to_;
  std::uint64_t first_page_;
  std::shared_ptr<std::vector<T>> data_;
};

}  // namespace gm::test
