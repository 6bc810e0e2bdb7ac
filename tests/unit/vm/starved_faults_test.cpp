// SPDX-License-Identifier: Apache-2.0
#include "vm/starved_faults.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "unit/small_vm.h"

namespace gm {
namespace {

class starving : public test::small_vm {
 protected:
  void changed() {
    kernel->forget_wakes();
    faults.changed(*kernel);
  }
  starved_faults faults;
};

TEST_F(starving, all_that_are_parked_are_woken_by_the_next_change_and_by_that_only) {
  const std::uint32_t seen = faults.now();
  EXPECT_TRUE(faults.park(seen, 5 * page_bytes));
  EXPECT_TRUE(faults.park(seen, 2 * page_bytes));
  EXPECT_TRUE(faults.park(seen, 9 * page_bytes));
  changed();
  for (const std::uint64_t page : {2, 5, 9}) EXPECT_TRUE(kernel->woke(page * page_bytes)) << page;
  EXPECT_FALSE(kernel->woke(9 * page_bytes + os_page_bytes));
  EXPECT_FALSE(kernel->woke(2 * page_bytes - 1));
  changed();
  EXPECT_FALSE(kernel->woke(5 * page_bytes)) << "nobody is parked any more";
  EXPECT_TRUE(faults.park(faults.now(), 7 * page_bytes));
  changed();
  EXPECT_TRUE(kernel->woke(7 * page_bytes));
  EXPECT_FALSE(kernel->woke(5 * page_bytes)) << "the range is of those parked since";
}

TEST_F(starving, who_has_missed_a_change_is_not_parked) {
  const std::uint32_t seen = faults.now();
  changed();
  EXPECT_FALSE(faults.park(seen, 0));
  EXPECT_TRUE(faults.park(faults.now(), 0));
}

TEST_F(starving, in_line_a_thread_sleeps_until_the_next_change) {
  const std::uint32_t seen = faults.now();
  std::atomic<bool> awake{false};
  std::thread sleeper([&] {
    faults.wait_past(seen);
    awake = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(awake);
  changed();
  sleeper.join();
}

}  // namespace
}  // namespace gm
