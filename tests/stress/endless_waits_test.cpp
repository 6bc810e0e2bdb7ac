// SPDX-License-Identifier: Apache-2.0
// endless_waits_test.cpp - touches that would wait for each other, or for themselves, for ever: one of them ends in a
// signal that says so, and all the others go on.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "stress/device_work.h"
#include "stress/offences.h"
#include "unit/caught_signal.h"

namespace gm::test {
namespace {

int signal_of_write(std::uint8_t* at) {
  return catch_signals::during([&] { *static_cast<volatile std::uint8_t*>(at) = 1; });
}

class endless_waits : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { ASSERT_TRUE(live_.started()); }
  void TearDown() override { expect_nothing_is_kept(); }

  static std::uint8_t* page() { return static_cast<std::uint8_t*>(gm_calloc(1, page_size)); }
  static gm_scope open(std::uint8_t* p) {
    const gm_access access{p, page_size, GM_READ_WRITE};
    gm_scope scope = nullptr;
    EXPECT_EQ(gm_access_begin(nullptr, &access, 1, &scope), GM_OK) << gm_last_error();
    return scope;
  }

  catch_signals catcher_;  // before gmem's own handler
  live_runtime live_{offences_flavour(GetParam())};
  watchdog dog_{"endless_waits"};
};

// Each of the threads has a scope open and touches the next one's memory. Who gets the signal ends its scope.
TEST_P(endless_waits, a_circle_of_touches_is_broken_by_one) {
  for (const unsigned count : {2u, 3u, 8u})
    for (std::uint64_t round = 0; round < 1 + scaled(10); ++round) {
      std::vector<std::uint8_t*> pages(count);
      for (std::uint8_t*& p : pages) p = page();
      std::atomic<unsigned> ready{0};
      std::atomic<unsigned> signals{0};
      std::vector<std::thread> threads;
      for (unsigned t = 0; t < count; ++t)
        threads.emplace_back([&, t] {
          gm_scope scope = open(pages[t]);
          ready.fetch_add(1);
          while (ready.load() < count) std::this_thread::yield();
          std::uint8_t* const others = pages[(t + 1) % count];
          const int number = signal_of_write(others);
          if (number != 0) signals.fetch_add(1);
          EXPECT_TRUE(number == 0 || number == SIGBUS) << number;
          EXPECT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
          EXPECT_EQ(signal_of_write(others), 0);
          dog_.progress();
        });
      for (std::thread& t : threads) t.join();
      EXPECT_EQ(signals.load(), 1u) << count << " threads";
      for (std::uint8_t* p : pages) {
        EXPECT_EQ(*p, 1);
        gm_free(p);
      }
    }
}

TEST_P(endless_waits, a_circle_of_a_touch_and_a_begin_is_broken_by_one) {
  for (std::uint64_t round = 0; round < 1 + scaled(20); ++round) {
    std::uint8_t* const x = page();
    std::uint8_t* const y = page();
    std::atomic<unsigned> ready{0};
    std::atomic<unsigned> broken{0};
    const auto meet = [&] {
      ready.fetch_add(1);
      while (ready.load() < 2) std::this_thread::yield();
    };
    std::thread beginner([&] {
      gm_scope scope = open(x);
      meet();
      const gm_access access{y, page_size, GM_READ};
      gm_scope second = nullptr;
      const gm_status s = gm_access_begin(nullptr, &access, 1, &second);
      if (s == GM_OK) {
        EXPECT_EQ(gm_access_end(second), GM_OK);
      } else {
        EXPECT_EQ(s, GM_ERROR_BUSY) << gm_last_error();
        broken.fetch_add(1);
      }
      EXPECT_EQ(gm_access_end(scope), GM_OK);
    });
    std::thread toucher([&] {
      gm_scope scope = open(y);
      meet();
      if (signal_of_write(x) != 0) broken.fetch_add(1);
      EXPECT_EQ(gm_access_end(scope), GM_OK);
    });
    beginner.join();
    toucher.join();
    EXPECT_EQ(broken.load(), 1u);
    gm_free(x);
    gm_free(y);
    dog_.progress();
  }
}

// A kernel that uses the host's pointer.
struct host_pointer_kernel {
  std::uint8_t* host;
  std::atomic<int> signal{-1};
  static void body(void* self, std::size_t, std::size_t) {
    auto* k = static_cast<host_pointer_kernel*>(self);
    k->signal = signal_of_write(k->host);
  }
  static void call(void* self) { body(self, 0, 0); }
};

TEST_P(endless_waits, a_kernel_with_the_host_s_pointer_to_its_own_scope_is_told) {
  for (const bool ended : {false, true}) {
    std::uint8_t* const p = page();
    const device_stream stream(1);
    host_pointer_kernel kernel{p};
    host_pointer_kernel call{p};
    testing::internal::CaptureStderr();
    const gm_access access{p, page_size, GM_READ_WRITE};
    gm_scope scope = nullptr;
    ASSERT_EQ(gm_access_begin(stream.get(), &access, 1, &scope), GM_OK) << gm_last_error();
    ASSERT_EQ(gm_stream_launch(stream.get(), 1, host_pointer_kernel::body, nullptr, &kernel), GM_OK);
    ASSERT_EQ(gm_stream_call(stream.get(), host_pointer_kernel::call, &call), GM_OK);
    while (!ended && call.signal == -1) std::this_thread::yield();
    EXPECT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
    EXPECT_EQ(stream.wait(), GM_OK) << gm_last_error();
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(kernel.signal, SIGBUS);
    EXPECT_EQ(call.signal, SIGBUS);
    EXPECT_NE(said.find("gm_device_pointer"), std::string::npos) << said;
    EXPECT_EQ(*p, 0) << "nothing was written";
    gm_free(p);
    dog_.progress();
  }
}

TEST_P(endless_waits, a_kernel_that_touches_what_another_stream_holds_just_waits) {
  std::uint8_t* const p = page();
  const device_stream first(1), second(1);
  host_pointer_kernel kernel{p};
  const gm_access access{p, page_size, GM_READ_WRITE};
  gm_scope scope = nullptr;
  ASSERT_EQ(gm_access_begin(first.get(), &access, 1, &scope), GM_OK) << gm_last_error();
  const std::uint64_t parked = stats_now().parked_faults;
  ASSERT_EQ(gm_stream_launch(second.get(), 1, host_pointer_kernel::body, nullptr, &kernel), GM_OK);
  while (stats_now().parked_faults == parked && kernel.signal == -1) std::this_thread::yield();
  EXPECT_EQ(kernel.signal, -1) << "the scope is open";
  EXPECT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
  EXPECT_EQ(second.wait(), GM_OK) << gm_last_error();
  EXPECT_EQ(kernel.signal, 0);
  EXPECT_EQ(first.wait(), GM_OK) << gm_last_error();
  EXPECT_EQ(*p, 1);
  gm_free(p);
}

INSTANTIATE_TEST_SUITE_P(stress, endless_waits, testing::Values("thread", "inline"), fault_mode_name);

}  // namespace
}  // namespace gm::test
