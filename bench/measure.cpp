// SPDX-License-Identifier: Apache-2.0
#include "measure.h"

#include <benchmark/benchmark.h>

#include <cstdio>

#include "goals.h"

namespace gm::bench {
namespace {

// The measurement that is set up now: only one at a time, so that rows do not share memory, handlers or CPUs.
struct running_case {
  std::string name;
  std::unique_ptr<measurement> what;
  bool floor_first = false;
  bool failed = false;
};

running_case current;
bool ended_cleanly = true;

void end_current() {
  current.what.reset();
  current = {};
}

void begin_case(const bench_case& next) {
  end_current();
  current.name = next.name;
  current.what = next.make();
  static_cast<void>(current.what->run(true));
}

void record(benchmark::State& state, const sample& measured) {
  state.SetIterationTime(measured.ours_ns * 1e-9);
  for (const auto& [name, value] : measured.counters) state.counters[name] = value;
  state.counters["ours_ns"] = measured.ours_ns;
  if (measured.floor_ns <= 0) return;
  state.counters["floor_ns"] = measured.floor_ns;
  state.counters["ratio"] = ratio_of(current.name, measured.ours_ns, measured.floor_ns);
}

void run_case(benchmark::State& state, const bench_case& which) {
  for (auto _ : state) {
    try {
      if (current.name != which.name) begin_case(which);
      if (current.failed) throw bench_error("failed in an earlier repetition");
      current.floor_first = !current.floor_first;
      record(state, current.what->run(current.floor_first));
    } catch (const std::exception& error) {
      current.failed = true;
      state.SkipWithError(error.what());
      break;
    }
  }
}

}  // namespace

void register_cases(const case_list& cases) {
  for (const bench_case& each : cases) {
    benchmark::RegisterBenchmark(each.name.c_str(), [each](benchmark::State& state) { run_case(state, each); })
        ->UseManualTime()
        ->Iterations(1)
        ->Repetitions(each.repetitions);
  }
}

bool finish_cases() {
  end_current();
  return ended_cleanly;
}

void note_unclean_end(const std::string& what) {
  std::fprintf(stderr, "bench: %s: %s\n", current.name.c_str(), what.c_str());
  ended_cleanly = false;
}

void expect(bool holds, const std::string& what) {
  if (!holds) throw bench_error(what);
}

}  // namespace gm::bench
