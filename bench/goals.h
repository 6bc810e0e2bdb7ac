// SPDX-License-Identifier: Apache-2.0
// goals.h - every row of the table: which counter is its figure, in what unit, and what it should reach.
//
// A goal that is missed is reported and never changes the exit status: a bench does not gate correctness.
#pragma once

#include <string_view>

namespace gm::bench {

enum class goal {
  ratio_at_most,   // of time, gmem's over the floor's
  figure_at_most,  // in the row's unit
  growth,          // the rate over one thread's is above that of the row before, while there are cores for the threads
};

struct row {
  std::string_view name;     // of the benchmark
  std::string_view counter;  // the counter that is the figure
  double unit_size;          // the counter's value / unit_size = the figure
  const char* unit;
  bench::goal goal;
  double limit;  // growth: the number of threads
  const char* goal_text;
};

inline constexpr row rows[] = {
    {"cpu_fault/page", "ours_ns", 1e3, "us a fault", goal::ratio_at_most, 1.3, "<= 1.3"},
    {"cpu_fault/read_back", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1.25, "<= 1.25"},
    {"cpu_fault/threads:1", "faults_per_second", 1e3, "K faults/s", goal::growth, 1, "grows"},
    {"cpu_fault/threads:2", "faults_per_second", 1e3, "K faults/s", goal::growth, 2, "grows"},
    {"cpu_fault/threads:4", "faults_per_second", 1e3, "K faults/s", goal::growth, 4, "grows"},
    {"cpu_fault/threads:8", "faults_per_second", 1e3, "K faults/s", goal::growth, 8, "grows"},
    {"prefetch/to_device", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1.15, "<= 1.15"},
    {"prefetch/to_host", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1.15, "<= 1.15"},
    {"scope/resident", "ours_ns", 1, "ns a block", goal::figure_at_most, 100, "<= 100 ns"},
    {"scope/duplicate", "bytes_third_time", 1, "bytes moved", goal::figure_at_most, 0, "0 bytes"},
    {"kernel/resident", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1.02, "<= 1.02"},
    {"table/query", "ours_ns", 1, "ns a query", goal::figure_at_most, 30, "<= 30 ns"},
    {"table/metadata", "bytes_per_gib", 1024, "KiB a GiB", goal::figure_at_most, 128, "<= 128 KiB"},
    {"demand/fault_latency", "ours_ns", 1e3, "us a page", goal::ratio_at_most, 2, "<= 2"},
    {"demand/throughput", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1 / 0.8, "<= 1.25"},
    {"view/span_resident", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1 / 0.95, "<= 1.053"},
    {"view/element_resident", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1 / 0.6, "<= 1.667"},
    {"oversubscribe/stream_0.9x", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1 / 0.85, "<= 1.176"},
    {"oversubscribe/stream_1.0x", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1 / 0.85, "<= 1.176"},
    {"oversubscribe/stream_1.1x", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1 / 0.85, "<= 1.176"},
    {"oversubscribe/stream_1.5x", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1 / 0.85, "<= 1.176"},
    {"oversubscribe/stream_2x", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1 / 0.85, "<= 1.176"},
    {"oversubscribe/stream_4x", "bytes_per_second", 1e9, "GB/s", goal::ratio_at_most, 1 / 0.85, "<= 1.176"},
    {"oversubscribe/random", "ours_ns", 1e3, "us a read", goal::ratio_at_most, 1 / 0.8, "<= 1.25"},
    {"oversubscribe/bfs", "ours_ns", 1e6, "ms", goal::ratio_at_most, 1.5, "<= 1.5"},
    {"oversubscribe/pagerank", "ours_ns", 1e6, "ms", goal::ratio_at_most, 1.5, "<= 1.5"},
    {"evict/clean", "bytes_written_back", 1, "bytes home", goal::figure_at_most, 0, "0 bytes"},
    {"malloc/pair:16/threads:1", "ours_ns", 1, "ns a pair", goal::ratio_at_most, 1.3, "<= 1.3"},
    {"malloc/pair:16/threads:2", "ours_ns", 1, "ns a pair", goal::ratio_at_most, 1.3, "<= 1.3"},
    {"malloc/pair:256/threads:1", "ours_ns", 1, "ns a pair", goal::ratio_at_most, 1.3, "<= 1.3"},
    {"malloc/pair:256/threads:2", "ours_ns", 1, "ns a pair", goal::ratio_at_most, 1.3, "<= 1.3"},
    {"malloc/pair:4096/threads:1", "ours_ns", 1, "ns a pair", goal::ratio_at_most, 1.3, "<= 1.3"},
    {"malloc/pair:4096/threads:2", "ours_ns", 1, "ns a pair", goal::ratio_at_most, 1.3, "<= 1.3"},
    {"malloc/pair:32768/threads:1", "ours_ns", 1, "ns a pair", goal::ratio_at_most, 1.3, "<= 1.3"},
    {"malloc/pair:32768/threads:2", "ours_ns", 1, "ns a pair", goal::ratio_at_most, 1.3, "<= 1.3"},
    {"malloc/churn/threads:1", "ours_ns", 1, "ns a pair", goal::ratio_at_most, 1.3, "<= 1.3"},
    {"malloc/churn/threads:2", "ours_ns", 1, "ns a pair", goal::ratio_at_most, 1.3, "<= 1.3"},
    {"malloc/page_overhead", "percent", 1, "%", goal::figure_at_most, 15, "<= 15 %"},
};

constexpr const row* find_row(std::string_view name) {
  for (const row& each : rows) {
    if (each.name == name) return &each;
  }
  return nullptr;
}

// gmem over the floor; of rates (growth) the other way round, so that twice as fast is 2.
constexpr double ratio_of(std::string_view name, double ours_ns, double floor_ns) {
  const row* found = find_row(name);
  return found != nullptr && found->goal == goal::growth ? floor_ns / ours_ns : ours_ns / floor_ns;
}

}  // namespace gm::bench
