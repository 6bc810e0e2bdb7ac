// SPDX-License-Identifier: Apache-2.0
#include "program.h"

#include <benchmark/benchmark.h>

#include <cstdio>
#include <exception>
#include <regex>
#include <string>

#include "machine.h"

namespace gm::bench {
namespace {

struct options {
  std::string json;
  std::string table;
  std::string filter;
  bool list = false;
  bool help = false;
};

std::string usage_of(const bench_program& program) {
  return std::string("usage: ") + program.name +
         " [--json FILE] [--table FILE] [--filter REGEX] [--list] [--help]\n"
         "  --json FILE     leave Google Benchmark's JSON in FILE\n"
         "  --table FILE    leave the table in FILE as well\n"
         "  --filter REGEX  run the rows whose name contains a match\n"
         "  --list          print the names and stop\n"
         "Exit status: 0 when every row ran, whether or not it met its goal; 1 when one failed; 2 for a wrong "
         "option.\n";
}

options parse(const bench_program& program, int argc, char** argv) {
  options result;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const auto value = [&]() -> std::string {
      if (equals != std::string::npos) return argument.substr(equals + 1);
      if (i + 1 >= argc) throw bench_error(name + " needs a value\n" + usage_of(program));
      return argv[++i];
    };
    if (name == "--json") {
      result.json = value();
    } else if (name == "--table") {
      result.table = value();
    } else if (name == "--filter") {
      result.filter = value();
    } else if (argument == "--list") {
      result.list = true;
    } else if (argument == "--help" || argument == "-h") {
      result.help = true;
    } else {
      throw bench_error("unknown option " + argument + "\n" + usage_of(program));
    }
  }
  return result;
}

case_list chosen_cases(const bench_program& program, const std::string& filter) {
  case_list all;
  program.add_cases(all);
  const std::regex wanted(filter);
  std::erase_if(all, [&](const bench_case& each) { return !std::regex_search(each.name, wanted); });
  return all;
}

void start_google_benchmark(char* program, const machine& where) {
  char* arguments[] = {program, nullptr};
  int count = 1;
  benchmark::Initialize(&count, arguments);
  benchmark::AddCustomContext("cpu", where.cpu);
  benchmark::AddCustomContext("cpus", std::to_string(where.cpus));
  benchmark::AddCustomContext("memory_bytes", std::to_string(where.memory_bytes));
  benchmark::AddCustomContext("kernel", where.kernel);
}

int run(const bench_program& program, int argc, char** argv) {
  const options chosen = parse(program, argc, argv);
  if (chosen.help) {
    std::fputs(usage_of(program).c_str(), stdout);
    return 0;
  }
  const case_list cases = chosen_cases(program, chosen.filter);
  if (cases.empty()) throw bench_error("no row's name matches " + chosen.filter + ": see --list");
  if (chosen.list) {
    for (const auto& each : cases) std::printf("%s\n", each.name.c_str());
    return 0;
  }
  const machine where = describe_machine();
  reporter reporting(where, chosen.json, cases.size());
  start_google_benchmark(argv[0], where);
  register_cases(cases);
  std::printf("%s: %zu rows, medians over repetitions\n", program.name, cases.size());
  std::fflush(stdout);
  benchmark::RunSpecifiedBenchmarks(&reporting);
  const bool ended_cleanly = finish_cases();
  program.print_table(reporting, chosen.table);
  return reporting.all_ran() && ended_cleanly ? 0 : 1;
}

}  // namespace

int run_program(const bench_program& program, int argc, char** argv) {
  try {
    return run(program, argc, argv);
  } catch (const std::regex_error& error) {
    std::fprintf(stderr, "%s: the filter is no regular expression: %s\n", program.name, error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program.name, error.what());
  }
  return 2;
}

}  // namespace gm::bench
