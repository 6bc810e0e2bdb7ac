// SPDX-License-Identifier: Apache-2.0
// queued_program_test.cpp - a random program whose work is all queued before any of it runs.
//
// A gate holds a kernel that writes all the memory; behind it stand scopes, copies, fills and prefetches on the streams
// of three devices, over a few blocks, so that nearly every one conflicts with many before it, on other devices too.
// None may wait: the gate is opened by the same thread when all are queued, and a watchdog ends a program that hangs.
// Then every kernel has found what the calls before it, in the order of the calls, must have left, and so does the CPU.
// In the programs with a failure one of the copies fails when the gate is open, and with it what depends on it. Those
// change whole pages only: each must be, to the last bit, what some call made of it, or what it was in the beginning.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "model/gate.h"
#include "model/live_runtime.h"
#include "model/oracle_kernel.h"
#include "model/watchdog.h"

namespace gm::test {
namespace {

constexpr unsigned devices = 3;
constexpr unsigned streams_a_device = 2;
constexpr std::size_t memory_bytes = 3 * block_size;
constexpr unsigned calls_a_program = 32;  // with what they wait for they fit a stream's queue

class queued_program {
 public:
  queued_program(std::uint64_t seed, bool copy_fails) : random_(seed), copy_fails_(copy_fails), oracle_(memory_bytes) {
    for (unsigned i = 0; i < devices * streams_a_device; ++i) {
      streams_.push_back(nullptr);
      EXPECT_EQ(gm_stream_create(1 + static_cast<int>(i % devices), &streams_.back()), GM_OK) << gm_last_error();
    }
    memory_ = static_cast<std::uint8_t*>(gm_malloc(memory_bytes));
    EXPECT_NE(memory_, nullptr) << gm_last_error();
    fill_with(memory_, memory_bytes, seed);
    fill_with(oracle_.data(), memory_bytes, seed);
    remember(0, memory_bytes);
  }
  queued_program(const queued_program&) = delete;
  queued_program& operator=(const queued_program&) = delete;
  ~queued_program() {
    for (gm_stream s : streams_) EXPECT_EQ(gm_stream_destroy(s), GM_OK) << gm_last_error();
    gm_free(memory_);
  }

  void run() {
    gate held;
    ASSERT_EQ(held.hold(streams_[0]), GM_OK) << gm_last_error();
    scope(streams_[0], 0, memory_bytes, GM_READ_WRITE);
    for (unsigned i = 0; i < calls_a_program; ++i) call();
    for (const auto& k : kernels_) ASSERT_FALSE(k->ran.load()) << "the gate was no gate";
    if (copy_fails_) debug_fail_device(device::operation::copy_run, random_.between(1, 60));
    held.open();
    for (gm_stream on : streams_) {
      const gm_status result = gm_stream_synchronize(on);
      ASSERT_TRUE(result == GM_OK || copy_fails_) << gm_last_error();
    }
    ASSERT_TRUE(table_is_valid_at_rest());
    debug_fail_device(device::operation::copy_run, 0);
    for (const auto& k : kernels_) EXPECT_TRUE(k->finished.load());
    copy_fails_ ? expect_some_version_of_every_page() : expect_the_last();
    EXPECT_TRUE(table_is_valid_at_rest());
  }

 private:
  struct copied {
    std::vector<std::uint8_t> got;
    std::vector<std::uint8_t> expected;
  };

  void expect_the_last() const {
    for (const auto& k : kernels_) {
      EXPECT_TRUE(k->ran.load());
      EXPECT_EQ(k->wrong.load(), 0u) << k->message();
    }
    for (const copied& c : copies_) EXPECT_EQ(c.got, c.expected) << "a copy to ordinary memory";
    EXPECT_TRUE(std::equal(oracle_.begin(), oracle_.end(), memory_)) << "what the CPU reads in the end";
  }

  void expect_some_version_of_every_page() const {
    for (std::size_t at = 0; at < memory_bytes; at += page_size)
      EXPECT_TRUE(versions_.contains({at, hash_of(memory_ + at)}))
          << "page " << at / page_size << " is no version of it";
  }

  static std::size_t hash_of(const std::uint8_t* page) {
    return std::hash<std::string_view>{}({reinterpret_cast<const char*>(page), page_size});
  }

  // What the call that was just made leaves is a version of these pages.
  void remember(std::size_t first, std::size_t bytes) {
    if (!copy_fails_) return;
    for (std::size_t at = first; at < first + bytes; at += page_size)
      versions_.emplace(at, hash_of(oracle_.data() + at));
  }

  gm_mode any_mode() { return static_cast<gm_mode>(random_.between(GM_READ, GM_READ_WRITE)); }
  gm_stream any_stream() { return streams_[random_.below(streams_.size())]; }

  void scope(gm_stream on, std::size_t first, std::size_t bytes, gm_mode mode) {
    const gm_access access{memory_ + first, bytes, mode};
    gm_scope begun = nullptr;
    ASSERT_EQ(gm_access_begin(on, &access, 1, &begun), GM_OK) << gm_last_error();
    auto& k = kernels_.emplace_back(std::make_unique<oracle_kernel>());
    oracle_kernel::piece piece;
    piece.device = static_cast<std::uint8_t*>(gm_device_pointer(memory_ + first, gm_stream_node(on)));
    piece.bytes = bytes;
    piece.mode = mode;
    piece.seed = random_.next();
    if (mode != GM_WRITE) piece.expected.assign(oracle_.begin() + first, oracle_.begin() + first + bytes);
    if (mode != GM_READ) fill_with(oracle_.data() + first, bytes, piece.seed);
    remember(first, bytes);
    k->pieces.push_back(std::move(piece));
    ASSERT_EQ(k->launch(on), GM_OK) << gm_last_error();
    ASSERT_EQ(gm_access_end(begun), GM_OK) << gm_last_error();
  }

  void call() {
    // Pages often, bytes sometimes.
    std::size_t first = random_.below(memory_bytes / page_size) * page_size;
    std::size_t bytes = random_.between(1, 40) * page_size;
    if (!copy_fails_ && random_.chance(30)) first += random_.below(page_size);
    if (!copy_fails_ && random_.chance(30)) bytes -= random_.below(page_size);
    bytes = std::min(bytes, memory_bytes - first);
    gm_stream on = any_stream();
    const int node = random_.chance(25) ? int{GM_HOST} : gm_stream_node(on);
    const std::uint64_t what = random_.below(100);
    if (what < 60) {
      // What was to be overwritten, and then is not since the stream has failed, has no contents to expect.
      scope(on, first, bytes, copy_fails_ ? (random_.chance(40) ? GM_READ : GM_READ_WRITE) : any_mode());
    } else if (what < 70) {
      ASSERT_EQ(gm_prefetch(memory_ + first, bytes, node, on), GM_OK) << gm_last_error();
    } else if (what < 80 && !copy_fails_) {
      const auto value = static_cast<std::uint8_t>(random_.next());
      ASSERT_EQ(gm_memset(memory_ + first, value, bytes, node, on), GM_OK) << gm_last_error();
      std::fill_n(oracle_.begin() + first, bytes, value);
      remember(first, bytes);
    } else if (what < 90 || copy_fails_) {
      copied& c = copies_.emplace_back();
      c.got.resize(bytes);
      c.expected.assign(oracle_.begin() + first, oracle_.begin() + first + bytes);
      ASSERT_EQ(gm_memcpy(c.got.data(), memory_ + first, bytes, node, on), GM_OK) << gm_last_error();
    } else {
      const std::size_t to = random_.below(memory_bytes);
      bytes = std::min({bytes, memory_bytes - to, to > first ? to - first : first - to});
      if (bytes == 0) return;
      ASSERT_EQ(gm_memcpy(memory_ + to, memory_ + first, bytes, node, on), GM_OK) << gm_last_error();
      std::copy_n(oracle_.begin() + first, bytes, oracle_.begin() + to);
    }
  }

  random_source random_;
  const bool copy_fails_;
  std::vector<gm_stream> streams_;
  std::vector<std::uint8_t> oracle_;
  std::set<std::pair<std::size_t, std::size_t>> versions_;  // page offset, hash of what it may hold
  std::vector<std::unique_ptr<oracle_kernel>> kernels_;
  std::vector<copied> copies_;
  std::uint8_t* memory_ = nullptr;
};

class queued_programs : public testing::TestWithParam<flavour> {
 protected:
  static void run(bool copy_fails) {
    watchdog dog("model: queued program");
    const live_runtime live(GetParam());
    ASSERT_TRUE(live.started());
    std::uint64_t seed = first_seed();
    const bool one = given_seed(seed);
    const std::uint64_t last = one ? seed : seed - 1 + scaled(50);
    for (; seed <= last && !HasFailure(); ++seed) {
      SCOPED_TRACE("GM_TEST_SEED=" + std::to_string(seed));
      queued_program(seed, copy_fails).run();
      dog.progress();
    }
  }
};

TEST_P(queued_programs, wait_for_nothing_and_mean_what_they_say) { run(false); }
TEST_P(queued_programs, end_and_lose_nothing_when_a_copy_fails) { run(true); }

INSTANTIATE_TEST_SUITE_P(model, queued_programs,
                         testing::Values(flavour{.name = "window", .devices = devices},
                                         flavour{.name = "no_window", .devices = devices, .window = false},
                                         flavour{.name = "in_line", .devices = devices, .fault_mode = "inline"},
                                         flavour{.name = "slow_link", .devices = devices, .latency_ns = 20'000}),
                         [](const auto& which) { return std::string(which.param.name); });

}  // namespace
}  // namespace gm::test
