// SPDX-License-Identifier: Apache-2.0
// main.cpp - gmem beside the ways in which GPU programs handle their data without it: every row is the same work in
// each way, in one run, and the table says how much faster or slower gmem is.
#include <cstdio>
#include <string>

#include "gmem/gmem.h"
#include "program.h"
#include "rows.hpp"
#include "way.hpp"

namespace gm::bench {
namespace {

// What is asked of one of gmem's ways, against another: at most `limit` times its time.
struct gpu_goal {
  const char* row;  // "": every row
  way against;
  double limit;
  way ours = way::declared;
};
constexpr gpu_goal goals[] = {
    {"gpu/to_device", way::copies, 1.1},
    {"gpu/read_back", way::copies, 1.1},
    {"gpu/stream_2x", way::copies, 1.1},
    {"gpu/stream_4x", way::copies, 1.1},
    {"gpu/resident", way::copies, 1.01},
    {"gpu/to_device", way::faults, 1.0 / 3},
    {"gpu/read_back", way::faults, 1.0 / 3},
    {"gpu/to_device", way::copies, 1 / 0.8, way::on_demand},
    {"gpu/to_device", way::faults, 1.0 / 3, way::on_demand},
    {"gpu/stream_2x", way::copies, 1 / 0.85, way::on_demand},
    {"gpu/stream_4x", way::copies, 1 / 0.85, way::on_demand},
    {"", way::faults, 1.0},
    {"", way::hints, 1.0},
};

double ms_of(const reporter::counters& kept, way which) {
  return counter_of(kept, std::string(name_of(which)) + "_ns") / 1e6;
}

std::string cell(double ms) {
  if (ms <= 0) return " - |";
  char text[32];
  std::snprintf(text, sizeof text, " %.4g |", ms);
  return text;
}

std::string goal_lines(const reporter& reported) {
  std::string result;
  for (const gpu_row& each : gpu_rows) {
    const reporter::counters* kept = reported.medians_of(each.name);
    if (kept == nullptr || kept->empty()) continue;
    for (const gpu_goal& wanted : goals) {
      if (wanted.row[0] != '\0' && std::string(wanted.row) != each.name) continue;
      const double other = ms_of(*kept, wanted.against);
      const double ours = ms_of(*kept, wanted.ours);
      if (other <= 0 || ours <= 0) continue;
      const double ratio = ours / other;
      char text[160];
      std::snprintf(text, sizeof text, "- %s: %s %.3f of %s, goal <= %.3g: %s\n", each.name, name_of(wanted.ours),
                    ratio, name_of(wanted.against), wanted.limit, ratio <= wanted.limit ? "met" : "not met");
      result += text;
    }
  }
  return result;
}

void print_gpu_table(const reporter& reported, const std::string& path) {
  std::string table = describe(reported.where()) + "\n\nMilliseconds, medians; lower is better.\n\n| row |";
  for (const way each : all_ways) table += std::string(" ") + name_of(each) + " |";
  table += "\n|---|";
  for (std::size_t i = 0; i < all_ways.size(); ++i) table += "---|";
  table += "\n";
  for (const gpu_row& each : gpu_rows) {
    const reporter::counters* kept = reported.medians_of(each.name);
    if (kept == nullptr) continue;
    table += std::string("| `") + each.name + "` " + (kept->empty() ? "FAILED" : each.work) + " |";
    for (const way which : all_ways) table += cell(ms_of(*kept, which));
    table += "\n";
  }
  print_and_save(table + "\n" + goal_lines(reported), path);
}

}  // namespace
}  // namespace gm::bench

int main(int argc, char** argv) {
  return gm::bench::run_program({"gmem_gpu_bench", gm::bench::add_gpu_rows, gm::bench::print_gpu_table}, argc, argv);
}
