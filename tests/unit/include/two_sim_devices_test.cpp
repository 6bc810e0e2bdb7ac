// SPDX-License-Identifier: Apache-2.0
// What all tests of the C++ headers run on: two simulated devices. At the end the runtime must stop, which it refuses
// while anything lives: no test, and nothing in the headers, may leave an allocation, a stream or a scope behind.
#include <gtest/gtest.h>

#include <cstdlib>
#include <gmem/gmem.hpp>
#include <utility>

namespace {

class two_sim_devices : public testing::Environment {
 public:
  void SetUp() override {
    testing::FLAGS_gtest_death_test_style =
        "threadsafe";  // a fork of this process would not have the runtime's threads
    // Variables, because they win over options: the rest of the environment may vary what the tests run on.
    for (const auto& [name, value] : {std::pair("GM_BACKEND", "sim"), std::pair("GM_SIM_DEVICES", "2"),
                                      std::pair("GM_SIM_MEMORY", "64M"), std::pair("GM_ARENA_SIZE", "64G")}) {
      ASSERT_EQ(setenv(name, value, 1), 0);
    }
    gm::init(gm::default_options());
    ASSERT_EQ(gm::node_count(), 3);
  }

  void TearDown() override { EXPECT_NO_THROW(gm::shutdown()); }
};

[[maybe_unused]] testing::Environment* const environment = testing::AddGlobalTestEnvironment(new two_sim_devices);

}  // namespace
