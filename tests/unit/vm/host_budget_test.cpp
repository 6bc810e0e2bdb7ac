// SPDX-License-Identifier: Apache-2.0
#include "vm/host_budget.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace gm {
namespace {

TEST(host_budget, charges_up_to_its_limit_and_not_a_page_more) {
  host_budget budget;
  budget.create(10);
  EXPECT_TRUE(budget.charge(9));
  EXPECT_FALSE(budget.charge(2)) << "all or none";
  EXPECT_EQ(budget.used(), 9U);
  EXPECT_TRUE(budget.charge(1));
  EXPECT_FALSE(budget.charge(1));
  EXPECT_TRUE(budget.charge(0));
  budget.uncharge(10);
  EXPECT_EQ(budget.used(), 0U);
  EXPECT_EQ(budget.limit(), 10U);
}

TEST(host_budget, threads_never_pass_it_together) {
  host_budget budget;
  budget.create(7);
  std::vector<std::thread> running;
  for (int t = 0; t < 4; ++t)
    running.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) {
        if (!budget.charge(3)) continue;
        EXPECT_LE(budget.used(), 7U);
        budget.uncharge(3);
      }
    });
  for (std::thread& t : running) t.join();
  EXPECT_EQ(budget.used(), 0U);
}

}  // namespace
}  // namespace gm
