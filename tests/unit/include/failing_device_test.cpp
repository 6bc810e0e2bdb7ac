// SPDX-License-Identifier: Apache-2.0
// What the C++ forms leave behind when the device fails, made to by number.
#include <gtest/gtest.h>

#include <cstdint>
#include <future>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <memory>

#include "api/debug.h"

namespace {

using gm::device::operation;

// The n-th such operation from now fails; none does when this is gone.
class failure {
 public:
  failure(operation which, std::uint64_t n) : which_(which) { gm::debug_fail_device(which, n); }
  failure(const failure&) = delete;
  failure& operator=(const failure&) = delete;
  ~failure() { gm::debug_fail_device(which_, 0); }

 private:
  operation which_;
};

gm_status status_of(const auto& call) {
  try {
    call();
  } catch (const gm::error& thrown) {
    return thrown.status();
  }
  return GM_OK;
}

TEST(failing_device, a_kernel_is_reported_once_and_what_is_behind_it_skipped) {
  const auto token = std::make_shared<int>(0);
  gm::stream stream;
  const failure second(operation::launch_run, 2);
  gm::vector<int> x(1000);
  {
    gm::scope use(stream, gm::read_write(x));
    int* to = gm::device_pointer(x.data(), stream);
    for (int value = 1; value <= 3; ++value) {
      gm::parallel_for(
          stream, x.size(), GM_LAMBDA(std::size_t i) { to[i] = value + *token; });
    }
  }
  EXPECT_EQ(status_of([&] { stream.synchronize(); }), GM_ERROR_DEVICE);
  EXPECT_EQ(status_of([&] { stream.synchronize(); }), GM_OK);
  EXPECT_EQ(x[999], 1);
  EXPECT_EQ(token.use_count(), 1) << "a body that was skipped is destroyed too";
}

TEST(failing_device, a_launch_that_is_refused_keeps_nothing) {
  const auto token = std::make_shared<int>(0);
  gm::stream stream;
  const failure first(operation::launch_submit, 1);
  EXPECT_EQ(status_of([&] {
              gm::parallel_for(
                  stream, 10, GM_LAMBDA(std::size_t) { static_cast<void>(token); });
            }),
            GM_ERROR_DEVICE);
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_NO_THROW(stream.synchronize());
}

TEST(failing_device, a_kernel_without_a_stream_throws_at_once) {
  const failure first(operation::launch_run, 1);
  EXPECT_EQ(status_of([] {
              gm::parallel_for(
                  nullptr, 10, GM_LAMBDA(std::size_t) { ADD_FAILURE(); });
            }),
            GM_ERROR_DEVICE);
}

TEST(failing_device, a_call_that_is_skipped_goes_with_the_stream) {
  const auto token = std::make_shared<int>(0);
  {
    gm::stream stream;
    const failure first(operation::launch_run, 1);
    gm::parallel_for(
        stream, 10, GM_LAMBDA(std::size_t) { ADD_FAILURE(); });
    stream.call([token] { ADD_FAILURE() << *token; });
    EXPECT_EQ(status_of([&] { stream.synchronize(); }), GM_ERROR_DEVICE);
    int called = 0;
    stream.call([&called, token] { called = 1 + *token; });
    stream.synchronize();
    EXPECT_EQ(called, 1) << "the failure is over once reported";
  }
  EXPECT_EQ(token.use_count(), 1);
}

TEST(failing_device, a_call_that_is_refused_keeps_nothing) {
  const auto token = std::make_shared<int>(0);
  gm::stream stream;
  const failure first(operation::call_submit, 1);
  EXPECT_EQ(status_of([&] { stream.call([token] { ADD_FAILURE() << *token; }); }), GM_ERROR_DEVICE);
  EXPECT_EQ(token.use_count(), 1);
}

TEST(failing_device, a_stream_that_cannot_be_made_throws) {
  const failure first(operation::stream_create, 1);
  EXPECT_EQ(status_of([] { const gm::stream stream; }), GM_ERROR_DEVICE);
}

TEST(failing_device, end_reports_a_copy_and_the_contents_stand) {
  gm::stream stream, other(2);
  const auto x = gm::make_unique_for_overwrite<int[]>(100000);
  std::promise<void> go_on;
  {
    gm::scope use(other, gm::write(x));
    int* to = gm::device_pointer(x.get(), other);
    gm::parallel_for(
        other, 100000, GM_LAMBDA(std::size_t i) { to[i] = 4; });
    other.call([&go_on] { go_on.get_future().wait(); });
  }
  {
    const failure first(operation::copy_run, 1);
    gm::scope use(stream, gm::read_write(x));  // its copy cannot fail before this has begun: it follows that call
    int* to = gm::device_pointer(x.get(), stream);
    gm::parallel_for(
        stream, 100000, GM_LAMBDA(std::size_t i) { to[i] = 5; });
    go_on.set_value();
    EXPECT_EQ(status_of([&] { stream.synchronize(); }), GM_ERROR_DEVICE);
    EXPECT_EQ(status_of([&] { use.end(); }), GM_ERROR_DEVICE);
    EXPECT_FALSE(use.is_open());
  }
  for (std::size_t i = 0; i < 100000; ++i) ASSERT_EQ(x[i], 4) << i;
}

TEST(failing_device, a_scope_that_cannot_begin_holds_nothing) {
  gm::stream stream;
  gm::vector<int> x(100000, 4);
  {
    const failure first(operation::copy_submit, 1);
    EXPECT_NE(status_of([&] { gm::scope use(stream, gm::read_write(x)); }), GM_OK);
  }
  EXPECT_EQ(gm::query(x.data()).flags & GM_PAGE_LEASED, 0U);
  x[0] = 5;
  EXPECT_EQ(x[0], 5);
  EXPECT_EQ(x[99999], 4);
}

}  // namespace
