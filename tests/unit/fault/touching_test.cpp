// SPDX-License-Identifier: Apache-2.0
// touching_test.cpp - CPU threads that touch managed memory, with the real kernel behind it, in both fault modes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <thread>
#include <vector>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

class touching : public every_flavour {};
INSTANTIATE_TEST_SUITE_P(modes, touching, testing::Values(flavours[0], flavours[2]), name_of_flavour);

TEST_P(touching, fresh_memory_reads_as_zero_and_keeps_what_is_written) {
  byte* p = make(3 * block);
  EXPECT_TRUE(all_are(p, 3 * block, 0));
  for (std::size_t i = 0; i < 3 * block; i += 4099) p[i] = static_cast<byte>(i % 251);
  for (std::size_t i = 0; i < 3 * block; i += 4099) ASSERT_EQ(p[i], i % 251);
}

TEST_P(touching, what_a_device_wrote_is_read_and_overwritten) {
  byte* p = make_written(2 * block);
  gm_stream s = stream();
  device_writes(s, p, 2 * block, 200);
  EXPECT_TRUE(all_are(p, 2 * block, 200));
  p[page] = 1;
  EXPECT_EQ(valid(p + page), 1U) << "a write takes it from the device";
  EXPECT_EQ(device_reads(s, p + page, 2)[0], 1);
}

TEST_P(touching, in_order_costs_few_faults_and_exactly_so_many) {
  byte* p = make(8 * block);
  ASSERT_EQ(gm_stats_reset(), GM_OK);
  for (std::size_t i = 0; i < 8 * block; i += 4096) touch_write(p + i, 1);
  // 1, 2, 4, 8, 16 and 1 pages of the first block, and then a block at a time.
  EXPECT_EQ(stats().node[0].faults, 6U + 7U);
  EXPECT_EQ(stats().spurious_faults, 0U);
  EXPECT_EQ(stats().node[0].frames_used, 8U * 32U);
}

TEST_P(touching, a_wild_address_is_sigsegv_with_a_message) {
  byte* p = make(page);
  testing::internal::CaptureStderr();
  EXPECT_EQ(signals_.during([&] { touch_read(p + page); }), SIGSEGV);
  EXPECT_EQ(signals_.during([&] { touch_write(p + page, 1); }), SIGSEGV);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("not allocated"), std::string::npos) << said;
  EXPECT_EQ(signals_.address(), p + page);
  touch_write(p, 1);  // its neighbour is none the worse
}

TEST_P(touching, addresses_that_were_never_near_an_allocation_too) {
  const vm_object& vm = running()->vm;
  const std::uint64_t ends[] = {vm.memory.bytes() - block, vm.memory.bytes() - 1, vm.memory.bytes() / 2};
  for (const std::uint64_t offset : ends) {
    EXPECT_EQ(signals_.during([&] { touch_read(vm.memory.user(offset)); }), SIGSEGV) << offset;
    EXPECT_EQ(signals_.during([&] { touch_write(vm.memory.user(offset), 1); }), SIGSEGV) << offset;
  }
  byte* p = make(page);  // and it runs on
  touch_write(p, 7);
  EXPECT_EQ(*p, 7);
}

TEST_P(touching, freed_memory_is_sigsegv_until_it_is_handed_out_again) {
  byte* p = make_written(3 * page);
  free(p);
  EXPECT_EQ(signals_.during([&] { touch_read(p); }), SIGSEGV);
  EXPECT_EQ(signals_.during([&] { touch_write(p + page, 1); }), SIGSEGV);
  byte* again = make(3 * page);
  ASSERT_EQ(again, p) << "for this test: the same addresses";
  EXPECT_TRUE(all_are(again, 3 * page, 0));
}

TEST_P(touching, a_page_of_ones_own_open_scope_is_sigbus_and_nothing_is_lost) {
  byte* p = make_written(block);
  gm_stream s = stream();
  gm_scope scope = begin(s, p, page, GM_READ_WRITE);
  testing::internal::CaptureStderr();
  EXPECT_EQ(signals_.during([&] { touch_read(p + 5); }), SIGBUS);
  EXPECT_EQ(signals_.during([&] { touch_write(p + 5, 9); }), SIGBUS);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("gm_access_end"), std::string::npos) << said;
  touch_write(p + page, 9);  // the scope has only the first page
  end(scope);
  EXPECT_EQ(p[5], 1);
  EXPECT_EQ(p[page], 9);
}

TEST_P(touching, ones_own_reading_scope_may_be_read_along) {
  byte* p = make_written(block);
  gm_stream s = stream();
  gm_scope scope = begin(s, p, page, GM_READ);
  EXPECT_EQ(signals_.during([&] { touch_read(p); }), 0);
  EXPECT_EQ(signals_.during([&] { touch_write(p, 3); }), SIGBUS);
  end(scope);
  touch_write(p, 3);
  EXPECT_EQ(*p, 3);
}

TEST_P(touching, another_threads_scope_is_waited_for) {
  byte* p = make_written(block);
  gm_stream s = stream();
  gm_scope scope = begin(s, p, page, GM_READ_WRITE);
  std::atomic<int> got{-1};
  std::thread reader([&] { got = *static_cast<volatile byte*>(p); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(got, -1);
  kernel_set(s, p, page, 77);
  end(scope);
  reader.join();
  EXPECT_EQ(got, 77);
  EXPECT_TRUE(soon([] { return stats().parked_faults >= 1; }));
}

TEST_P(touching, without_host_memory_it_is_sigbus_and_all_else_stands) {
  byte* p = make(2 * block);
  byte* fill = make(64 * mib);
  for (std::size_t i = 0; i < 64 * mib; i += page) fill[i] = 1;  // all that the host may hold
  EXPECT_EQ(stats().node[0].frames_free, 0U);
  testing::internal::CaptureStderr();
  EXPECT_EQ(signals_.during([&] { touch_write(p, 1); }), SIGBUS);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("GM_HOST_BUDGET"), std::string::npos) << said;
  EXPECT_EQ(gm_prefetch(p, page, GM_HOST, nullptr), GM_ERROR_NO_MEMORY) << "a call says it in words";
  for (std::size_t i = 0; i < 64 * mib; i += page) ASSERT_EQ(fill[i], 1);
  EXPECT_EQ(flags(p), GM_PAGE_NOMAP);
  ASSERT_EQ(gm_discard(fill, page), GM_OK);
  touch_write(p, 1);  // one page came free
  EXPECT_EQ(*p, 1);
}

TEST_P(touching, copies_on_devices_make_room_on_the_host) {
  byte* fill = make(64 * mib);
  for (std::size_t i = 0; i < 64 * mib; i += page) fill[i] = 1;
  ASSERT_EQ(gm_prefetch(fill, block, 1, nullptr), GM_OK);
  byte* p = make(block);
  for (std::size_t i = 0; i < block; i += page) touch_write(p + i, 5);
  for (std::size_t i = 0; i < block; i += page) ASSERT_EQ(p[i], 5);
  free(p);  // else there is no room for what comes home
  for (std::size_t i = 0; i < block; i += page) ASSERT_EQ(fill[i], 1) << "brought back from the device";
}

TEST_P(touching, many_threads_on_the_same_pages_agree) {
  byte* p = make_written(4 * block, 0);
  gm_stream s = stream();
  device_writes(s, p, 4 * block, 50);
  std::vector<std::thread> running;
  for (unsigned t = 0; t < 4; ++t)
    running.emplace_back([&, t] {
      for (std::size_t i = 0; i < 4 * block; i += page) {
        ASSERT_EQ(p[i + 100], 50);
        touch_write(p + i + t, static_cast<byte>(t));
      }
    });
  for (std::thread& t : running) t.join();
  for (std::size_t i = 0; i < 4 * block; i += page)
    for (unsigned t = 0; t < 4; ++t) ASSERT_EQ(p[i + t], t);
}

TEST_P(touching, a_function_in_a_stream_may_touch_what_is_elsewhere) {
  byte* p = make(block);
  gm_stream s = stream();
  device_writes(s, p, block, 9);
  struct work {
    byte* p;
    int sum;
  } w{p, 0};
  ASSERT_EQ(gm_stream_call(
                s,
                [](void* self) {
                  auto* mine = static_cast<work*>(self);
                  mine->sum = mine->p[0] + mine->p[block - 1];
                  mine->p[1] = 4;
                },
                &w),
            GM_OK);
  finish(s);
  EXPECT_EQ(w.sum, 18);
  EXPECT_EQ(p[1], 4);
}

TEST_P(touching, a_copy_that_fails_is_sigbus_or_tried_again_and_the_bytes_stand) {
  byte* p = make(page);
  gm_stream s = stream();
  device_writes(s, p, page, 9);
  debug_fail_device(device::operation::copy_submit, 1);
  const int number = signals_.during([&] { touch_read(p); });
  if (number != 0) EXPECT_EQ(number, SIGBUS);
  debug_fail_device(device::operation::copy_submit, 0);
  EXPECT_TRUE(all_are(p, page, 9)) << "the device had it all the time";
}

class with_handlers : public running_gmem {
 protected:
  void SetUp() override { start(small_options()); }
};

TEST_F(with_handlers, system_calls_work_on_any_page) {
  byte* p = make(4 * page);
  gm_stream s = stream();
  device_writes(s, p, 4 * page, 65);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  EXPECT_EQ(write(ends[1], p + page - 8, 16), 16) << std::strerror(errno) << ": from two pages that a device holds";
  byte* fresh = make(4 * page);
  EXPECT_EQ(read(ends[0], fresh + page - 8, 16), 16) << std::strerror(errno) << ": into two that nobody holds";
  EXPECT_TRUE(all_are(fresh + page - 8, 16, 65));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(with_handlers, a_system_call_on_a_wild_address_is_efault) {
  byte* p = make(page);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  testing::internal::CaptureStderr();
  EXPECT_EQ(write(ends[1], p + page, 1), -1);
  EXPECT_EQ(errno, EFAULT);
  (void)testing::internal::GetCapturedStderr();
  close(ends[0]);
  close(ends[1]);
  // The poison that is left there harms nobody: the next to get the address finds it healed.
  byte* next = make(page);
  ASSERT_EQ(next, p + page) << "for this test: the same address";
  EXPECT_EQ(signals_.during([&] { touch_write(next, 1); }), 0);
}

TEST_F(with_handlers, start_and_stop_again_and_again) {
  for (int i = 0; i < 5; ++i) {
    byte* p = make_written(2 * page);
    EXPECT_EQ(p[page], 2);
    free(p);
    settle();
    ASSERT_EQ(gm_shutdown(), GM_OK) << gm_last_error();
    start(small_options());
  }
}

TEST_F(with_handlers, one_handler_serves_everybody_as_well) {
  ASSERT_EQ(gm_shutdown(), GM_OK);
  gm_options o = small_options();
  o.fault_threads = 1;
  start(o);
  byte* p = make(4 * block);
  std::vector<std::thread> running;
  for (unsigned t = 0; t < 4; ++t)
    running.emplace_back([&, t] { std::memset(p + t * block, static_cast<int>(t) + 1, block); });
  for (std::thread& t : running) t.join();
  for (unsigned t = 0; t < 4; ++t) EXPECT_TRUE(all_are(p + t * block, block, static_cast<int>(t) + 1));
}

class fault_death_test : public running_gmem {};

TEST_F(fault_death_test, without_a_handler_of_the_program_a_wild_touch_kills) {
  EXPECT_EXIT(
      {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        start(small_options());
        touch_write(make(page) + page, 1);
      },
      testing::KilledBySignal(SIGSEGV), "not allocated");
  EXPECT_EXIT(
      {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        start(small_options());
        byte* p = make_written(page);
        (void)begin(nullptr, p, page, GM_WRITE);
        touch_write(p, 1);
      },
      testing::KilledBySignal(SIGBUS), "gm_access_end first");
}

}  // namespace
}  // namespace gm::test
