// SPDX-License-Identifier: Apache-2.0
#include "base/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>

namespace gm {
namespace {

TEST(status, every_name) {
  EXPECT_STREQ(status_name(status::ok), "GM_OK");
  EXPECT_STREQ(status_name(status::invalid_argument), "GM_ERROR_INVALID_ARGUMENT");
  EXPECT_STREQ(status_name(status::not_managed), "GM_ERROR_NOT_MANAGED");
  EXPECT_STREQ(status_name(status::no_memory), "GM_ERROR_NO_MEMORY");
  EXPECT_STREQ(status_name(status::unsupported), "GM_ERROR_UNSUPPORTED");
  EXPECT_STREQ(status_name(status::busy), "GM_ERROR_BUSY");
  EXPECT_STREQ(status_name(status::permission), "GM_ERROR_PERMISSION");
  EXPECT_STREQ(status_name(status::device), "GM_ERROR_DEVICE");
  EXPECT_STREQ(status_name(status::system), "GM_ERROR_SYSTEM");
  EXPECT_STREQ(status_name(static_cast<status>(GM_ERROR_SYSTEM + 1)), "unknown status");
  EXPECT_STREQ(status_name(static_cast<status>(-1)), "unknown status");
}

TEST(status, fail_returns_the_status_and_keeps_the_sentence) {
  EXPECT_EQ(fail(status::busy, "%s has %d", "it", 7), status::busy);
  EXPECT_STREQ(last_error(), "it has 7");
}

TEST(status, a_long_sentence_is_cut_at_511_bytes) {
  const std::string just_fits(511, 'x');
  (void)fail(status::busy, "%s", just_fits.c_str());
  EXPECT_EQ(last_error(), just_fits);
  const std::string one_more = just_fits + "y";
  (void)fail(status::busy, "%s", one_more.c_str());
  EXPECT_EQ(last_error(), just_fits);
}

TEST(status, the_old_sentence_may_be_part_of_the_new_one) {
  (void)fail(status::busy, "inner");
  (void)fail(status::busy, "outer: %s", last_error());
  EXPECT_STREQ(last_error(), "outer: inner");
}

TEST(status, a_thread_has_its_own_sentence) {
  (void)fail(status::busy, "mine");
  std::string fresh = "not asked";
  std::string theirs;
  std::thread([&] {
    fresh = last_error();
    (void)fail(status::system, "theirs");
    theirs = last_error();
  }).join();
  EXPECT_EQ(fresh, "") << "empty before any failure";
  EXPECT_EQ(theirs, "theirs");
  EXPECT_STREQ(last_error(), "mine");
}

TEST(status, errno_gives_the_status_and_the_systems_own_words) {
  errno = EBADF;
  EXPECT_EQ(fail_errno("closing %d", 3), status::system);
  const std::string text = last_error();
  EXPECT_EQ(text.rfind("closing 3: ", 0), 0U) << text;
  EXPECT_NE(text.find(std::strerror(EBADF)), std::string::npos) << text;
  errno = ENOMEM;
  EXPECT_EQ(fail_errno("mapping"), status::no_memory);
}

}  // namespace
}  // namespace gm
