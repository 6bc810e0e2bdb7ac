// SPDX-License-Identifier: Apache-2.0
// The format of traces, and that those in traces/ are what the kernels still do. With GM_TEST_WRITE_TRACES=1 they are
// written instead.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "replay/recordings.h"
#include "replay/trace.h"

namespace gm::test {
namespace {

std::string why_not(const std::string& text) {
  trace t;
  std::string why;
  return read_trace(text, t, why) ? "" : why;
}

TEST(traces, are_read_as_they_were_written) {
  trace t;
  t.comments = {"one", "two"};
  t.allocations = {{0, 5}, {64, 65}};
  t.touches = {{0, 1, 4, false}, {0, 2, 64, true}, {9, 1, 0, false}};
  trace again;
  std::string why;
  ASSERT_TRUE(read_trace(text_of(t), again, why)) << why;
  EXPECT_EQ(again.comments, t.comments);
  EXPECT_EQ(again.allocations, t.allocations);
  EXPECT_EQ(again.touches, t.touches);
}

TEST(traces, with_anything_else_in_them_are_refused) {
  EXPECT_EQ(why_not(""), "");
  EXPECT_EQ(why_not("allocation 0 9\n1 1 3 r\n"), "");
  EXPECT_EQ(why_not("\n"), "line 1: not TIME NODE PAGE r|w");
  EXPECT_EQ(why_not("allocation 5 5\n"), "line 1: no range of pages");
  EXPECT_EQ(why_not("allocation 0 9 1\n"), "line 1: no range of pages");
  EXPECT_EQ(why_not("allocation 0 9\nallocation 8 10\n"), "line 2: allocations overlap");
  EXPECT_EQ(why_not("allocation 0 9\n1 1 3 r\nallocation 10 11\n"), "line 3: an allocation behind touches");
  EXPECT_EQ(why_not("allocation 0 9\n1 1 9 r\n"), "line 2: a page of no allocation");
  EXPECT_EQ(why_not("allocation 0 9\n1 1 3 x\n"), "line 2: neither r nor w");
  EXPECT_EQ(why_not("allocation 0 9\n1 1 3 r 5\n"), "line 2: not TIME NODE PAGE r|w");
  EXPECT_EQ(why_not("allocation 0 9\n2 1 3 r\n1 1 3 r\n"), "line 3: earlier than the touch before");
}

class recorded_traces : public testing::TestWithParam<recording> {};
INSTANTIATE_TEST_SUITE_P(kernels, recorded_traces, testing::ValuesIn(recordings),
                         [](const auto& which) { return std::string(which.param.name); });

TEST_P(recorded_traces, are_what_the_kernel_does) {
  const std::string path = path_of_recording(GetParam().name);
  const std::string made = text_of(GetParam().make());
  if (std::getenv("GM_TEST_WRITE_TRACES") != nullptr) std::ofstream(path) << made;
  EXPECT_TRUE(contents_of(path) == made) << path << " is not what recordings.cpp records now";
}

}  // namespace
}  // namespace gm::test
