// SPDX-License-Identifier: Apache-2.0
// touch_death_test.cpp - touches that end a program which does not take the signals: by the right one, and with words.
// Each in a process of its own (googletest's death tests, re-executed).
#include <csignal>
#include <cstdio>
#include <vector>

#include "stress/offences.h"

namespace gm::test {
namespace {

struct death {
  const offence* of;
  bool write;
  const char* fault_mode;
};
std::ostream& operator<<(std::ostream& out, const death& d) { return out << d.of->name; }

std::vector<death> every_death() {
  std::vector<death> all;
  for (const offence& o : offences)
    for (const char* fault_mode : {"thread", "inline"}) {
      if (!o.reads_are_fine) all.push_back({&o, false, fault_mode});
      all.push_back({&o, true, fault_mode});
    }
  return all;
}

class touch_death_test : public testing::TestWithParam<death> {
 protected:
  void SetUp() override { prepare_death_test(); }
};

TEST_P(touch_death_test, by_the_right_signal_and_with_words) {
  const offence& o = *GetParam().of;
  EXPECT_EXIT(
      {
        start_to_die(offences_flavour(GetParam().fault_mode));
        scene s;
        o.commit(s);
        std::fprintf(stderr, "about to offend\n");
        if (GetParam().write)
          *static_cast<volatile std::uint8_t*>(s.offending) = 1;
        else
          (void)*static_cast<volatile std::uint8_t*>(s.offending);
      },
      testing::KilledBySignal(o.signal), std::string("about to offend.*\n.*") + o.words);
}

INSTANTIATE_TEST_SUITE_P(stress, touch_death_test, testing::ValuesIn(every_death()),
                         [](const testing::TestParamInfo<death>& each) {
                           return std::string(each.param.of->name) + (each.param.write ? "_written_" : "_read_") +
                                  each.param.fault_mode;
                         });

class late_handler_death_test : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { prepare_death_test(); }
};

// A handler that the program installs when gmem runs already.
TEST_P(late_handler_death_test, is_asked) {
  EXPECT_EXIT(
      {
        start_to_die(offences_flavour(GetParam()));
        std::signal(SIGSEGV, [](int) { std::_Exit(42); });
        scene s;
        offences[0].commit(s);
        *static_cast<volatile std::uint8_t*>(s.offending) = 1;
      },
      testing::ExitedWithCode(42), offences[0].words);
}

INSTANTIATE_TEST_SUITE_P(stress, late_handler_death_test, testing::Values("thread", "inline"), fault_mode_name);

}  // namespace
}  // namespace gm::test
