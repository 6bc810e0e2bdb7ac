// SPDX-License-Identifier: Apache-2.0
// offenders_test.cpp - touches that must end in a signal and words, never in a hang, in both fault modes.
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "model/live_runtime.h"
#include "stress/device_work.h"
#include "unit/caught_signal.h"

namespace gm::test {
namespace {

class offenders : public testing::TestWithParam<flavour> {
 protected:
  catch_signals catcher_;
  live_runtime runtime_{GetParam()};
};

int signal_of_write(volatile char* at) {
  return catch_signals::during([&] { *at = 1; });
}

TEST_P(offenders, a_wild_address_is_SIGSEGV) {
  ASSERT_TRUE(runtime_.started());
  auto* const memory = static_cast<char*>(gm_malloc(page_size));
  memory[0] = 1;
  EXPECT_EQ(signal_of_write(memory + page_size), SIGSEGV) << "right behind the allocation";
  EXPECT_EQ(signal_of_write(memory + 50 * mebibyte), SIGSEGV) << "far behind it";
  EXPECT_EQ(signal_of_write(memory), 0) << "and the memory itself is as before";
  gm_free(memory);
}

TEST_P(offenders, a_freed_address_is_SIGSEGV_until_it_is_handed_out_again) {
  ASSERT_TRUE(runtime_.started());
  auto* memory = static_cast<char*>(gm_malloc(page_size));
  memory[0] = 1;
  gm_free(memory);
  ASSERT_TRUE(debug_settle(30 * second_ns));
  EXPECT_EQ(signal_of_write(memory), SIGSEGV);
  EXPECT_EQ(catch_signals::address(), memory);
  auto* const again = static_cast<char*>(gm_calloc(1, page_size));
  EXPECT_EQ(again, memory) << "this test relies on it";
  EXPECT_EQ(again[0], 0);
  EXPECT_EQ(signal_of_write(again), 0);
  gm_free(again);
}

TEST_P(offenders, ones_own_open_scope_is_SIGBUS_and_other_threads_just_wait) {
  ASSERT_TRUE(runtime_.started());
  auto* const memory = static_cast<char*>(gm_calloc(1, page_size));
  {
    device_stream stream(1);
    const gm_access access{memory, page_size, GM_READ_WRITE};
    gm_scope scope = nullptr;
    ASSERT_EQ(gm_access_begin(stream.get(), &access, 1, &scope), GM_OK);
    std::atomic<bool> through{false};
    std::thread innocent([&] {
      memory[1] = 2;
      through = true;
    });
    EXPECT_EQ(signal_of_write(memory), SIGBUS);
    EXPECT_EQ(signal_of_write(memory + 100), SIGBUS) << "again";
    EXPECT_FALSE(through) << "the other thread's access conflicts with the scope";
    ASSERT_EQ(gm_access_end(scope), GM_OK);
    innocent.join();
    EXPECT_EQ(signal_of_write(memory), 0) << "the scope is over";
    EXPECT_EQ(memory[1], 2);
  }
  gm_free(memory);
}

TEST_P(offenders, a_read_beside_ones_own_reading_scope_is_fine_and_a_write_is_not) {
  ASSERT_TRUE(runtime_.started());
  auto* const memory = static_cast<char*>(gm_calloc(1, page_size));
  memory[7] = 7;
  {
    device_stream stream(1);
    const gm_access access{memory, page_size, GM_READ};
    gm_scope scope = nullptr;
    ASSERT_EQ(gm_access_begin(stream.get(), &access, 1, &scope), GM_OK);
    EXPECT_EQ(catch_signals::during([&] { EXPECT_EQ(memory[7], 7); }), 0);
    EXPECT_EQ(signal_of_write(memory), SIGBUS);
    ASSERT_EQ(gm_access_end(scope), GM_OK);
    EXPECT_EQ(signal_of_write(memory), 0);
  }
  gm_free(memory);
}

TEST_P(offenders, no_host_memory_for_a_page_is_SIGBUS_and_nothing_is_lost) {
  ASSERT_TRUE(runtime_.started());
  // The budget is 16 pages, of which the first allocation takes 12.
  auto* const kept = static_cast<char*>(gm_malloc(12 * page_size));
  for (std::size_t i = 0; i < 12; ++i) kept[i * page_size] = static_cast<char>(i + 1);
  auto* const more = static_cast<char*>(gm_malloc(12 * page_size));
  int signals = 0;
  for (std::size_t i = 0; i < 12; ++i) signals += signal_of_write(more + i * page_size) == SIGBUS ? 1 : 0;
  EXPECT_EQ(signals, 8);
  for (std::size_t i = 0; i < 12; ++i) EXPECT_EQ(kept[i * page_size], static_cast<char>(i + 1));
  gm_free(kept);
  ASSERT_TRUE(debug_settle(30 * second_ns));
  for (std::size_t i = 0; i < 12; ++i) EXPECT_EQ(signal_of_write(more + i * page_size), 0) << "there is room now";
  gm_free(more);
}

INSTANTIATE_TEST_SUITE_P(
    flavours, offenders,
    testing::Values(flavour{.name = "thread", .host_budget_bytes = 16 * page_size},
                    flavour{.name = "inline_faults", .fault_mode = "inline", .host_budget_bytes = 16 * page_size}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace gm::test
