// SPDX-License-Identifier: Apache-2.0
// measure.h - one row of the table as code: what is set up once, and what is timed in every repetition.
//
// A measurement is made before its row's first repetition, runs once unrecorded to warm up, then once a repetition,
// and is destroyed behind the last. Where the row has a floor, run() times the floor and gmem one after the other,
// in turning order, so that a slow spell of the machine falls on both. It throws bench_error when something fails or
// a checksum is wrong: the row is reported as failed, and the program's exit status says so.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace gm::bench {

class bench_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct sample {
  double ours_ns = 0;   // a unit of the row's work: a fault, a block, a query, or all of it
  double floor_ns = 0;  // the same unit; 0 where the row has no floor
  std::map<std::string, double> counters = {};
};

class measurement {
 public:
  measurement() = default;
  measurement(const measurement&) = delete;
  measurement& operator=(const measurement&) = delete;
  virtual ~measurement() = default;

  // floor_first turns with every repetition.
  virtual sample run(bool floor_first) = 0;
};

struct bench_case {
  std::string name;
  int repetitions;
  std::function<std::unique_ptr<measurement>()> make;
};

using case_list = std::vector<bench_case>;

// One for each file of rows.
void add_cpu_fault(case_list&);
void add_prefetch(case_list&);
void add_scope(case_list&);
void add_kernel(case_list&);
void add_table(case_list&);
void add_demand(case_list&);
void add_oversubscribe(case_list&);
void add_oversubscribed_graphs(case_list&);
void add_malloc(case_list&);

// Registers the cases with Google Benchmark.
void register_cases(const case_list&);
// Destroys the measurement of the last row. False when note_unclean_end was called for it or for one before.
bool finish_cases();
// For destructors, which cannot throw: what a measurement has set up could not be taken down.
void note_unclean_end(const std::string& what);

// Time that the body took, in ns.
template <typename Body>
double time_ns(Body&& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

// Runs both, the floor first or second, and gives {ours, floor} in ns.
template <typename Ours, typename Floor>
sample time_both(bool floor_first, Ours&& ours, Floor&& floor) {
  sample result;
  if (floor_first) result.floor_ns = floor();
  result.ours_ns = ours();
  if (!floor_first) result.floor_ns = floor();
  return result;
}

void expect(bool holds, const std::string& what);

}  // namespace gm::bench
