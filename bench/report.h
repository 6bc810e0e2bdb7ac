// SPDX-License-Identifier: Apache-2.0
// report.h - progress while the rows run, Google Benchmark's JSON, and the medians for the table at the end.
//
// The reporter stands between Google Benchmark and its own JSON writer. It keeps the medians, and sets two things
// right on the way: names are the table's (without "/iterations:1/repeats:N/manual_time"), and the counter ratio of
// the median is the ratio of the medians, not the median of the ratios.
#pragma once

#include <benchmark/benchmark.h>

#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "goals.h"
#include "machine.h"

namespace gm::bench {

class reporter : public benchmark::BenchmarkReporter {
 public:
  // json_path empty: no JSON. count: of the rows that will run. Throws bench_error when the file cannot be written.
  reporter(bench::machine machine, const std::string& json_path, std::size_t count);

  bool ReportContext(const Context&) override;
  void ReportRuns(const std::vector<Run>&) override;
  void Finalize() override;

  using counters = std::map<std::string, double>;
  // Of a row that ran: its counters' medians, none where it failed. Null of others.
  const counters* medians_of(std::string_view name) const;
  const bench::machine& where() const { return machine_; }
  // Every row that began has ended with a figure.
  bool all_ran() const { return !failed_ && medians_.size() == count_; }

 private:
  void keep(const Run&);

  bench::machine machine_;
  std::ofstream json_file_;
  benchmark::JSONReporter json_;
  bool writes_json_ = false;
  bool failed_ = false;
  std::size_t count_;
  std::map<std::string, counters, std::less<>> medians_;
};

// 0 where there is none of that name.
double counter_of(const reporter::counters&, std::string_view name);
// The row's figure with its unit.
std::string figure_of(const row&, const reporter::counters&);
// Processor, its number, memory, kernel.
std::string describe(const machine&);
// To stdout, and into the file where a path is given. Throws bench_error when that cannot be written.
void print_and_save(const std::string& table, const std::string& path);

}  // namespace gm::bench
