// SPDX-License-Identifier: Apache-2.0
// on_demand.h - kernels of one lane in on-demand scopes.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include "gmem/gmem.hpp"
#include "gmem/parallel.hpp"
#include "gmem/view.hpp"
#include "unit/must_end.h"
#include "unit/running_gmem.h"

namespace gm::test {

using word = std::uint32_t;
inline constexpr std::size_t page_words = page / sizeof(word);
inline constexpr std::size_t block_words = block / sizeof(word);
inline constexpr gm_mode demand_reads = static_cast<gm_mode>(GM_READ | GM_ON_DEMAND);
inline constexpr gm_mode demand_writes = static_cast<gm_mode>(GM_READ_WRITE | GM_ON_DEMAND);

class on_demand_test : public running_gmem {
 protected:
  word* make_words(std::size_t count) { return reinterpret_cast<word*>(make(count * sizeof(word))); }
  // A kernel of one lane.
  template <class F>
  static void kernel(gm_stream s, F work) {
    gm::parallel_for(s, 1, [=](std::size_t) { work(); });
  }
  // Wakes whoever waits in a kernel.
  static void wait_for(const std::atomic<bool>& flag) {
    while (!flag) std::this_thread::yield();
  }

  const must_end end_{testing::UnitTest::GetInstance()->current_test_info()->name()};
};

}  // namespace gm::test
