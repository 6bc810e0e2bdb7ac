// SPDX-License-Identifier: Apache-2.0
#include "result_table.h"

#include <iomanip>
#include <iostream>

namespace sample {

namespace {

constexpr int label_width = 26, number_width = 12;

template <class Value>
void print_line(const std::string& label, const Value& value, const char* unit = "") {
  std::cout << "  " << std::left << std::setw(label_width) << label << std::right << std::setw(number_width) << value
            << unit << '\n';
}

double mib(std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

measurement::measurement() {
  gm::reset_stats();
  started_ = std::chrono::steady_clock::now();
}

void measurement::stop(gm::stream& stream) {
  stream.synchronize();
  seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  moved_ = gm::stats().node[stream.node()];
}

void print_table(const edge_list& list, std::size_t tiles, const std::string& work, std::size_t passes,
                 const measurement& measured, bool equals_the_cpu) {
  std::cout << std::fixed;
  print_line(list.rows == list.columns ? "nodes" : "rows", list.rows);
  if (list.rows != list.columns) print_line("columns", list.columns);
  print_line("edges", list.edges.size());
  if (tiles != 0) {
    print_line("tiles", tiles);
  } else {
    print_line("reached", "by views");
  }
  print_line(work, passes);
  std::cout << std::setprecision(3);
  print_line("time", measured.seconds(), " s");
  std::cout << std::setprecision(2);
  print_line("to the device", mib(measured.moved().bytes_in), " MiB");
  if (tiles == 0) print_line("faults of kernels", measured.moved().faults);
  print_line("home", mib(measured.moved().bytes_out), " MiB");
  print_line("the CPU's result equals", equals_the_cpu ? "yes" : "NO");
}

}  // namespace sample
