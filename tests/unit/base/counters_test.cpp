// SPDX-License-Identifier: Apache-2.0
#include "base/counters.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace gm {
namespace {

TEST(counters, threads_lose_no_count) {
  counter c;
  std::vector<std::thread> running;
  for (int t = 0; t < 4; ++t)
    running.emplace_back([&] {
      for (int i = 0; i < 10000; ++i) c.add(3);
    });
  for (std::thread& t : running) t.join();
  EXPECT_EQ(c.get(), 120000U);
  c.subtract(1);
  EXPECT_EQ(c.get(), 119999U);
}

TEST(counters, reset_clears_what_is_counted_and_keeps_levels) {
  counters all;
  all.metadata_bytes.add(77);
  for (node_counters& n : all.node)
    for (counter* c : {&n.faults, &n.pages_in, &n.pages_out, &n.evictions, &n.writebacks, &n.writebacks_skipped})
      c->add();
  for (counter* c : {&all.spurious_faults, &all.parked_faults, &all.fault_time_ns}) c->add();
  all.reset();
  for (const node_counters& n : all.node) {
    EXPECT_EQ(n.faults.get() + n.pages_in.get() + n.pages_out.get(), 0U);
    EXPECT_EQ(n.evictions.get() + n.writebacks.get() + n.writebacks_skipped.get(), 0U);
  }
  EXPECT_EQ(all.spurious_faults.get() + all.parked_faults.get() + all.fault_time_ns.get(), 0U);
  EXPECT_EQ(all.metadata_bytes.get(), 77U);
}

}  // namespace
}  // namespace gm
