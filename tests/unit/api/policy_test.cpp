// SPDX-License-Identifier: Apache-2.0
#include "gmem/policy.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

class program_policy : public every_flavour {
 protected:
  void TearDown() override {
    EXPECT_EQ(gm_policy_set(nullptr), GM_OK);
    every_flavour::TearDown();
  }
  void set(void (*pages)(void*, const gm_policy_fault*, std::uint32_t*), void* context = nullptr) {
    gm_policy p{};
    p.size = sizeof p;
    p.context = context;
    p.fault_pages = pages;
    ASSERT_EQ(gm_policy_set(&p), GM_OK) << gm_last_error();
  }
  static void whole_block(void*, const gm_policy_fault*, std::uint32_t* pages) { *pages = ~0U; }
  static void page_alone(void*, const gm_policy_fault*, std::uint32_t* pages) { *pages = 0; }
};
INSTANTIATE_TEST_SUITE_P(flavours, program_policy, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(program_policy, says_how_much_a_touch_takes) {
  set(whole_block);
  byte* p = make(3 * block);
  touch_write(p + block + 5 * page, 1);
  EXPECT_EQ(resident(p, 3 * block, GM_HOST), block);
  set(page_alone);
  for (std::uint64_t i = 0; i < 32; ++i) {
    touch_write(p + 2 * block + i * page, 1);
    ASSERT_EQ(resident(p, 3 * block, GM_HOST), block + (i + 1) * page);
  }
}

TEST_P(program_policy, may_take_what_devices_have_too) {
  byte* p = make_written(block);
  gm_stream s = stream();
  (void)device_reads(s, p, block);
  set(whole_block);
  touch_write(p + 7 * page, 99);
  EXPECT_EQ(resident(p, block, 1), 0U);
  EXPECT_EQ(device_reads(s, p + 7 * page, 1)[0], 99);
  EXPECT_EQ(p[31 * page], 32);
}

TEST_P(program_policy, cannot_change_what_memory_contains) {
  set([](void*, const gm_policy_fault* fault, std::uint32_t* pages) {
    *pages = static_cast<std::uint32_t>(fault->page * 0x9e3779b9U);
  });
  gm_stream s = stream();
  byte* p = make_written(3 * block);
  std::vector<int> expected(96);
  for (int i = 0; i < 96; ++i) expected[static_cast<std::size_t>(i)] = i + 1;
  for (std::uint64_t round = 0; round < 40; ++round) {
    const std::uint64_t first = round * 37 % 96;
    const int value = 100 + static_cast<int>(round);
    device_writes(s, p + first * page, page, value);
    expected[first] = value;
    const std::uint64_t second = round * 53 % 96;
    touch_write(p + second * page, 7);
    std::memset(p + second * page, 7, page);
    expected[second] = 7;
    for (std::uint64_t i = 0; i < 96; i += 5) ASSERT_EQ(p[i * page], expected[i]) << i;
  }
}

TEST_P(program_policy, outlives_the_runtime) {
  std::atomic<int> asked{0};
  set([](void* context, const gm_policy_fault*, std::uint32_t*) { ++*static_cast<std::atomic<int>*>(context); },
      &asked);
  ASSERT_EQ(gm_shutdown(), GM_OK) << gm_last_error();
  gm_policy now{};
  now.size = sizeof now;
  ASSERT_EQ(gm_policy_get(&now), GM_OK) << gm_last_error();
  EXPECT_EQ(now.context, &asked);
  start(small_options(GetParam()));
  touch_write(make(block), 1);
  EXPECT_EQ(asked, 1);
}

TEST_P(program_policy, may_change_while_pages_are_touched) {
  byte* p = make(32 * mib);
  std::atomic<bool> stop{false};
  std::thread toucher([&] {
    while (!stop) {
      for (std::uint64_t i = 0; i < 32 * mib; i += page) touch_write(p + i, 1);
      EXPECT_EQ(gm_discard(p, 32 * mib), GM_OK);
    }
  });
  for (int i = 0; i < 200; ++i) {
    if (i % 2 == 0)
      set(page_alone);
    else
      ASSERT_EQ(gm_policy_set(nullptr), GM_OK);
  }
  stop = true;
  toucher.join();
}

TEST_P(program_policy, is_not_there_in_a_forked_child) {
  const pid_t child = fork();
  if (child == 0) _exit(gm_policy_set(nullptr) == GM_ERROR_UNSUPPORTED ? 0 : 1);
  int how = -1;
  ASSERT_EQ(waitpid(child, &how, 0), child);
  EXPECT_EQ(how, 0);
}

}  // namespace
}  // namespace gm::test
