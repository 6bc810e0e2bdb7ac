// SPDX-License-Identifier: Apache-2.0
// main.cpp - gmem's benches: runs the rows of goals.h, and ends with a table of what they reached.
#include "goal_table.h"
#include "program.h"

namespace {

void add_cases(gm::bench::case_list& all) {
  gm::bench::add_cpu_fault(all);
  gm::bench::add_prefetch(all);
  gm::bench::add_scope(all);
  gm::bench::add_kernel(all);
  gm::bench::add_table(all);
  gm::bench::add_demand(all);
  gm::bench::add_oversubscribe(all);
  gm::bench::add_oversubscribed_graphs(all);
  gm::bench::add_malloc(all);
}

}  // namespace

int main(int argc, char** argv) {
  return gm::bench::run_program({"gmem_bench", add_cases, gm::bench::print_goal_table}, argc, argv);
}
