// SPDX-License-Identifier: Apache-2.0
// kernels.hpp - the comparison's device work, as bodies for gm::parallel_for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gmem/parallel.hpp"

namespace gm::bench {

// So many threads read all of the words, neighbours beside neighbours.
inline constexpr std::size_t sum_threads = std::size_t{1} << 18;

struct sum_words_body {
  const std::uint64_t* words;
  std::size_t count;
  std::uint64_t* sums;  // one a thread
  GM_HOST_DEVICE void operator()(std::size_t thread) const {
    std::uint64_t sum = 0;
    for (std::size_t i = thread; i < count; i += sum_threads) sum += words[i];
    sums[thread] = sum;
  }
};

struct set_words_body {
  std::uint64_t* words;
  std::uint64_t first;  // word i becomes first + i
  GM_HOST_DEVICE void operator()(std::size_t i) const { words[i] = first + i; }
};

struct add_to_words_body {
  std::uint64_t* words;
  std::uint64_t summand;
  GM_HOST_DEVICE void operator()(std::size_t i) const { words[i] += summand; }
};

}  // namespace gm::bench
