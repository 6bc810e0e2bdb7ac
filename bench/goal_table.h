// SPDX-License-Identifier: Apache-2.0
// goal_table.h - the table of goals.h: name, figure, ratio, goal, met or not.
#pragma once

#include <string>

#include "report.h"

namespace gm::bench {

// Also into the file, where a path is given.
void print_goal_table(const reporter&, const std::string& table_path);

}  // namespace gm::bench
