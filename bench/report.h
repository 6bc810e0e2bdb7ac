// SPDX-License-Identifier: Apache-2.0
// report.h - progress while the rows run, Google Benchmark's JSON, and the table at the end.
//
// The reporter stands between Google Benchmark and its own JSON writer. It keeps the medians, and sets two things
// right on the way: names are the table's (without "/iterations:1/repeats:N/manual_time"), and the counter ratio of
// the median is the ratio of the medians, not the median of the ratios.
#pragma once

#include <benchmark/benchmark.h>

#include <fstream>
#include <map>
#include <string>
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

  void print_table() const;
  // Every row that began has ended with a figure.
  bool all_ran() const { return !failed_ && medians_.size() == count_; }

 private:
  using counters = std::map<std::string, double>;

  void keep(const Run&);
  void print_row(const row&) const;
  const char* verdict(const row&, const counters&) const;

  bench::machine machine_;
  std::ofstream json_file_;
  benchmark::JSONReporter json_;
  bool writes_json_ = false;
  bool failed_ = false;
  std::size_t count_;
  std::map<std::string, counters, std::less<>> medians_;
};

}  // namespace gm::bench
