// SPDX-License-Identifier: Apache-2.0
#include "policy/placement.h"

#include <gtest/gtest.h>

namespace gm {
namespace {

TEST(placement, a_prefetch_keeps_the_cpus_mapping_for_readers_only) {
  EXPECT_FALSE(prefetch_keeps_cpu_mapping({}));
  EXPECT_TRUE(prefetch_keeps_cpu_mapping({.read_mostly = true}));
  EXPECT_TRUE(prefetch_keeps_cpu_mapping({.accessed_by = 1}));
  EXPECT_FALSE(prefetch_keeps_cpu_mapping({.accessed_by = 2})) << "accessed by a device, not by the host";
  EXPECT_FALSE(prefetch_keeps_cpu_mapping({.cold = true, .pattern = access_pattern::sequential}));
}

TEST(placement, whole_blocks_for_those_who_will_want_them) {
  EXPECT_FALSE(fault_takes_block({}));
  EXPECT_TRUE(fault_takes_block({.pattern = access_pattern::sequential}));
  EXPECT_TRUE(fault_takes_block({.accessed_by = 1}));
  EXPECT_FALSE(fault_takes_block({.accessed_by = 2}));
  EXPECT_FALSE(fault_takes_block({.pattern = access_pattern::random}));
  EXPECT_FALSE(fault_takes_block({.pattern = access_pattern::random, .accessed_by = 1})) << "random wins";
}

}  // namespace
}  // namespace gm
