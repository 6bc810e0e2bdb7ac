// SPDX-License-Identifier: Apache-2.0
// starved_touches_test.cpp - plain loads and stores under a host budget that is always full: as long as memory can be
// made of what the host need not hold, or copies in flight hold it, a touch waits its turn and never dies.
#include <atomic>
#include <thread>
#include <vector>

#include "model/oracle_kernel.h"
#include "model/watchdog.h"
#include "stress/stress_flavours.h"

namespace gm::test {
namespace {

constexpr std::size_t budget_pages = 16;
constexpr std::size_t data_pages = 128;
constexpr std::size_t data_bytes = data_pages * page_size;

class starved_touches : public testing::TestWithParam<flavour> {
 protected:
  static flavour with_budget(flavour f) {
    f.host_budget_bytes = budget_pages * page_size;
    return f;
  }
  void SetUp() override { ASSERT_TRUE(live_.started()); }
  void TearDown() override { expect_nothing_is_kept(); }

  static std::uint8_t* on_device(std::size_t bytes, int value) {
    auto* p = static_cast<std::uint8_t*>(gm_malloc(bytes));
    EXPECT_NE(p, nullptr) << gm_last_error();
    EXPECT_EQ(gm_memset(p, value, bytes, 1, nullptr), GM_OK) << gm_last_error();
    return p;
  }
  // Each of so many threads reads all of it from a place of its own.
  void read_all(const std::uint8_t* p, unsigned count, std::size_t step, std::uint64_t rounds) {
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < count; ++t)
      threads.emplace_back([&, t] {
        for (std::uint64_t round = 0; round < rounds; ++round)
          for (std::size_t i = 0; i < data_bytes; i += step) {
            const std::size_t at = (i + t * (data_bytes / count)) % data_bytes;
            if (static_cast<const volatile std::uint8_t*>(p)[at] != 7) wrong.fetch_add(1);
            dog_.progress();
          }
      });
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(wrong.load(), 0u);
    EXPECT_LE(stats_now().node[GM_HOST].frames_used, budget_pages);
  }

  live_runtime live_{with_budget(GetParam())};
  watchdog dog_{"starved_touches"};
};

TEST_P(starved_touches, one_thread_in_order_takes_what_fits) {
  std::uint8_t* p = on_device(data_bytes, 7);
  read_all(p, 1, page_size / 4, 2);
  gm_free(p);
}

// What the host alone holds leaves one page.
TEST_P(starved_touches, one_page_is_enough) {
  auto* kept = static_cast<std::uint8_t*>(gm_malloc(data_bytes));
  for (std::size_t page = 0; page + 1 < budget_pages; ++page) kept[page * page_size] = static_cast<std::uint8_t>(page);
  std::uint8_t* p = on_device(data_bytes, 7);
  read_all(p, 1, page_size, 1);
  read_all(p, 4, page_size, 1);
  for (std::size_t page = 0; page + 1 < budget_pages; ++page)
    EXPECT_EQ(kept[page * page_size], static_cast<std::uint8_t>(page));
  gm_free(kept);
  gm_free(p);
}

TEST_P(starved_touches, many_threads_take_turns) {
  std::uint8_t* p = on_device(data_bytes, 7);
  for (const unsigned count : {2u, 4u, 16u}) read_all(p, count, page_size, 1 + scaled(4));
  gm_free(p);
}

// Memory that is new is had by those who ask while others' copies come and go.
TEST_P(starved_touches, new_pages_are_made_beside_copies) {
  std::uint8_t* p = on_device(data_bytes, 7);
  std::atomic<bool> over{false};
  std::thread reader([&] {
    read_all(p, 3, page_size, 1 + scaled(4));
    over = true;
  });
  std::uint64_t made = 0;
  do {
    auto* fresh = static_cast<std::uint8_t*>(gm_malloc(4 * page_size));
    for (std::size_t page = 0; page < 4; ++page) {
      EXPECT_EQ(fresh[page * page_size], 0);
      fresh[page * page_size] = 1;
    }
    gm_free(fresh);
    ++made;
  } while (!over);
  reader.join();
  EXPECT_GT(made, 0u);
  gm_free(p);
}

INSTANTIATE_TEST_SUITE_P(stress, starved_touches, testing::ValuesIn(every_flavour(16 * mebibyte)), flavour_name);

}  // namespace
}  // namespace gm::test
