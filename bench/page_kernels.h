// SPDX-License-Identifier: Apache-2.0
// page_kernels.h - the work of the rows on demand, a page of 64 KiB at a time: over raw pointers and over views, so
// that floor and gmem do the same.
//
// words_of(memory, page) of both gives what a kernel goes over: one span of raw memory, or the spans of a view's page.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "bare_pager.h"
#include "gmem/view.hpp"

namespace gm::bench {

using word = std::uint64_t;
inline constexpr std::size_t page_words = page_bytes / sizeof(word);
inline constexpr std::size_t os_page_words = os_page_bytes / sizeof(word);

struct raw_span {
  word* data;
  std::size_t words;
  std::size_t size() const { return words; }
  word& operator[](std::size_t i) const { return data[i]; }
  word* begin() const { return data; }
  word* end() const { return data + words; }
};

inline std::array<raw_span, 1> words_of(word* memory, std::size_t page) {
  return {{{memory + page * page_words, page_words}}};
}

template <class T>
auto words_of(const gm::view<T>& memory, std::size_t page) {
  return memory.pages(page * page_words, (page + 1) * page_words);
}

// One word of each OS page, as sum_words() reads.
template <class Memory>
struct touch_page {
  Memory memory;
  word* sums;  // one a page
  void operator()(std::size_t page) const {
    word sum = 0;
    for (const auto& span : words_of(memory, page))
      for (std::size_t i = 0; i < span.size(); i += os_page_words) sum += span[i];
    sums[page] = sum;
  }
};

template <class Memory>
struct sum_page {
  Memory memory;
  word* sums;
  void operator()(std::size_t page) const {
    word sum = 0;
    for (const auto& span : words_of(memory, page))
      for (const word x : span) sum += x;
    sums[page] = sum;
  }
};

template <class Memory>
struct sum_elements {
  Memory memory;
  word* sums;
  void operator()(std::size_t page) const {
    word sum = 0;
    for (std::size_t i = page * page_words; i < (page + 1) * page_words; ++i) sum += memory[i];
    sums[page] = sum;
  }
};

template <class Memory>
struct add_one {
  Memory memory;
  void operator()(std::size_t page) const {
    for (const auto& span : words_of(memory, page))
      for (word& x : span) x += 1;
  }
};

}  // namespace gm::bench
