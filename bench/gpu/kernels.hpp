// SPDX-License-Identifier: Apache-2.0
// kernels.hpp - the comparison's device work, as bodies for gm::parallel_for, over raw pointers and over views.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gmem/parallel.hpp"

namespace gm::bench {

// So many threads read all of the words, neighbours beside neighbours.
inline constexpr std::size_t sum_threads = std::size_t{1} << 18;

template <class Words>
struct sum_words_body {
  Words words;
  std::size_t count;
  std::uint64_t* sums;  // one a thread
  GM_HOST_DEVICE void operator()(std::size_t thread) const {
    std::uint64_t sum = 0;
    for (std::size_t i = thread; i < count; i += sum_threads) sum += words[i];
    sums[thread] = sum;
  }
};

template <class Words>
struct set_words_body {
  Words words;
  std::uint64_t first;  // word i becomes first + i
  GM_HOST_DEVICE void operator()(std::size_t i) const { words[i] = first + i; }
};

template <class Words>
struct add_to_words_body {
  Words words;
  std::uint64_t summand;
  GM_HOST_DEVICE void operator()(std::size_t i) const { words[i] += summand; }
};

template <class Words>
sum_words_body(Words, std::size_t, std::uint64_t*) -> sum_words_body<Words>;
template <class Words>
set_words_body(Words, std::uint64_t) -> set_words_body<Words>;
template <class Words>
add_to_words_body(Words, std::uint64_t) -> add_to_words_body<Words>;

}  // namespace gm::bench
