// SPDX-License-Identifier: Apache-2.0
// Without a window an allocation needs neighbouring frames. A scope that fits the device finds them, also where its own
// resident memory is in the way; where what stands in the way may not move, nothing is lost.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

// A device of 8 frames; `middle` (2 frames) stands in frames 3 and 4, and all else is free: 6 frames, no 4 in a row.
class contiguous_room : public running_gmem {
 protected:
  void SetUp() override {
    start(small_options({.name = "no_window", .window = false}));
    s = stream();
    before = make(3 * block);
    middle = make(2 * block);
    large = make_written(4 * block, 50);
    device_writes(s, before, 3 * block, 1, GM_WRITE);
    device_writes(s, middle, 2 * block, 7, GM_WRITE);
    free(before);
    settle();
    ASSERT_EQ(stats().node[1].frames_used, 2U);
  }
  gm_status begin_both(gm_scope* scope, gm_mode mode = GM_READ) const {
    const gm_access both[] = {{middle, 2 * block, mode}, {large, 4 * block, GM_READ}};
    return gm_access_begin(s, both, 2, scope);
  }
  void expect_contents(int value_of_middle = 7) const {
    EXPECT_TRUE(all_are(middle, 2 * block, value_of_middle));
    for (std::size_t i = 0; i < 4 * block; i += page) EXPECT_TRUE(all_are(large + i, page, 50 + int(i / page)));
  }

  gm_stream s = nullptr;
  byte* before = nullptr;
  byte* middle = nullptr;
  byte* large = nullptr;
};

TEST_F(contiguous_room, the_scopes_own_memory_makes_way_for_the_rest) {
  gm_scope scope = nullptr;
  ASSERT_EQ(begin_both(&scope), GM_OK) << gm_last_error();
  EXPECT_EQ(stats().node[1].frames_used, 6U);
  const byte* const looked_at[] = {middle, middle + 2 * block - 1, large, large + 4 * block - 1};
  byte seen[4] = {};
  for (unsigned i = 0; i < 4; ++i) {
    const auto* there = static_cast<const byte*>(gm_device_pointer(looked_at[i], 1));
    ASSERT_NE(there, nullptr);
    auto* work = new kernel_work{&seen[i], there, 0};
    EXPECT_EQ(gm_stream_launch(s, 1, kernel_work::run, kernel_work::forget, work), GM_OK);
  }
  end(scope);
  finish(s);
  EXPECT_EQ(seen[0], 7);
  EXPECT_EQ(seen[1], 7);
  EXPECT_EQ(seen[2], 50);
  EXPECT_EQ(seen[3], 50 + 4 * 32 - 1);
  expect_contents();
}

TEST_F(contiguous_room, what_is_overwritten_makes_way_too) {
  gm_scope scope = nullptr;
  ASSERT_EQ(begin_both(&scope, GM_WRITE), GM_OK) << gm_last_error();
  kernel_set(s, middle, 2 * block, 9);
  end(scope);
  finish(s);
  expect_contents(9);
}

TEST_F(contiguous_room, a_failed_copy_home_leaves_everything_where_it_was) {
  gm_scope scope = nullptr;
  debug_fail_device(device::operation::copy_run, 1);
  EXPECT_EQ(begin_both(&scope), GM_ERROR_DEVICE);
  expect_valid();
  expect_contents();
  ASSERT_EQ(begin_both(&scope), GM_OK) << "the next one finds room: " << gm_last_error();
  end(scope);
  finish(s);
  expect_contents();
}

TEST_F(contiguous_room, a_pinned_piece_stays_and_the_scope_is_refused) {
  ASSERT_EQ(gm_pin(middle, page, 1), GM_OK) << gm_last_error();
  const void* there = gm_device_pointer(middle, 1);
  gm_scope scope = nullptr;
  EXPECT_EQ(begin_both(&scope), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(gm_device_pointer(middle, 1), there);
  ASSERT_EQ(gm_unpin(middle, page, 1), GM_OK);
  ASSERT_EQ(begin_both(&scope), GM_OK) << gm_last_error();
  end(scope);
  finish(s);
  expect_contents();
}

// Three frames on either side of the pinned two: of three allocations of two frames one finds no place, ever.
TEST_F(contiguous_room, where_nothing_can_help_it_says_so) {
  ASSERT_EQ(gm_pin(middle, 2 * block, 1), GM_OK) << gm_last_error();
  gm_access three[3];
  for (gm_access& each : three) each = {make_written(2 * block, 70), 2 * block, GM_READ};
  gm_scope scope = nullptr;
  EXPECT_EQ(gm_access_begin(s, three, 3, &scope), GM_ERROR_NO_MEMORY) << "and does not try for ever";
  expect_valid();
  for (const gm_access& each : three) EXPECT_EQ(static_cast<const byte*>(each.ptr)[page], 71);
  ASSERT_EQ(gm_unpin(middle, 2 * block, 1), GM_OK);
  ASSERT_EQ(gm_access_begin(s, three, 3, &scope), GM_OK) << gm_last_error();
  end(scope);
  finish(s);
  expect_contents();
}

TEST_F(contiguous_room, an_open_scope_of_ones_own_in_the_way_is_an_error_that_ends_with_it) {
  gm_scope reader = begin(s, middle, page, GM_READ);
  gm_scope scope = nullptr;
  EXPECT_EQ(begin_both(&scope), GM_ERROR_NO_MEMORY);
  end(reader);
  finish(s);
  ASSERT_EQ(begin_both(&scope), GM_OK) << gm_last_error();
  end(scope);
  finish(s);
  expect_contents();
}

TEST_F(contiguous_room, an_open_scope_of_anothers_in_the_way_is_waited_for) {
  std::atomic<bool> opened{false};
  std::atomic<bool> ended{false};
  std::thread other([&] {
    gm_stream own = nullptr;
    ASSERT_EQ(gm_stream_create(1, &own), GM_OK);
    gm_scope reader = begin(own, middle, page, GM_READ);
    opened = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    ended = true;
    end(reader);
    EXPECT_EQ(gm_stream_synchronize(own), GM_OK);
    EXPECT_EQ(gm_stream_destroy(own), GM_OK);
  });
  while (!opened) std::this_thread::yield();
  gm_scope scope = nullptr;
  const gm_status begun = begin_both(&scope);
  EXPECT_TRUE(ended);
  other.join();
  ASSERT_EQ(begun, GM_OK) << gm_last_error();
  end(scope);
  finish(s);
  expect_contents();
}

TEST_F(contiguous_room, a_cpu_that_takes_the_memory_back_all_the_time_changes_nothing) {
  std::atomic<bool> stop{false};
  std::thread cpu([&] {
    while (!stop)
      for (std::size_t i = 0; i < 2 * block; i += page) touch_read(middle + i);
  });
  for (int round = 0; round < 20; ++round) {
    gm_scope scope = nullptr;
    ASSERT_EQ(begin_both(&scope), GM_OK) << gm_last_error();
    end(scope);
    free(large);  // and the same gap again
    large = make_written(4 * block, 50);
  }
  stop = true;
  cpu.join();
  finish(s);
  expect_contents();
}

}  // namespace
}  // namespace gm::test
