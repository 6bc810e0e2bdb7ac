// SPDX-License-Identifier: Apache-2.0
// queued_work.h - for tests of what must wait for queued work and what must not: two streams on the first device, one
// on the second, and kernels that check what they read. A gate holds a stream meanwhile. Whatever waited although it
// must not would wait for ever: the watchdog ends it.
#pragma once

#include <memory>
#include <vector>

#include "model/gate.h"
#include "model/oracle_kernel.h"
#include "model/watchdog.h"
#include "stress/device_work.h"
#include "stress/stress_flavours.h"

namespace gm::test {

class queued_work : public testing::TestWithParam<flavour> {
 protected:
  static constexpr unsigned hang_seconds = 30;

  struct open_scope {
    gm_stream stream = nullptr;
    gm_scope handle = nullptr;
    gm_mode mode = GM_READ;
    std::uint8_t* device = nullptr;
    std::size_t bytes = 0;
  };

  void SetUp() override { ASSERT_TRUE(live_.started()); }
  void TearDown() override {
    for (const device_stream* s : {&first_, &same_device_, &other_device_}) EXPECT_EQ(s->wait(), GM_OK);
    expect_nothing_is_kept();
  }

  static std::uint8_t* filled(std::size_t bytes, std::uint64_t seed) {
    auto* made = static_cast<std::uint8_t*>(gm_malloc(bytes));
    EXPECT_NE(made, nullptr) << gm_last_error();
    fill_with(made, bytes, seed);
    return made;
  }

  static open_scope begin(const device_stream& on, std::uint8_t* p, std::size_t bytes, gm_mode mode) {
    const gm_access access{p, bytes, mode};
    open_scope made{on.get(), nullptr, mode, nullptr, bytes};
    EXPECT_EQ(gm_access_begin(on.get(), &access, 1, &made.handle), GM_OK) << gm_last_error();
    made.device = static_cast<std::uint8_t*>(gm_device_pointer(p, on.node()));
    return made;
  }
  // A kernel that expects what `before` wrote, and writes `after` where the scope may write.
  void launch(const open_scope& in, std::uint64_t before, std::uint64_t after) {
    auto& k = kernels_.emplace_back(std::make_unique<oracle_kernel>());
    oracle_kernel::piece piece{in.device, in.bytes, in.mode, after, std::vector<std::uint8_t>(in.bytes)};
    fill_with(piece.expected.data(), in.bytes, before);
    k->pieces.push_back(std::move(piece));
    EXPECT_EQ(k->launch(in.stream), GM_OK) << gm_last_error();
  }
  static void end(const open_scope& scope) { EXPECT_EQ(gm_access_end(scope.handle), GM_OK) << gm_last_error(); }

  // All three, with the gate in front of the kernel if there is one.
  void queue(const device_stream& on, std::uint8_t* p, std::size_t bytes, gm_mode mode, std::uint64_t before,
             std::uint64_t after, gate* g = nullptr) {
    const open_scope scope = begin(on, p, bytes, mode);
    if (g != nullptr) EXPECT_EQ(g->hold(on.get()), GM_OK) << gm_last_error();
    launch(scope, before, after);
    end(scope);
  }

  void expect_no_kernel_ran() {
    for (const auto& k : kernels_) EXPECT_FALSE(k->ran.load());
  }
  // Waits for them. Forgets them.
  void expect_kernels_were_right() {
    for (const device_stream* s : {&first_, &same_device_, &other_device_})
      ASSERT_EQ(s->wait(), GM_OK) << gm_last_error();
    for (const auto& k : kernels_) {
      EXPECT_TRUE(k->finished.load() && k->ran.load());
      EXPECT_EQ(k->wrong.load(), 0u) << k->message();
    }
    kernels_.clear();
  }

  static void expect_contents(const std::uint8_t* p, std::size_t bytes, std::uint64_t seed) {
    std::vector<std::uint8_t> wanted(bytes);
    fill_with(wanted.data(), bytes, seed);
    EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), p));
  }

  live_runtime live_{GetParam()};
  watchdog dog_{"queued_work", hang_seconds};
  const device_stream first_{1};
  const device_stream same_device_{1};
  const device_stream other_device_{2};
  std::vector<std::unique_ptr<oracle_kernel>> kernels_;
};

}  // namespace gm::test
