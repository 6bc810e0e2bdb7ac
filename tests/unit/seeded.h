// SPDX-License-Identifier: Apache-2.0
// seeded.h - random tests that can be repeated: each prints its seed, and takes one from GM_TEST_SEED.
// GM_TEST_SCALE multiplies how much they do (sanitizer builds do less).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace gm::test {

using rng = std::mt19937_64;

inline std::uint64_t seed() {
  static const std::uint64_t chosen = [] {
    const char* text = std::getenv("GM_TEST_SEED");
    const std::uint64_t value = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
    std::fprintf(stderr, "GM_TEST_SEED=%llu\n",
                 static_cast<unsigned long long>(value));  // also when it ends in a crash
    return value;
  }();
  return chosen;
}

inline int scaled(int steps) {
  const char* text = std::getenv("GM_TEST_SCALE");
  return std::max(1, static_cast<int>(steps * (text != nullptr ? std::strtod(text, nullptr) : 1.0)));
}

// Uniform in [0, count).
inline std::uint64_t below(rng& random, std::uint64_t count) { return random() % count; }

}  // namespace gm::test
