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
      std::printf("  %-26s FAILED: %s\n", name.c_str(), run.error_message.c_str());
    medians_[name] = {};
    failed_ = true;
  }
  if (run.aggregate_name != "median") return;
  counters& kept = medians_[name];
  for (const auto& [counter, value] : run.counters) kept[counter] = value.value;
  const row* known = find_row(name);
  const std::string figure = known != nullptr ? figure_of(*known, kept) : std::to_string(kept["ours_ns"] / 1e6) + " ms";
  std::printf("  %-26s %s\n", name.c_str(), figure.c_str());
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

const reporter::counters* reporter::medians_of(std::string_view name) const {
  const auto found = medians_.find(name);
  return found != medians_.end() ? &found->second : nullptr;
}

double counter_of(const reporter::counters& counters, std::string_view name) {
  const auto found = counters.find(std::string(name));
  return found == counters.end() ? 0 : found->second;
}

std::string figure_of(const row& which, const reporter::counters& counters) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4g %s", counter_of(counters, which.counter) / which.unit_size, which.unit);
  return text;
}

std::string describe(const machine& where) {
  char text[256];
  std::snprintf(text, sizeof text, "%s, %zu CPUs, %.1f GiB, %s", where.cpu.c_str(), where.cpus,
                static_cast<double>(where.memory_bytes) / (1u << 30), where.kernel.c_str());
  return text;
}

void print_and_save(const std::string& table, const std::string& path) {
  std::printf("\n%s", table.c_str());
  if (path.empty()) return;
  std::ofstream file(path, std::ios::trunc);
  file << table;
  file.close();
  if (!file) throw bench_error("cannot write " + path + ": name a file in a folder that exists and has room");
}

}  // namespace gm::bench
