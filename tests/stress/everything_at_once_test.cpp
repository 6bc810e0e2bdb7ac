// SPDX-License-Identifier: Apache-2.0
// everything_at_once_test.cpp - threads that fault, launch, prefetch, free and allocate, where each device may hold a
// quarter of the data. Every word is verified each time somebody looks, be it a CPU or a kernel.
#include <deque>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "model/watchdog.h"
#include "stress/stress_flavours.h"
#include "stress/versioned_words.h"

namespace gm::test {
namespace {

constexpr unsigned threads_count = 6;
constexpr std::uint64_t budget_bytes = 12 * mebibyte;
constexpr std::size_t data_bytes = 4 * budget_bytes;
constexpr std::size_t words_in_page = page_size / sizeof(std::uint64_t);

// Whoever looks shares the lock; whoever changes or replaces the array has it alone. Work on it may be queued
// meanwhile.
struct array {
  std::shared_mutex lock;
  std::uint64_t* words = nullptr;
  std::size_t count = 0;
  std::uint64_t version = 0;
  bool small = false;  // shares a block with others
};

class crowd_of_arrays {
 public:
  explicit crowd_of_arrays(watchdog& dog) : dog_(dog) {
    random_source random(stress_seed());
    for (std::size_t bytes = 0; bytes < data_bytes; bytes += arrays_.back().count * sizeof(std::uint64_t)) {
      array& a = arrays_.emplace_back();
      a.small = arrays_.size() % 2 == 0;
      make(a, random);
    }
  }
  ~crowd_of_arrays() {
    for (array& a : arrays_) gm_free(a.words);
  }

  void work(std::uint64_t seed, std::uint64_t steps, unsigned devices) {
    random_source random(seed);
    std::deque<verifying_lane> lanes;
    for (unsigned node = 1; node <= devices; ++node) lanes.emplace_back(static_cast<int>(node));
    for (std::uint64_t i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
      step(arrays_[random.below(arrays_.size())], lanes[random.below(devices)], random);
      dog_.progress();
    }
    for (verifying_lane& l : lanes) l.wait();
  }

  void check_everything() {
    for (const array& a : arrays_) check(a);
  }

 private:
  void step(array& a, verifying_lane& l, random_source& random) {
    const std::uint64_t what = random.below(9);
    if (what < 2) {
      const std::shared_lock held(a.lock);
      check(a);
      return;
    }
    const std::unique_lock held(a.lock);
    switch (what) {
      case 2:
        check(a);
        write(a);
        break;
      case 3:
      case 4:
      case 5:
      case 6:
        launch(a, l);
        if (random.chance(50)) l.wait();
        break;
      case 7:
        prefetch(a, l, random);
        break;
      default:
        if (random.chance(50)) check(a);  // else with work still queued on it
        gm_free(a.words);
        make(a, random);
    }
  }

  void make(array& a, random_source& random) {
    const std::size_t pages = a.small ? 4 : random.between(1, 2 * block_size / page_size);
    a.count = pages * words_in_page - random.below(words_in_page);
    a.words = static_cast<std::uint64_t*>(gm_malloc(a.count * sizeof(std::uint64_t)));
    ASSERT_NE(a.words, nullptr) << gm_last_error();
    write(a);
  }

  void write(array& a) {
    a.version = ++versions_;
    for (std::size_t i = 0; i < a.count; ++i) a.words[i] = word_of(a.version, i);
  }

  static void check(const array& a) {
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < a.count; ++i) wrong += a.words[i] != word_of(a.version, i) ? 1 : 0;
    EXPECT_EQ(wrong, 0u) << "of " << a.count << " words";
  }

  void launch(array& a, verifying_lane& l) {
    const gm_access access{a.words, a.count * sizeof(std::uint64_t), GM_READ_WRITE};
    gm_scope scope = nullptr;
    ASSERT_EQ(gm_access_begin(l.stream().get(), &access, 1, &scope), GM_OK) << gm_last_error();
    const std::uint64_t after = ++versions_;
    l.launch(a.words, a.count, a.version, after);
    a.version = after;
    ASSERT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
  }

  // To anywhere, done when it returns; or queued.
  static void prefetch(const array& a, const verifying_lane& l, random_source& random) {
    const std::size_t bytes = a.count * sizeof(std::uint64_t);
    const bool queued = random.chance(50);
    const int node = queued && random.chance(50) ? GM_HOST : l.stream().node();
    const int anywhere = static_cast<int>(random.below(static_cast<std::uint64_t>(gm_node_count())));
    EXPECT_EQ(
        queued ? gm_prefetch(a.words, bytes, node, l.stream().get()) : gm_prefetch(a.words, bytes, anywhere, nullptr),
        GM_OK)
        << gm_last_error();
  }

  std::deque<array> arrays_;
  std::atomic<std::uint64_t> versions_{0};
  watchdog& dog_;
};

class everything_at_once : public testing::TestWithParam<flavour> {};

TEST_P(everything_at_once, no_word_is_lost) {
  SCOPED_TRACE("GM_TEST_SEED=" + std::to_string(stress_seed()));
  const live_runtime live(GetParam());
  ASSERT_TRUE(live.started());
  watchdog dog("everything_at_once");
  {
    crowd_of_arrays arrays(dog);
    std::vector<std::thread> threads;
    for (unsigned t = 1; t <= threads_count; ++t)
      threads.emplace_back([&, t] { arrays.work(stress_seed() + t, 20 + scaled(300), GetParam().devices); });
    for (std::thread& t : threads) t.join();
    EXPECT_TRUE(table_is_valid_at_rest());
    arrays.check_everything();
  }
  expect_nothing_is_kept();
  const gm_stats stats = stats_now();
  for (unsigned d = 1; d <= GetParam().devices; ++d)
    EXPECT_GT(stats.node[d].evictions, 0u) << "device " << d << " was never short of frames";
}

// Its budget is less than its memory.
constexpr flavour one_device_slow_link{.name = "one_device_slow_link",
                                       .devices = 1,
                                       .arena_bytes = 512 * mebibyte,
                                       .device_budget_bytes = budget_bytes,
                                       .latency_ns = 20000};
INSTANTIATE_TEST_SUITE_P(stress, everything_at_once,
                         testing::ValuesIn(every_flavour(budget_bytes, {one_device_slow_link})), flavour_name);

}  // namespace
}  // namespace gm::test
