// SPDX-License-Identifier: Apache-2.0
// frames.h - a pool of eight frames.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "frame/frame_pool.h"

namespace gm::test {

inline constexpr auto cold = victim_class::cold;
inline constexpr auto normal = victim_class::normal;
inline constexpr auto kept = victim_class::kept;

using blocks = std::vector<std::uint64_t>;

class frames : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(pool.create(8), status::ok); }
  void TearDown() override { EXPECT_TRUE(pool.validate()) << "F1, F2"; }

  frame_index take(std::uint64_t block, victim_class which = normal) {
    frame_index frame = no_frame;
    EXPECT_TRUE(pool.take({{block}, 1}, which, &frame));
    return frame;
  }
  // First blocks of the pieces in the order of eviction.
  std::vector<std::uint64_t> order(std::size_t most = 64, std::size_t skip = 0) const {
    piece pieces[64];
    std::vector<std::uint64_t> firsts;
    for (std::size_t i = 0, count = pool.victims(pieces, most, skip); i < count; ++i)
      firsts.push_back(pieces[i].first.value);
    return firsts;
  }
  frame_pool pool;
};

}  // namespace gm::test
