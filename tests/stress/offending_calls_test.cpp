// SPDX-License-Identifier: Apache-2.0
// offending_calls_test.cpp - calls without a status, given what gmem never handed out or has taken back already: they
// end the process, with words. Each in a process of its own.
#include <vector>

#include "stress/offences.h"

namespace gm::test {
namespace {

struct offending_call {
  const char* name;
  const char* words;
  void (*make)(std::uint8_t* memory);
};

int elsewhere = 0;

constexpr offending_call calls[] = {
    {"freed_twice", "gm_free.*freed twice",
     [](std::uint8_t* memory) {
       gm_free(memory);
       gm_free(memory);
     }},
    {"foreign_pointer_freed", "gm_free", [](std::uint8_t*) { gm_free(&elsewhere); }},
    {"middle_of_an_allocation_freed", "gm_free", [](std::uint8_t* memory) { gm_free(memory + page_size); }},
    {"foreign_pointer_resized", "gm_realloc", [](std::uint8_t*) { (void)gm_realloc(&elsewhere, 100); }},
    {"freed_after_shutdown", "gm_free",
     [](std::uint8_t* memory) {
       gm_free(memory);
       if (gm_shutdown() != GM_OK) std::_Exit(97);
       gm_free(memory);
     }},
};
std::ostream& operator<<(std::ostream& out, const offending_call& c) { return out << c.name; }

class offending_call_death_test : public testing::TestWithParam<std::tuple<offending_call, const char*>> {
 protected:
  void SetUp() override { prepare_death_test(); }
};

TEST_P(offending_call_death_test, aborts_with_words) {
  const auto& [call, fault_mode] = GetParam();
  EXPECT_EXIT(
      {
        start_to_die(offences_flavour(fault_mode));
        call.make(static_cast<std::uint8_t*>(gm_calloc(block_size, 1)));
      },
      testing::KilledBySignal(SIGABRT), call.words);
}

INSTANTIATE_TEST_SUITE_P(stress, offending_call_death_test,
                         testing::Combine(testing::ValuesIn(calls), testing::Values("thread", "inline")),
                         [](const auto& each) {
                           return std::string(std::get<0>(each.param).name) + "_" + std::get<1>(each.param);
                         });

}  // namespace
}  // namespace gm::test
