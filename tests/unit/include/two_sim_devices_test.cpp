// SPDX-License-Identifier: Apache-2.0
// What all tests of the C++ headers run on: two simulated devices. At the end the runtime must stop, which it refuses
// while anything lives: no test, and nothing in the headers, may leave an allocation, a stream or a scope behind.
#include <gtest/gtest.h>

#include <gmem/gmem.hpp>

namespace {

class two_sim_devices : public testing::Environment {
 public:
  void SetUp() override {
    testing::FLAGS_gtest_death_test_style =
        "threadsafe";  // a fork of this process would not have the runtime's threads
    gm_options options = gm::default_options();
    options.backend = "sim";
    options.sim_devices = 2;
    options.sim_memory_bytes = 64 << 20;
    options.arena_size_bytes = std::uint64_t{1} << 36;
    gm::init(options);
    ASSERT_EQ(gm::node_count(), 3);
  }

  void TearDown() override { EXPECT_NO_THROW(gm::shutdown()); }
};

[[maybe_unused]] testing::Environment* const environment = testing::AddGlobalTestEnvironment(new two_sim_devices);

}  // namespace
