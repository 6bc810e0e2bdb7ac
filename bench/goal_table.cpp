// SPDX-License-Identifier: Apache-2.0
#include "goal_table.h"

#include <cstdio>

#include "goals.h"
#include "measure.h"

namespace gm::bench {
namespace {

using counters = reporter::counters;

const char* verdict(const reporter& reported, const row& which, const counters& kept) {
  const char* const words[] = {"not met", "met"};
  switch (which.goal) {
    case goal::ratio_at_most:
      return words[counter_of(kept, "ratio") <= which.limit];
    case goal::figure_at_most:
      return words[counter_of(kept, which.counter) / which.unit_size <= which.limit];
    case goal::growth: {
      // The row before has half as many threads. Beyond the cores nothing is asked.
      if (which.limit < 2 || which.limit > static_cast<double>(reported.where().cpus)) return "-";
      const counters* half =
          reported.medians_of("cpu_fault/threads:" + std::to_string(static_cast<int>(which.limit) / 2));
      const double before = half == nullptr || half->empty() ? 1 : counter_of(*half, "ratio");
      return words[counter_of(kept, "ratio") > before];
    }
  }
  return "-";
}

std::string line_of(const reporter& reported, const row& which, const counters& kept) {
  char text[160];
  const std::string name(which.name);
  if (kept.empty()) {
    std::snprintf(text, sizeof text, "%-26s %24s %8s %12s  %s\n", name.c_str(), "-", "-", which.goal_text, "FAILED");
    return text;
  }
  char ratio[16] = "-";
  if (kept.contains("ratio")) std::snprintf(ratio, sizeof ratio, "%.3f", counter_of(kept, "ratio"));
  std::snprintf(text, sizeof text, "%-26s %24s %8s %12s  %s\n", name.c_str(), figure_of(which, kept).c_str(), ratio,
                which.goal_text, verdict(reported, which, kept));
  return text;
}

}  // namespace

void print_goal_table(const reporter& reported, const std::string& table_path) {
  char heading[160];
  std::snprintf(heading, sizeof heading, "%-26s %24s %8s %12s  %s\n", "name", "figure", "ratio", "goal", "met");
  std::string table = describe(reported.where()) + "\n\n" + heading;
  for (const row& each : rows) {
    const counters* kept = reported.medians_of(each.name);
    if (kept != nullptr) table += line_of(reported, each, *kept);  // others were filtered out
  }
  print_and_save(table, table_path);
}

}  // namespace gm::bench
