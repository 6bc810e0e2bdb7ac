// SPDX-License-Identifier: Apache-2.0
// everything_at_once_test.cpp - threads that fault, launch, prefetch, free and allocate, under a budget of a quarter of
// the data, every word checked each time somebody looks.
#include <gtest/gtest.h>

#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "model/live_runtime.h"
#include "model/watchdog.h"
#include "stress/device_work.h"

namespace gm::test {
namespace {

// Word i of an array holds base + i. Whoever holds the lock may use and replace it.
struct array {
  std::mutex lock;
  std::uint64_t* words = nullptr;
  std::size_t count = 0;
  std::uint64_t base = 0;
};

class crowd_of_arrays {
 public:
  crowd_of_arrays(std::size_t many, watchdog& dog) : arrays_(many), dog_(dog) {}
  ~crowd_of_arrays() {
    for (array& a : arrays_) gm_free(a.words);
  }

  void work(unsigned seed, unsigned steps, int devices) {
    std::mt19937 random(seed);
    std::vector<std::unique_ptr<device_stream>> streams;
    for (int node = 1; node <= devices; ++node) streams.push_back(std::make_unique<device_stream>(node));
    for (unsigned step = 0; step < steps && !testing::Test::HasFailure(); ++step) {
      array& a = arrays_[random() % arrays_.size()];
      const std::scoped_lock held(a.lock);
      dog_.progress();
      if (a.words == nullptr) make(a, random);
      const device_stream& stream = *streams[random() % streams.size()];
      switch (random() % 8) {
        case 0:
        case 1:
          check_all(a);
          break;
        case 2:
          change_by_cpu(a, random() % 1000);
          break;
        case 3:
        case 4:
        case 5:
          change_by_device(a, stream, random() % 1000, random() % 2 == 0);
          break;
        case 6:
          prefetch(a, static_cast<int>(random() % static_cast<unsigned>(devices + 1)));
          break;
        default:
          check_some(a, random);
          gm_free(a.words);
          a.words = nullptr;
      }
    }
    for (const auto& stream : streams) EXPECT_EQ(stream->wait(), GM_OK) << gm_last_error();
  }

  void check_everything() {
    for (array& a : arrays_)
      if (a.words != nullptr) check_all(a);
  }

 private:
  // Half of them share blocks with others.
  static void make(array& a, std::mt19937& random) {
    a.count = (random() % 2 == 0 ? 2 * block_size : 3 * page_size + 512) / sizeof(std::uint64_t);
    a.words = static_cast<std::uint64_t*>(gm_malloc(a.count * sizeof(std::uint64_t)));
    ASSERT_NE(a.words, nullptr) << gm_last_error();
    a.base = random();
    for (std::size_t i = 0; i < a.count; ++i) a.words[i] = a.base + i;
  }

  static void check_all(const array& a) {
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < a.count; ++i) wrong += a.words[i] != a.base + i;
    EXPECT_EQ(wrong, 0u) << "of " << a.count << " words";
  }

  static void check_some(const array& a, std::mt19937& random) {
    for (int look = 0; look < 20; ++look) {
      const std::size_t i = random() % a.count;
      ASSERT_EQ(a.words[i], a.base + i) << "word " << i;
    }
  }

  static void change_by_cpu(array& a, std::uint64_t add) {
    for (std::size_t i = 0; i < a.count; ++i) a.words[i] += add;
    a.base += add;
  }

  static void change_by_device(array& a, const device_stream& stream, std::uint64_t add, bool wait) {
    ASSERT_EQ(add_on_device(stream, a.words, a.count, add), GM_OK) << gm_last_error();
    a.base += add;
    if (wait) EXPECT_EQ(stream.wait(), GM_OK) << gm_last_error();
  }

  static void prefetch(const array& a, int node) {
    ASSERT_EQ(gm_prefetch(a.words, a.count * sizeof(std::uint64_t), node, nullptr), GM_OK) << gm_last_error();
  }

  std::vector<array> arrays_;
  watchdog& dog_;
};

class everything_at_once : public testing::TestWithParam<flavour> {};

TEST_P(everything_at_once, no_word_is_lost) {
  const flavour& f = GetParam();
  SCOPED_TRACE("GM_TEST_SEED=" + std::to_string(stress_seed()));
  const live_runtime runtime(f);
  ASSERT_TRUE(runtime.started());
  watchdog dog("everything_at_once");
  constexpr unsigned threads = 4;
  const auto steps = static_cast<unsigned>(400 * test_scale()) + 20;
  {
    // Up to 20 arrays of 4 MiB, or of some 200 KiB: about 45 MiB, four times a device's budget.
    crowd_of_arrays arrays(20, dog);
    std::vector<std::thread> crowd;
    for (unsigned t = 0; t < threads; ++t)
      crowd.emplace_back(
          [&, t] { arrays.work(static_cast<unsigned>(stress_seed()) + t, steps, static_cast<int>(f.devices)); });
    for (std::thread& t : crowd) t.join();
    ASSERT_TRUE(debug_settle(30 * second_ns));
    EXPECT_TRUE(table_is_valid_at_rest());
    arrays.check_everything();
  }
  ASSERT_TRUE(debug_settle(30 * second_ns));
  EXPECT_TRUE(table_is_valid_at_rest());
  gm_stats stats{};
  stats.size = sizeof stats;
  ASSERT_EQ(gm_stats_get(&stats), GM_OK);
  EXPECT_EQ(stats.allocations, 0u);
  EXPECT_EQ(stats.node[GM_HOST].frames_used, 0u) << "host pages of freed memory";
  EXPECT_EQ(stats.node[1].frames_used, 0u) << "frames of freed memory";
}

constexpr std::uint64_t budget = 12 * mebibyte;
INSTANTIATE_TEST_SUITE_P(
    flavours, everything_at_once,
    testing::Values(
        flavour{.name = "window", .device_budget_bytes = budget},
        flavour{.name = "no_window", .window = false, .device_budget_bytes = budget},
        flavour{.name = "inline_faults", .fault_mode = "inline", .device_budget_bytes = budget},
        flavour{.name = "one_device_slow_link", .devices = 1, .device_budget_bytes = budget, .latency_ns = 20000}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace gm::test
