// SPDX-License-Identifier: Apache-2.0
// host_work_test.cpp - gm_memset and gm_memcpy by the host over memory that a device holds, while another thread's
// scopes need that device's frames: whatever is evicted, the host's bytes are the ones that count.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "model/watchdog.h"
#include "stress/stress_flavours.h"

namespace gm::test {
namespace {

constexpr std::size_t bytes = 16 * mebibyte;

class host_work : public testing::TestWithParam<flavour> {};

TEST_P(host_work, wins_over_eviction) {
  watchdog dog("stress: host work");
  const live_runtime live(GetParam());
  ASSERT_TRUE(live.started());
  auto* p = static_cast<std::uint8_t*>(gm_malloc(bytes));
  void* other = gm_calloc(bytes, 1);
  gm_stream stream = nullptr;
  ASSERT_EQ(gm_stream_create(1, &stream), GM_OK);
  std::atomic<bool> over{false};
  std::atomic<unsigned> scopes{0};
  std::thread evictor([&] {
    while (!over.load()) {
      const gm_access access{other, bytes, GM_READ_WRITE};
      gm_scope scope = nullptr;
      if (gm_access_begin(nullptr, &access, 1, &scope) != GM_OK) continue;
      EXPECT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
      ++scopes;
    }
  });
  std::vector<std::uint8_t> source(bytes);
  const std::uint64_t rounds = scaled(60);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    const auto old_value = static_cast<std::uint8_t>(2 * round + 1);
    const auto value = static_cast<std::uint8_t>(2 * round + 2);
    ASSERT_EQ(gm_memset(p, old_value, bytes, 1, nullptr), GM_OK) << gm_last_error();
    std::fill(source.begin(), source.end(), value);
    gm_status result = GM_OK;
    switch (round % 4) {
      case 0:
        result = gm_memset(p, value, bytes, GM_HOST, nullptr);
        break;
      case 1:
        result = gm_memset(p, value, bytes, GM_HOST, stream);
        break;
      case 2:
        result = gm_memcpy(p, source.data(), bytes, GM_HOST, nullptr);
        break;
      default:
        result = gm_memcpy(p, source.data(), bytes, GM_HOST, stream);
    }
    ASSERT_EQ(result, GM_OK) << gm_last_error();
    ASSERT_EQ(gm_stream_synchronize(stream), GM_OK) << gm_last_error();
    const auto wrong =
        static_cast<std::size_t>(std::count_if(p, p + bytes, [&](std::uint8_t b) { return b != value; }));
    ASSERT_EQ(wrong, 0u) << "in round " << round;
    dog.progress();
  }
  over = true;
  evictor.join();
  EXPECT_GT(scopes.load(), 0u);
  ASSERT_EQ(gm_stream_destroy(stream), GM_OK);
  gm_free(p);
  gm_free(other);
  EXPECT_TRUE(table_is_valid_at_rest());
}

INSTANTIATE_TEST_SUITE_P(stress, host_work,
                         testing::Values(stress_flavour("window", true, "thread", 24 * mebibyte),
                                         stress_flavour("no_window", false, "thread", 24 * mebibyte)),
                         flavour_name);

}  // namespace
}  // namespace gm::test
