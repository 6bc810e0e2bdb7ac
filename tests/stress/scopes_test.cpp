// SPDX-License-Identifier: Apache-2.0
// scopes_test.cpp - scopes in each other's way: ordered without the host, refused instead of hanging, outlived by
// frees.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "model/live_runtime.h"
#include "model/watchdog.h"
#include "stress/device_work.h"

namespace gm::test {
namespace {

constexpr std::size_t words = block_size / sizeof(std::uint64_t);
constexpr std::size_t bytes = block_size;

std::uint64_t* zeroed() {
  auto* memory = static_cast<std::uint64_t*>(gm_calloc(words, sizeof(std::uint64_t)));
  EXPECT_NE(memory, nullptr) << gm_last_error();
  return memory;
}

void expect_all(const std::uint64_t* memory, std::uint64_t value) {
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < words; ++i) wrong += memory[i] != value;
  EXPECT_EQ(wrong, 0u) << "of " << words << " words are not " << value;
}

class scopes : public testing::TestWithParam<flavour> {
 protected:
  live_runtime runtime_{GetParam()};
  watchdog dog_{"scopes"};
};

// The first stream is held up; everything behind it is queued by a host that never waits.
TEST_P(scopes, behind_an_ended_one_the_stream_waits_and_the_host_does_not) {
  ASSERT_TRUE(runtime_.started());
  std::uint64_t* const memory = zeroed();
  {
    device_stream first(1), same_device(1), other_device(2);
    ASSERT_EQ(add_on_device(first, memory, words, 1), GM_OK);
    ASSERT_EQ(first.wait(), GM_OK);
    stream_gate held;
    held.close(first);
    ASSERT_EQ(add_on_device(first, memory, words, 1), GM_OK) << gm_last_error();
    ASSERT_EQ(add_on_device(same_device, memory, words, 10), GM_OK) << gm_last_error();
    ASSERT_EQ(add_on_device(other_device, memory, words, 100), GM_OK) << gm_last_error();
    gm_mapping page{};
    ASSERT_EQ(gm_query(memory, &page), GM_OK);
    EXPECT_TRUE((page.flags & GM_PAGE_LEASED) != 0);
    held.open();  // reached: none of the three calls waited for the first stream
    expect_all(memory, 112);
    ASSERT_EQ(first.wait(), GM_OK);
    ASSERT_EQ(same_device.wait(), GM_OK);
    ASSERT_EQ(other_device.wait(), GM_OK);
  }
  gm_free(memory);
}

TEST_P(scopes, behind_an_open_one_of_another_thread_the_call_waits_for_its_end) {
  ASSERT_TRUE(runtime_.started());
  std::uint64_t* const memory = zeroed();
  {
    device_stream mine(1), theirs(2);
    const gm_access access{memory, bytes, GM_READ_WRITE};
    gm_scope open = nullptr;
    ASSERT_EQ(gm_access_begin(mine.get(), &access, 1, &open), GM_OK);
    std::atomic<bool> began{false};
    std::thread other([&] {
      EXPECT_EQ(add_on_device(theirs, memory, words, 5), GM_OK) << gm_last_error();
      began = true;
    });
    EXPECT_EQ(gm_access_begin(mine.get(), &access, 1, &open), GM_ERROR_BUSY) << "its own open scope";
    EXPECT_NE(std::string(gm_last_error()), "");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_FALSE(began);
    EXPECT_TRUE(queue_add(mine, memory, words, 1));
    ASSERT_EQ(gm_access_end(open), GM_OK);
    other.join();
    expect_all(memory, 6);
  }
  gm_free(memory);
}

TEST_P(scopes, a_parked_cpu_access_goes_on_when_the_scope_is_over) {
  ASSERT_TRUE(runtime_.started());
  std::uint64_t* const memory = zeroed();
  {
    device_stream stream(1);
    const gm_access access{memory, bytes, GM_READ_WRITE};
    gm_scope open = nullptr;
    ASSERT_EQ(gm_access_begin(stream.get(), &access, 1, &open), GM_OK);
    std::vector<std::thread> readers;
    std::atomic<int> ones{0};
    for (int t = 0; t < 4; ++t)
      readers.emplace_back([&, t] { ones += memory[static_cast<std::size_t>(t) * 20000] == 1 ? 1 : 0; });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ASSERT_TRUE(queue_add(stream, memory, words, 1));
    ASSERT_EQ(gm_access_end(open), GM_OK);
    for (std::thread& t : readers) t.join();
    EXPECT_EQ(ones, 4) << "readers saw memory from before the scope's kernel";
  }
  gm_free(memory);
}

TEST_P(scopes, a_free_does_not_wait_and_the_memory_lasts_until_the_work_is_done) {
  ASSERT_TRUE(runtime_.started());
  gm_stats stats{};
  stats.size = sizeof stats;
  {
    device_stream stream(1);
    for (int round = 0; round < 20; ++round) {
      dog_.progress();
      std::uint64_t* const memory = zeroed();
      stream_gate held;
      ASSERT_EQ(add_on_device(stream, memory, words, 1), GM_OK);
      held.close(stream);
      ASSERT_EQ(add_on_device(stream, memory, words, 1), GM_OK);
      gm_free(memory);
      // The addresses are not handed out while the kernel may use them.
      std::uint64_t* const other = zeroed();
      EXPECT_NE(other, memory);
      other[0] = 9;
      held.open();
      ASSERT_EQ(stream.wait(), GM_OK);
      EXPECT_EQ(other[0], 9u);
      EXPECT_EQ(other[1], 0u);
      gm_free(other);
      ASSERT_TRUE(debug_settle(30 * second_ns));
    }
  }
  ASSERT_EQ(gm_stats_get(&stats), GM_OK);
  EXPECT_EQ(stats.node[1].frames_used, 0u);
  EXPECT_EQ(stats.node[GM_HOST].frames_used, 0u);
  EXPECT_TRUE(table_is_valid_at_rest());
}

// Threads that open a second scope while they hold a first, in any order: each begin succeeds or is refused, and what
// was done is what is there.
TEST_P(scopes, nested_in_any_order_end_in_success_or_BUSY) {
  ASSERT_TRUE(runtime_.started());
  SCOPED_TRACE("GM_TEST_SEED=" + std::to_string(stress_seed()));
  constexpr int count = 3;
  std::array<std::uint64_t*, count> memory{};
  std::array<std::atomic<std::uint64_t>, count> expected{};
  for (auto& m : memory) m = zeroed();
  const auto rounds = static_cast<int>(150 * test_scale()) + 20;
  std::atomic<int> done{0}, refused{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(stress_seed()) + t);
      device_stream stream(1 + static_cast<int>(t % 2));
      for (int round = 0; round < rounds; ++round) {
        dog_.progress();
        const auto a = random() % count, b = random() % count;
        const gm_access outer{memory[a], bytes, GM_READ_WRITE}, inner{memory[b], bytes, GM_READ_WRITE};
        gm_scope first = nullptr, second = nullptr;
        ASSERT_EQ(gm_access_begin(stream.get(), &outer, 1, &first), GM_OK) << gm_last_error();
        const gm_status nested = gm_access_begin(stream.get(), &inner, 1, &second);
        ASSERT_TRUE(nested == GM_OK || nested == GM_ERROR_BUSY || nested == GM_ERROR_NO_MEMORY) << gm_last_error();
        if (a == b) EXPECT_EQ(nested, GM_ERROR_BUSY);
        ASSERT_TRUE(queue_add(stream, memory[a], words, 1));
        ++expected[a];
        if (nested == GM_OK) {
          ASSERT_TRUE(queue_add(stream, memory[b], words, 1));
          ++expected[b];
          ASSERT_EQ(gm_access_end(second), GM_OK) << gm_last_error();
        }
        ASSERT_EQ(gm_access_end(first), GM_OK) << gm_last_error();
        ++(nested == GM_OK ? done : refused);
      }
      ASSERT_EQ(stream.wait(), GM_OK);
    });
  for (std::thread& t : threads) t.join();
  EXPECT_GT(done, 0);
  EXPECT_GT(refused, 0) << "nothing was ever in the way: the test tests nothing";
  for (int i = 0; i < count; ++i) {
    expect_all(memory[static_cast<std::size_t>(i)], expected[static_cast<std::size_t>(i)]);
    gm_free(memory[static_cast<std::size_t>(i)]);
  }
  EXPECT_TRUE(debug_settle(30 * second_ns));
  EXPECT_TRUE(table_is_valid_at_rest());
}

INSTANTIATE_TEST_SUITE_P(flavours, scopes,
                         testing::Values(flavour{.name = "window"}, flavour{.name = "no_window", .window = false},
                                         flavour{.name = "inline_faults", .fault_mode = "inline"},
                                         flavour{.name = "tight", .device_budget_bytes = 4 * mebibyte}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(shutdown, is_refused_while_anything_lives) {
  gm_options options{};
  options.size = sizeof options;
  options.backend = "sim";
  ASSERT_EQ(gm_init(&options), GM_OK) << gm_last_error();
  void* memory = gm_malloc(100);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY);
  gm_stream stream = nullptr;
  ASSERT_EQ(gm_stream_create(1, &stream), GM_OK);
  const gm_access access{memory, 100, GM_READ};
  gm_scope scope = nullptr;
  ASSERT_EQ(gm_access_begin(stream, &access, 1, &scope), GM_OK);
  EXPECT_EQ(gm_stream_destroy(stream), GM_ERROR_BUSY);
  gm_free(memory);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY);
  ASSERT_EQ(gm_access_end(scope), GM_OK);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY) << "the stream lives";
  ASSERT_EQ(gm_stream_destroy(stream), GM_OK);
  EXPECT_EQ(gm_shutdown(), GM_OK) << gm_last_error();
  EXPECT_EQ(gm_malloc(100), nullptr);
  EXPECT_EQ(gm_prefetch(&options, 1, 0, nullptr), GM_ERROR_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace gm::test
