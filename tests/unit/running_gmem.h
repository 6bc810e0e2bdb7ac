// SPDX-License-Identifier: Apache-2.0
// running_gmem.h - a test with gmem running on simulated devices, in the flavour it chooses.
//
// At the end all allocations and streams of the test are given back, and then: nothing of them may be left on any node,
// the whole table must be valid and agree with the kernel's, and gm_shutdown must succeed.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "api/debug.h"
#include "api/runtime.h"
#include "base/inject.h"
#include "gmem/gmem.h"
#include "unit/caught_signal.h"

namespace gm::test {

inline constexpr std::uint64_t kib = 1024;
inline constexpr std::uint64_t mib = 1024 * kib;
inline constexpr std::uint64_t gib = 1024 * mib;
inline constexpr std::uint64_t page = 64 * kib;  // as the interface has it
inline constexpr std::uint64_t block = 2 * mib;

struct flavour {
  const char* name = "";
  bool window = true;
  const char* fault_mode = "thread";
};

inline constexpr flavour flavours[] = {
    {.name = "plain"}, {.name = "no_window", .window = false}, {.name = "in_line", .fault_mode = "inline"}};
inline std::string name_of_flavour(const testing::TestParamInfo<flavour>& which) { return which.param.name; }
inline void PrintTo(const flavour& which, std::ostream* out) { *out << which.name; }

// Two devices of 16 MiB (8 frames), all of it in the budget; 64 MiB of host pages; 4 GiB of addresses.
inline gm_options small_options(const flavour& which = {}) {
  gm_options o{};
  o.size = sizeof o;
  o.backend = "sim";
  o.arena_size_bytes = 4 * gib;
  o.host_budget_bytes = 64 * mib;
  o.device_budget_bytes = 16 * mib;
  o.fault_mode = which.fault_mode;
  o.fault_threads = 2;
  o.sim_devices = 2;
  o.sim_memory_bytes = 16 * mib;
  o.sim_window = which.window ? 1 : -1;
  return o;
}

// A kernel of the simulated device: bytes set, or copied to ordinary memory, by device addresses.
struct kernel_work {
  std::uint8_t* to;
  const std::uint8_t* from;  // null: set to value
  int value;

  static void run(void* self, std::size_t first, std::size_t last) {
    const auto* w = static_cast<const kernel_work*>(self);
    if (w->from != nullptr)
      std::memcpy(w->to + first, w->from + first, last - first);
    else
      std::memset(w->to + first, w->value, last - first);
  }
  static void forget(void* self) { delete static_cast<kernel_work*>(self); }
};

class running_gmem : public testing::Test {
 protected:
  using byte = std::uint8_t;

  running_gmem() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  void start(const gm_options& options) { ASSERT_EQ(gm_init(&options), GM_OK) << gm_last_error(); }

  void TearDown() override {
    for (unsigned p = 0; p < static_cast<unsigned>(inject::point::count_); ++p)
      inject::fail_nth(static_cast<inject::point>(p), 0);
    if (running() == nullptr) return;
    for (gm_stream s : streams_) {
      (void)gm_stream_synchronize(s);
      EXPECT_EQ(gm_stream_destroy(s), GM_OK) << gm_last_error();
    }
    streams_.clear();
    expect_valid();
    for (void* p : allocations_) gm_free(p);
    allocations_.clear();
    expect_valid();
    const gm_stats now = stats();
    for (std::uint64_t n = 0; n < now.node_count; ++n) EXPECT_EQ(now.node[n].frames_used, 0U) << "kept on node " << n;
    EXPECT_EQ(now.allocations, 0U);
    EXPECT_EQ(gm_shutdown(), GM_OK) << gm_last_error();
  }

  // ---- What the test makes; given back at its end ----
  byte* make(std::size_t bytes) {
    void* p = gm_malloc(bytes);
    EXPECT_NE(p, nullptr) << gm_last_error();
    allocations_.push_back(p);
    return static_cast<byte*>(p);
  }
  // Every page written by the CPU with a number of its own.
  byte* make_written(std::size_t bytes, int first = 1) {
    byte* p = make(bytes);
    for (std::size_t i = 0; i < bytes; i += page)
      std::memset(p + i, first + static_cast<int>(i / page), std::min<std::size_t>(page, bytes - i));
    return p;
  }
  void free(void* p) {
    std::erase(allocations_, p);
    gm_free(p);
  }
  void forget(void* p) { std::erase(allocations_, p); }
  void remember(void* p) { allocations_.push_back(p); }
  gm_stream stream(int node = 1) {
    gm_stream s = nullptr;
    EXPECT_EQ(gm_stream_create(node, &s), GM_OK) << gm_last_error();
    streams_.push_back(s);
    return s;
  }

  // ---- Scopes and kernels ----
  static gm_scope begin(gm_stream s, void* p, std::size_t bytes, gm_mode mode) {
    const gm_access access{p, bytes, mode};
    gm_scope scope = nullptr;
    EXPECT_EQ(gm_access_begin(s, &access, 1, &scope), GM_OK) << gm_last_error();
    return scope;
  }
  static gm_status try_begin(gm_stream s, void* p, std::size_t bytes, gm_mode mode) {
    const gm_access access{p, bytes, mode};
    gm_scope scope = nullptr;
    const gm_status result = gm_access_begin(s, &access, 1, &scope);
    if (result == GM_OK) EXPECT_EQ(gm_access_end(scope), GM_OK);
    return result;
  }
  static void end(gm_scope scope) { EXPECT_EQ(gm_access_end(scope), GM_OK) << gm_last_error(); }

  static void kernel_set(gm_stream s, void* p, std::size_t bytes, int value) {
    auto* to = static_cast<byte*>(gm_device_pointer(p, gm_stream_node(s)));
    ASSERT_NE(to, nullptr) << gm_last_error();
    auto* work = new kernel_work{to, nullptr, value};
    EXPECT_EQ(gm_stream_launch(s, bytes, kernel_work::run, kernel_work::forget, work), GM_OK) << gm_last_error();
  }
  // A scope and a kernel that sets the bytes; done when it returns.
  static void device_writes(gm_stream s, void* p, std::size_t bytes, int value, gm_mode mode = GM_READ_WRITE) {
    gm_scope scope = begin(s, p, bytes, mode);
    kernel_set(s, p, bytes, value);
    end(scope);
    finish(s);
  }
  // What a kernel reads there.
  static std::vector<byte> device_reads(gm_stream s, void* p, std::size_t bytes) {
    std::vector<byte> got(bytes, 0xee);
    gm_scope scope = begin(s, p, bytes, GM_READ);
    const auto* from = static_cast<const byte*>(gm_device_pointer(p, gm_stream_node(s)));
    EXPECT_NE(from, nullptr) << gm_last_error();
    auto* work = new kernel_work{got.data(), from, 0};
    EXPECT_EQ(gm_stream_launch(s, bytes, kernel_work::run, kernel_work::forget, work), GM_OK);
    end(scope);
    finish(s);
    return got;
  }
  // The stream's work is done and recorded.
  static void finish(gm_stream s) {
    EXPECT_EQ(gm_stream_synchronize(s), GM_OK) << gm_last_error();
    settle();
  }
  static void settle() { EXPECT_TRUE(debug_settle(20'000'000'000)); }
  static void touch_read(const void* p) { (void)*static_cast<const volatile byte*>(p); }
  static void touch_write(void* p, byte value) { *static_cast<volatile byte*>(p) = value; }

  // ---- What there is ----
  static gm_mapping query(const void* p) {
    gm_mapping m{};
    EXPECT_EQ(gm_query(p, &m), GM_OK) << gm_last_error();
    return m;
  }
  static std::uint32_t flags(const void* p) { return query(p).flags; }
  static std::uint32_t valid(const void* p) { return query(p).valid_nodes; }
  static std::size_t resident(const void* p, std::size_t bytes, int node) {
    std::size_t result = ~std::size_t{0};
    EXPECT_EQ(gm_residency(p, bytes, node, &result), GM_OK) << gm_last_error();
    return result;
  }
  static gm_stats stats() {
    gm_stats s{};
    s.size = sizeof s;
    EXPECT_EQ(gm_stats_get(&s), GM_OK) << gm_last_error();
    return s;
  }
  // A fault handler counts behind what it did, when the thread that it served is already on its way.
  template <typename F>
  static bool soon(F&& holds) {
    for (int i = 0; i < 2000 && !holds(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return holds();
  }
  static bool all_are(const byte* p, std::size_t bytes, int value) {
    return std::all_of(p, p + bytes, [&](byte b) { return b == static_cast<byte>(value); });
  }
  static bool all_are(const std::vector<byte>& v, int value) { return all_are(v.data(), v.size(), value); }
  static void expect_error(const std::string& words) {
    EXPECT_NE(std::string(gm_last_error()).find(words), std::string::npos) << gm_last_error();
  }
  static void expect_valid() {
    settle();
    char why[256] = {};
    EXPECT_TRUE(debug_validate_at_rest(why, sizeof why)) << why;
  }

  test::catch_signals signals_;  // before gmem's own handler

 private:
  std::vector<void*> allocations_;
  std::vector<gm_stream> streams_;
};

// ... in each flavour.
class every_flavour : public running_gmem, public testing::WithParamInterface<flavour> {
 protected:
  void SetUp() override { start(small_options(GetParam())); }
};

}  // namespace gm::test
