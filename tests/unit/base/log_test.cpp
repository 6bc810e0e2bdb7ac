// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <gtest/gtest.h>

#include <string>

namespace gm {
namespace {

class log_lines : public testing::Test {
 protected:
  void TearDown() override { set_log_level(log_level::warn); }

  static std::string logged(log_level level, const char* text) {
    testing::internal::CaptureStderr();
    log_line(level, "%s", text);
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(log_lines, a_line_says_who_and_how_bad) {
  set_log_level(log_level::debug);
  EXPECT_EQ(logged(log_level::error, "x"), "gmem: error: x\n");
  EXPECT_EQ(logged(log_level::warn, "x"), "gmem: warning: x\n");
  EXPECT_EQ(logged(log_level::info, "x"), "gmem: info: x\n");
  EXPECT_EQ(logged(log_level::debug, "x"), "gmem: debug: x\n");
}

TEST_F(log_lines, each_level_holds_back_those_below_it) {
  constexpr log_level all[] = {log_level::error, log_level::warn, log_level::info, log_level::debug};
  for (const log_level chosen : all) {
    set_log_level(chosen);
    for (const log_level level : all) EXPECT_EQ(logged(level, "x").empty(), level > chosen);
  }
}

TEST_F(log_lines, a_long_line_is_cut_and_still_ends) {
  const std::string text = logged(log_level::error, std::string(5000, 'y').c_str());
  EXPECT_LT(text.size(), 700U);
  EXPECT_EQ(text.back(), '\n');
  EXPECT_EQ(text.find('\n'), text.size() - 1);
}

}  // namespace
}  // namespace gm
