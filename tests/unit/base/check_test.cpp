// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <gtest/gtest.h>

#include <csignal>
#include <string>

namespace gm {
namespace {

class check_death_test : public testing::Test {
 protected:
  check_death_test() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(check_death_test, a_broken_check_names_place_and_condition_and_aborts) {
  const int frames = 3;
  EXPECT_EXIT(GM_CHECK(frames == 4), testing::KilledBySignal(SIGABRT),
              "^gmem: check failed at .*check_test.cpp:[0-9]+: frames == 4\n");
}

TEST_F(check_death_test, a_condition_with_a_percent_sign_is_no_format) {
  const int odd = 3;
  EXPECT_DEATH(GM_CHECK(odd % 2 == 0), "odd % 2 == 0\n");
}

TEST_F(check_death_test, abort_with_prints_in_the_manner_of_glibc) {
  EXPECT_EXIT(abort_with("gm_free(%d): freed twice", 7), testing::KilledBySignal(SIGABRT),
              "^gmem: gm_free\\(7\\): freed twice\n$");
}

TEST_F(check_death_test, a_long_message_is_cut_and_still_ends) {
  const std::string text(5000, 'z');
  EXPECT_DEATH(abort_with("%s", text.c_str()), "^gmem: z+\n$");
}

TEST_F(check_death_test, debug_checks_follow_the_build) {
  int looked = 0;
  auto hold = [&] {
    ++looked;
    return true;
  };
  GM_DCHECK(hold());
#ifdef GMEM_DEBUG_CHECKS
  EXPECT_EQ(looked, 1);
  EXPECT_DEATH(GM_DCHECK(looked == 0), "looked == 0");
#else
  (void)hold;
  EXPECT_EQ(looked, 0);
#endif
}

}  // namespace
}  // namespace gm
