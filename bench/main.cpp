// SPDX-License-Identifier: Apache-2.0
// main.cpp - gmem's benches: runs the rows of goals.h, and ends with a table of what they reached.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <regex>
#include <string>

#include "machine.h"
#include "measure.h"
#include "report.h"

namespace {

constexpr const char* usage =
    "usage: gmem_bench [--json FILE] [--filter REGEX] [--list] [--help]\n"
    "  --json FILE     leave Google Benchmark's JSON in FILE\n"
    "  --filter REGEX  run the rows whose name contains a match\n"
    "  --list          print the names and stop\n"
    "Exit status: 0 when every row ran, whether or not it met its goal; 1 when one failed; 2 for a wrong option.\n";

struct options {
  std::string json;
  std::string filter;
  bool list = false;
  bool help = false;
};

options parse(int argc, char** argv) {
  options result;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const auto value = [&]() -> std::string {
      if (equals != std::string::npos) return argument.substr(equals + 1);
      if (i + 1 >= argc) throw gm::bench::bench_error(name + " needs a value\n" + usage);
      return argv[++i];
    };
    if (name == "--json") {
      result.json = value();
    } else if (name == "--filter") {
      result.filter = value();
    } else if (argument == "--list") {
      result.list = true;
    } else if (argument == "--help" || argument == "-h") {
      result.help = true;
    } else {
      throw gm::bench::bench_error("unknown option " + argument + "\n" + usage);
    }
  }
  return result;
}

gm::bench::case_list chosen_cases(const std::string& filter) {
  gm::bench::case_list all;
  gm::bench::add_cpu_fault(all);
  gm::bench::add_prefetch(all);
  gm::bench::add_scope(all);
  gm::bench::add_kernel(all);
  gm::bench::add_table(all);
  const std::regex wanted(filter);
  std::erase_if(all, [&](const gm::bench::bench_case& each) { return !std::regex_search(each.name, wanted); });
  return all;
}

void start_google_benchmark(char* program, const gm::bench::machine& machine) {
  char* arguments[] = {program, nullptr};
  int count = 1;
  benchmark::Initialize(&count, arguments);
  benchmark::AddCustomContext("cpu", machine.cpu);
  benchmark::AddCustomContext("cpus", std::to_string(machine.cpus));
  benchmark::AddCustomContext("memory_bytes", std::to_string(machine.memory_bytes));
  benchmark::AddCustomContext("kernel", machine.kernel);
}

int run(int argc, char** argv) {
  const options chosen = parse(argc, argv);
  if (chosen.help) {
    std::fputs(usage, stdout);
    return 0;
  }
  const gm::bench::case_list cases = chosen_cases(chosen.filter);
  if (cases.empty()) throw gm::bench::bench_error("no row's name matches " + chosen.filter + ": see --list");
  if (chosen.list) {
    for (const auto& each : cases) std::printf("%s\n", each.name.c_str());
    return 0;
  }
  const gm::bench::machine machine = gm::bench::describe_machine();
  gm::bench::reporter reporter(machine, chosen.json, cases.size());
  start_google_benchmark(argv[0], machine);
  gm::bench::register_cases(cases);
  std::printf("gmem_bench: %zu rows, medians over repetitions\n", cases.size());
  std::fflush(stdout);
  benchmark::RunSpecifiedBenchmarks(&reporter);
  const bool ended_cleanly = gm::bench::finish_cases();
  reporter.print_table();
  return reporter.all_ran() && ended_cleanly ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::regex_error& error) {
    std::fprintf(stderr, "gmem_bench: the filter is no regular expression: %s\n", error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gmem_bench: %s\n", error.what());
  }
  return 2;
}
