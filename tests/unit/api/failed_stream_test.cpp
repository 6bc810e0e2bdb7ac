// SPDX-License-Identifier: Apache-2.0
// failed_stream_test.cpp - what a stream that has failed leaves alone, and what it refuses.
#include <gtest/gtest.h>

#include <stdexcept>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

class failed_stream : public every_flavour {
 protected:
  static void fail(gm_stream s) {
    EXPECT_EQ(gm_stream_call(
                  s, [](void*) { throw std::runtime_error("on purpose"); }, nullptr),
              GM_OK);
  }
  // Holds the stream, so that what is queued behind has not run.
  struct gate {
    std::atomic<bool> open{false};
    static void wait(void* self) { static_cast<gate*>(self)->open.wait(false); }
    void let_go() {
      open = true;
      open.notify_all();
    }
  };
};
INSTANTIATE_TEST_SUITE_P(flavours, failed_stream, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(failed_stream, work_that_does_not_run_leaves_what_it_would_have_overwritten) {
  byte* from = make_written(2 * page, 50);
  enum { copy, fill, scope, copy_by_host, kinds };
  for (int kind = 0; kind < kinds; ++kind) {
    byte* p = make_written(3 * page, 1);
    gm_stream s = stream();
    gate held;
    ASSERT_EQ(gm_stream_call(s, gate::wait, &held), GM_OK);
    fail(s);
    switch (kind) {
      case copy:
        ASSERT_EQ(gm_memcpy(p + page / 2, from, 2 * page, 1, s), GM_OK) << gm_last_error();
        break;
      case fill:
        ASSERT_EQ(gm_memset(p + page / 2, 9, 2 * page, 1, s), GM_OK) << gm_last_error();
        break;
      case scope: {
        gm_scope writing = begin(s, p, 3 * page, GM_WRITE);
        kernel_set(s, p, 3 * page, 9);
        end(writing);
        break;
      }
      default:
        ASSERT_EQ(gm_memset(p, 9, 3 * page, GM_HOST, s), GM_OK) << gm_last_error();
    }
    held.let_go();
    EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_DEVICE);
    expect_valid();
    for (unsigned i = 0; i < 3; ++i) EXPECT_TRUE(all_are(p + i * page, page, 1 + static_cast<int>(i))) << kind;
  }
}

TEST_P(failed_stream, refuses_scopes_and_copies_until_it_has_been_told) {
  byte* p = make_written(page);
  gm_stream s = stream();
  fail(s);
  ASSERT_TRUE(soon([&] { return try_begin(s, p, page, GM_READ) == GM_ERROR_DEVICE; }));
  expect_error("gm_stream_synchronize");
  EXPECT_EQ(gm_memset(p, 9, page, 1, s), GM_ERROR_DEVICE);
  EXPECT_EQ(gm_memcpy(p, "x", 1, 1, s), GM_ERROR_DEVICE);
  EXPECT_EQ(gm_prefetch(p, page, 1, s), GM_ERROR_DEVICE);
  EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_DEVICE);
  EXPECT_EQ(gm_stream_synchronize(s), GM_OK);
  device_writes(s, p, page, 3);
  EXPECT_TRUE(all_are(p, page, 3));
}

TEST_P(failed_stream, stays_failed_while_a_scope_is_open_on_it) {
  byte* p = make_written(page);
  gm_stream s = stream();
  gm_scope open = begin(s, p, page, GM_READ_WRITE);
  fail(s);
  EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_DEVICE);
  kernel_set(s, p, page, 9);
  EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_DEVICE) << "the kernel was not run";
  (void)gm_access_end(open);
  EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_DEVICE);
  EXPECT_EQ(gm_stream_synchronize(s), GM_OK);
  settle();
  EXPECT_TRUE(all_are(p, page, 1));
}

}  // namespace
}  // namespace gm::test
