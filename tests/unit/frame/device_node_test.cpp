// SPDX-License-Identifier: Apache-2.0
#include "frame/device_node.h"

#include <gtest/gtest.h>

namespace gm {
namespace {

TEST(device_node, the_same_address_needs_a_window_at_it) {
  device_node d;
  d.info.window_base = 0x1000;
  EXPECT_FALSE(d.windowed());
  EXPECT_FALSE(d.same_address(0x1000)) << "a base without the capability is nothing";
  d.info.capabilities = device::has_window;
  EXPECT_TRUE(d.windowed());
  EXPECT_TRUE(d.same_address(0x1000));
  EXPECT_FALSE(d.same_address(0x2000));
}

TEST(device_node, peers_are_of_one_backend_that_can) {
  const device::backend_table one{};
  const device::backend_table other{};
  device_node a;
  device_node b;
  device_node foreign;
  a.api = b.api = &one;
  foreign.api = &other;
  EXPECT_TRUE(a.reaches(a)) << "always itself";
  EXPECT_FALSE(a.reaches(b)) << "without the capability";
  a.info.capabilities = device::has_peer_copies;
  EXPECT_TRUE(a.reaches(b));
  EXPECT_FALSE(a.reaches(foreign));
}

}  // namespace
}  // namespace gm
