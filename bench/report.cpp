// SPDX-License-Identifier: Apache-2.0
#include "report.h"

#include <cstdio>
#include <utility>

#include "measure.h"

namespace gm::bench {
namespace {

void give_plain_name(benchmark::BenchmarkReporter::Run& run) {
  run.run_name.iterations.clear();
  run.run_name.repetitions.clear();
  run.run_name.time_type.clear();
}

void take_ratio_of_medians(benchmark::BenchmarkReporter::Run& run) {
  if (run.aggregate_name != "median") return;
  const auto floor = run.counters.find("floor_ns");
  if (floor == run.counters.end()) return;
  run.counters["ratio"] = ratio_of(run.run_name.function_name, run.counters["ours_ns"].value, floor->second.value);
}

double counter_of(const std::map<std::string, double>& counters, std::string_view name) {
  const auto found = counters.find(std::string(name));
  return found == counters.end() ? 0 : found->second;
}

std::string figure_of(const row& which, const std::map<std::string, double>& counters) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4g %s", counter_of(counters, which.counter) / which.unit_size, which.unit);
  return text;
}

}  // namespace

reporter::reporter(bench::machine machine, const std::string& json_path, std::size_t count)
    : machine_(std::move(machine)), count_(count) {
  if (json_path.empty()) return;
  json_file_.open(json_path, std::ios::trunc);
  if (!json_file_) throw bench_error("cannot write " + json_path + ": name a file in a folder that exists");
  json_.SetOutputStream(&json_file_);
  json_.SetErrorStream(&GetErrorStream());
  writes_json_ = true;
}

bool reporter::ReportContext(const Context& context) { return !writes_json_ || json_.ReportContext(context); }

void reporter::ReportRuns(const std::vector<Run>& report) {
  std::vector<Run> runs = report;
  for (Run& run : runs) {
    give_plain_name(run);
    take_ratio_of_medians(run);
    keep(run);
  }
  if (writes_json_) json_.ReportRuns(runs);
}

void reporter::keep(const Run& run) {
  const std::string& name = run.run_name.function_name;
  if (run.error_occurred) {
    if (medians_.find(name) == medians_.end())
      std::printf("  %-22s FAILED: %s\n", name.c_str(), run.error_message.c_str());
    medians_[name] = {};
    failed_ = true;
  }
  if (run.aggregate_name != "median") return;
  counters& kept = medians_[name];
  for (const auto& [counter, value] : run.counters) kept[counter] = value.value;
  const row* known = find_row(name);
  if (known != nullptr) std::printf("  %-22s %s\n", name.c_str(), figure_of(*known, kept).c_str());
  std::fflush(stdout);
}

void reporter::Finalize() {
  if (!writes_json_) return;
  json_.Finalize();
  json_file_.close();
  if (!json_file_) {
    std::printf("  the JSON file could not be written completely: is there room?\n");
    failed_ = true;
  }
}

void reporter::print_table() const {
  std::printf("\n%s, %zu CPUs, %.1f GiB, %s\n\n", machine_.cpu.c_str(), machine_.cpus,
              static_cast<double>(machine_.memory_bytes) / (1u << 30), machine_.kernel.c_str());
  std::printf("%-22s %24s %8s %12s  %s\n", "name", "figure", "ratio", "goal", "met");
  for (const row& each : rows) print_row(each);
}

void reporter::print_row(const row& which) const {
  const auto found = medians_.find(which.name);
  if (found == medians_.end()) return;  // filtered out
  const counters& kept = found->second;
  const std::string name(which.name);
  if (kept.empty()) {
    std::printf("%-22s %24s %8s %12s  %s\n", name.c_str(), "-", "-", which.goal_text, "FAILED");
    return;
  }
  char ratio[16] = "-";
  if (kept.contains("ratio")) std::snprintf(ratio, sizeof ratio, "%.3f", counter_of(kept, "ratio"));
  std::printf("%-22s %24s %8s %12s  %s\n", name.c_str(), figure_of(which, kept).c_str(), ratio, which.goal_text,
              verdict(which, kept));
}

const char* reporter::verdict(const row& which, const counters& kept) const {
  const char* const words[] = {"not met", "met"};
  switch (which.goal) {
    case goal::ratio_at_most:
      return words[counter_of(kept, "ratio") <= which.limit];
    case goal::figure_at_most:
      return words[counter_of(kept, which.counter) / which.unit_size <= which.limit];
    case goal::growth: {
      // The row before has half as many threads. Beyond the cores nothing is asked.
      if (which.limit < 2 || which.limit > static_cast<double>(machine_.cpus)) return "-";
      const auto half = medians_.find("cpu_fault/threads:" + std::to_string(static_cast<int>(which.limit) / 2));
      if (half == medians_.end() || half->second.empty()) return words[counter_of(kept, "ratio") > 1];
      return words[counter_of(kept, "ratio") > counter_of(half->second, "ratio")];
    }
  }
  return "-";
}

}  // namespace gm::bench
