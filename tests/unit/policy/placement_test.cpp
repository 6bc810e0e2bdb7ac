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

constexpr std::uint64_t bit(unsigned node) { return std::uint64_t{1} << node; }

TEST(placement, readers_get_copies_and_writers_have_the_page_alone) {
  EXPECT_EQ(place_page({.node = 1, .valid_nodes = bit(0)}), (placement_answer{1, true}));
  EXPECT_EQ(place_page({.node = 1, .write = true, .valid_nodes = bit(0) | bit(2)}), (placement_answer{1, false}));
  EXPECT_EQ(place_page({.node = 2}), (placement_answer{2, false})) << "of what nobody has there is one copy";
  EXPECT_EQ(place_page({.told = {.preferred_node = 0}, .node = 1, .write = true, .valid_nodes = bit(0)}),
            (placement_answer{1, false}))
      << "it cannot be reached elsewhere";
}

TEST(placement, what_can_be_reached_stays_where_the_program_prefers) {
  placement_question q{.told = {.preferred_node = 0}, .node = 1, .remote_possible = true, .valid_nodes = bit(0)};
  for (const bool write : {false, true}) {
    q.write = write;
    q.valid_nodes = bit(0);
    EXPECT_EQ(place_page(q), (placement_answer{0, false}));
    q.valid_nodes = 0;
    EXPECT_EQ(place_page(q), (placement_answer{0, false})) << "and is made there";
    q.valid_nodes = bit(2);
    EXPECT_EQ(place_page(q), (placement_answer{1, !write})) << "it is not there";
  }
  q = {.told = {.read_mostly = true, .preferred_node = 0}, .node = 1, .remote_possible = true, .valid_nodes = bit(0)};
  EXPECT_EQ(place_page(q), (placement_answer{1, true})) << "mostly read: copied";
  q.write = true;
  EXPECT_EQ(place_page(q), (placement_answer{0, false}));
}

TEST(placement, what_is_accessed_by_a_node_is_reached_wherever_it_is) {
  placement_question q{.told = {.accessed_by = bit(1)}, .node = 1, .remote_possible = true, .valid_nodes = bit(2)};
  EXPECT_EQ(place_page(q), (placement_answer{2, false}));
  q.valid_nodes = 0;
  EXPECT_EQ(place_page(q), (placement_answer{1, false}));
  q = {.told = {.accessed_by = bit(2)}, .node = 1, .remote_possible = true, .valid_nodes = bit(2)};
  EXPECT_EQ(place_page(q), (placement_answer{1, true})) << "that is another node";
}

}  // namespace
}  // namespace gm
