// SPDX-License-Identifier: Apache-2.0
// small_stack_test.cpp - in line, faults are served on the stack of the thread that touched: on its alternate one, if
// it has one, and those are often of 8 KiB. Of that the kernel takes what it needs for the registers.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

constexpr std::size_t stack_bytes = 8192;
constexpr std::size_t served_in_bytes_max = 4096;  // without the kernel's part

// With nothing below it.
class small_signal_stack {
 public:
  small_signal_stack() {
    void* all = mmap(nullptr, guard_bytes + stack_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    first_ = static_cast<unsigned char*>(all) + guard_bytes;
    mprotect(first_, stack_bytes, PROT_READ | PROT_WRITE);
    std::memset(first_, painted, stack_bytes);
    stack_t stack{};
    stack.ss_sp = first_;
    stack.ss_size = stack_bytes;
    sigaltstack(&stack, &before_);
  }
  small_signal_stack(const small_signal_stack&) = delete;
  small_signal_stack& operator=(const small_signal_stack&) = delete;
  ~small_signal_stack() {
    sigaltstack(&before_, nullptr);
    munmap(first_ - guard_bytes, guard_bytes + stack_bytes);
  }
  std::size_t used_bytes() const {
    const unsigned char* const end = first_ + stack_bytes;
    return static_cast<std::size_t>(end -
                                    std::find_if(first_, first_ + stack_bytes, [](int b) { return b != painted; }));
  }

 private:
  static constexpr std::size_t guard_bytes = 65536;
  static constexpr int painted = 0xa5;
  unsigned char* first_;
  stack_t before_{};
};

class small_stack : public running_gmem {
 protected:
  void SetUp() override {
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "frames of this build are larger";
#endif
    if (kernels_part() + served_in_bytes_max > stack_bytes) GTEST_SKIP() << "this CPU has too many registers";
    start(small_options({.fault_mode = "inline"}));
  }
  static std::size_t kernels_part() { return static_cast<std::size_t>(std::max(sysconf(_SC_MINSIGSTKSZ), 2048L)); }

  template <typename F>
  static void expect_served(F&& touch) {
    const small_signal_stack stack;
    touch();
    EXPECT_GT(stack.used_bytes(), 1024U) << "it was served there";
    EXPECT_LE(stack.used_bytes(), kernels_part() + served_in_bytes_max);
  }
};

TEST_F(small_stack, fresh_pages) {
  byte* p = make(block);
  expect_served([&] { touch_write(p, 1); });
}

TEST_F(small_stack, pages_of_a_device) {
  byte* p = make(block);
  gm_stream s = stream();
  device_writes(s, p, block, 9);
  // As many runs as there can be.
  for (std::size_t i = 0; i < block; i += 2 * page) touch_read(p + i);
  ASSERT_EQ(gm_advise(p, block, GM_ADVISE_SEQUENTIAL, 0), GM_OK);
  expect_served([&] { touch_write(p + page, 1); });
  EXPECT_EQ(p[page + 1], 9);
}

TEST_F(small_stack, pages_that_two_devices_hold) {
  byte* p = make(block);
  gm_stream first = stream(1);
  gm_stream second = stream(2);
  device_writes(first, p, block / 2, 9);
  device_writes(second, p + block / 2, block / 2, 8);
  ASSERT_EQ(gm_advise(p, block, GM_ADVISE_SEQUENTIAL, 0), GM_OK);
  expect_served([&] { touch_read(p + block / 2); });
  EXPECT_EQ(p[block / 2], 8);
  EXPECT_EQ(p[0], 9);
}

TEST_F(small_stack, pages_for_which_others_must_go) {
  byte* fill = make(64 * mib);
  for (std::size_t i = 0; i < 64 * mib; i += page) fill[i] = 1;  // all that the host may hold
  ASSERT_EQ(gm_prefetch(fill, block, 1, nullptr), GM_OK);
  byte* p = make(page);
  expect_served([&] { touch_write(p, 1); });
  free(p);
  EXPECT_EQ(*fill, 1);
}

TEST_F(small_stack, offences) {
  byte* p = make(page);
  testing::internal::CaptureStderr();
  expect_served([&] { EXPECT_EQ(signals_.during([&] { touch_write(p + page, 1); }), SIGSEGV); });
  EXPECT_NE(testing::internal::GetCapturedStderr().find("not allocated"), std::string::npos);
}

}  // namespace
}  // namespace gm::test
