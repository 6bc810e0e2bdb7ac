// SPDX-License-Identifier: Apache-2.0
// program.h - a bench program: options, running the chosen rows, and the table at the end. main() is one call.
#pragma once

#include "measure.h"
#include "report.h"

namespace gm::bench {

struct bench_program {
  const char* name;
  void (*add_cases)(case_list&);
  // Prints the table at the end, from what the reporter has kept; also into the file, where one is named.
  void (*print_table)(const reporter&, const std::string& table_path);
};

// The exit status: 0 when every row ran, whether or not it met its goal; 1 when one failed; 2 for a wrong option.
int run_program(const bench_program&, int argc, char** argv);

}  // namespace gm::bench
