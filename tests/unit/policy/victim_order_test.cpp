// SPDX-License-Identifier: Apache-2.0
#include "policy/victim_order.h"

#include <gtest/gtest.h>

namespace gm {
namespace {

TEST(victim_order, without_advice_a_block_is_normal) { EXPECT_EQ(victim_class_of({}, 1), victim_class::normal); }

TEST(victim_order, the_preferred_node_keeps_and_others_give_up_first) {
  EXPECT_EQ(victim_class_of({.preferred_node = 1}, 1), victim_class::kept);
  EXPECT_EQ(victim_class_of({.preferred_node = 1}, 2), victim_class::cold);
  EXPECT_EQ(victim_class_of({.preferred_node = 0}, 1), victim_class::cold) << "its place is the host";
}

TEST(victim_order, copies_of_read_mostly_data_go_first) {
  EXPECT_EQ(victim_class_of({.read_mostly = true}, 1), victim_class::cold);
  EXPECT_EQ(victim_class_of({.read_mostly = true, .preferred_node = 1}, 1), victim_class::kept);
}

TEST(victim_order, what_was_passed_or_called_cold_goes_first_wherever_its_place) {
  EXPECT_EQ(victim_class_of({.cold = true}, 1), victim_class::cold);
  EXPECT_EQ(victim_class_of({.cold = true, .preferred_node = 1}, 1), victim_class::cold);
  EXPECT_EQ(victim_class_of({.pattern = access_pattern::sequential}, 1), victim_class::cold);
  EXPECT_EQ(victim_class_of({.pattern = access_pattern::random}, 1), victim_class::normal);
  EXPECT_EQ(victim_class_of({.accessed_by = 2}, 1), victim_class::normal);
}

}  // namespace
}  // namespace gm
