// SPDX-License-Identifier: Apache-2.0
// live_runtime.h - gmem running for the length of one test, in the flavour that the test chooses, and what all seeded
// tests share: the seed, the scale, random numbers.
//
// gmem is one instance a process, so a live_runtime is made and unmade by one thread, and one at a time. Its end
// requires that the test gave everything back.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "api/debug.h"
#include "api/runtime.h"
#include "gmem/gmem.h"

namespace gm::test {

inline constexpr std::size_t page_size = 64 * 1024;
inline constexpr std::size_t block_size = 2 * 1024 * 1024;
inline constexpr std::uint64_t mebibyte = 1024 * 1024;
inline constexpr std::uint64_t second_ns = 1'000'000'000;

struct flavour {
  const char* name = "plain";
  std::uint32_t devices = 2;
  bool window = true;
  const char* fault_mode = "thread";
  std::uint64_t arena_bytes = 128 * mebibyte;
  std::uint64_t sim_memory_bytes = 64 * mebibyte;
  std::uint64_t device_budget_bytes = 0;  // 0: as the library chooses
  std::uint64_t host_budget_bytes = 0;
  std::uint64_t latency_ns = 0;
};

inline std::ostream& operator<<(std::ostream& out, const flavour& f) { return out << f.name; }

class live_runtime {
 public:
  explicit live_runtime(const flavour& f) {
    gm_options options{};
    options.size = sizeof options;
    options.backend = "sim";
    options.arena_size_bytes = f.arena_bytes;
    options.host_budget_bytes = f.host_budget_bytes;
    options.device_budget_bytes = f.device_budget_bytes;
    options.fault_mode = f.fault_mode;
    options.fault_threads = 2;
    options.sim_devices = f.devices;
    options.sim_memory_bytes = f.sim_memory_bytes;
    options.sim_latency_ns = f.latency_ns;
    options.sim_window = f.window ? 1 : -1;
    options.log = "error";
    started_ = gm_init(&options) == GM_OK;
    EXPECT_TRUE(started_) << f.name << ": " << gm_last_error();
  }
  live_runtime(const live_runtime&) = delete;
  live_runtime& operator=(const live_runtime&) = delete;
  ~live_runtime() {
    if (started_) EXPECT_EQ(gm_shutdown(), GM_OK) << gm_last_error();
  }

  bool started() const { return started_; }

 private:
  bool started_ = false;
};

inline testing::AssertionResult table_is_valid() {
  char why[512] = "";
  if (debug_validate(why, sizeof why)) return testing::AssertionSuccess();
  return testing::AssertionFailure() << why;
}

// For moments when this thread alone uses gmem and has no scope open.
inline testing::AssertionResult table_is_valid_at_rest() {
  char why[512] = "";
  if (!debug_settle(60 * second_ns)) return testing::AssertionFailure() << "moves, scopes or frees never end";
  if (debug_validate_at_rest(why, sizeof why)) return testing::AssertionSuccess();
  return testing::AssertionFailure() << why;
}

// The masks of every block that has something in it, for messages.
inline std::string table_dump() {
  runtime* rt = running();
  std::string text;
  for (block_index index; rt != nullptr && index.value < rt->vm.table.blocks(); ++index) {
    block* b = rt->vm.table.find(index);
    if (b == nullptr) continue;
    block_guard guard(b->lock);
    if ((b->allocated | b->backed | valid_anywhere(*b, rt->vm.nodes)) == 0) continue;
    char line[160];
    std::snprintf(line, sizeof line,
                  "  block %2u at %p: allocated %08x backed %08x readable %08x busy %08x parked %08x leases %u\n",
                  static_cast<unsigned>(index.value), static_cast<void*>(rt->vm.memory.user(offset_of(index))),
                  b->allocated, b->backed, b->readable, b->busy.load(), b->parked, b->leases);
    text += line;
    for (unsigned n = 0; n < rt->vm.nodes; ++n) {
      const node_pages& there = b->node(n);
      if ((there.valid | there.leases | there.frame_plus_one) == 0) continue;
      std::snprintf(line, sizeof line,
                    "    node %u: valid %08x writable %08x dirty %08x pinned %08x leases %u frame %d\n", n, there.valid,
                    there.writable, there.dirty, there.pinned, there.leases,
                    static_cast<int>(there.frame_plus_one) - 1);
      text += line;
    }
  }
  return text;
}

// GM_TEST_SCALE: how much of the usual work, 1 where it is not set.
inline double test_scale() {
  static const double scale = [] {
    const char* text = std::getenv("GM_TEST_SCALE");
    const double given = text != nullptr ? std::atof(text) : 1;
    return given > 0 ? given : 1;
  }();
  return scale;
}

inline std::uint64_t scaled(std::uint64_t count) {
  const auto result = static_cast<std::uint64_t>(static_cast<double>(count) * test_scale());
  return result > 0 ? result : 1;
}

// Where a test that goes through seeds begins: at 1, or at GM_TEST_FIRST_SEED, for a soak.
inline std::uint64_t first_seed() {
  const char* text = std::getenv("GM_TEST_FIRST_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 0);
}

// GM_TEST_SEED, for repeating what a failure printed.
inline bool given_seed(std::uint64_t& seed) {
  const char* text = std::getenv("GM_TEST_SEED");
  if (text == nullptr) return false;
  seed = std::strtoull(text, nullptr, 0);
  return true;
}

// The same numbers from the same seed on every machine (splitmix64).
class random_source {
 public:
  explicit random_source(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t count) { return next() % count; }
  std::uint64_t between(std::uint64_t first, std::uint64_t last) { return first + below(last - first + 1); }
  bool chance(unsigned percent) { return below(100) < percent; }

 private:
  std::uint64_t state_;
};

}  // namespace gm::test
