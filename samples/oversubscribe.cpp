// SPDX-License-Identifier: Apache-2.0
//
// oversubscribe - data four times as large as the device's memory, worked on as if it fitted.
//
// The idea: the program goes through its data chunk by chunk, with a scope for each, and never says what should leave
// the device. The runtime evicts what was used least recently. It copies home only what the device wrote: the pass that
// merely reads makes room for nothing, and its write-backs skipped show it.
//
// The budget is set here (64 MiB a device) so that this runs anywhere; GM_DEVICE_BUDGET in the environment wins.
#include <getopt.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <iomanip>
#include <iostream>
#include <span>

#include "whole_number.h"

namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
constexpr std::size_t budget_mib_max = std::size_t{1} << 16;
constexpr std::size_t data_to_budget = 4;
constexpr std::size_t chunks_to_budget = 4;  // four chunks fit at once
constexpr std::size_t words_a_sum = 4096;

std::uint64_t scramble(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

using words = std::span<std::uint64_t>;

void fill(gm::stream& stream, words chunk, std::size_t first) {
  gm::scope use(stream, gm::write(chunk));
  std::uint64_t* to = gm::device_pointer(chunk.data(), stream);
  gm::parallel_for(
      stream, chunk.size(), GM_LAMBDA(std::size_t i) { to[i] = scramble(first + i); });
}

void change(gm::stream& stream, words chunk) {
  gm::scope use(stream, gm::read_write(chunk));
  std::uint64_t* data = gm::device_pointer(chunk.data(), stream);
  gm::parallel_for(
      stream, chunk.size(), GM_LAMBDA(std::size_t i) { data[i] = 3 * data[i] + 1; });
}

void add_up(gm::stream& stream, words chunk, words sums) {
  gm::scope use(stream, gm::read(chunk), gm::write(sums));
  const std::uint64_t* from = gm::device_pointer(chunk.data(), stream);
  std::uint64_t* to = gm::device_pointer(sums.data(), stream);
  gm::parallel_for(
      stream, sums.size(), GM_LAMBDA(std::size_t s) {
        std::uint64_t sum = 0;
        for (std::size_t i = s * words_a_sum; i < (s + 1) * words_a_sum; ++i) sum += from[i];
        to[s] = sum;
      });
}

void print_heading() {
  std::cout << "pass                    evictions   written back   skipped, clean    in MiB   out MiB\n"
               "                           blocks          pages            pages\n";
}

// What this pass moved, and the counters back to zero for the next.
void print_traffic(const char* pass, int node) {
  const gm_stats stats = gm::stats();
  const gm_node_stats& device = stats.node[node];
  std::cout << std::left << std::setw(22) << pass << std::right << std::setw(11) << device.evictions << std::setw(15)
            << device.writebacks << std::setw(17) << device.writebacks_skipped << std::setw(10) << device.bytes_in / mib
            << std::setw(10) << device.bytes_out / mib << '\n';
  gm::reset_stats();
}

int run(std::size_t budget_mib) {
  gm_options options = gm::default_options();
  options.device_budget_bytes = budget_mib * mib;
  gm::init(options);
  gm::stream stream;
  const gm_node_info device = gm::node_info(stream.node());

  const std::size_t chunk_words =
      device.budget_bytes / chunks_to_budget / sizeof(std::uint64_t) / words_a_sum * words_a_sum;
  const std::size_t chunks = data_to_budget * chunks_to_budget;
  if (chunk_words == 0) {
    std::cerr << "oversubscribe: a budget of " << device.budget_bytes
              << " bytes is too small; give --budget-mib 8 or more\n";
    return 1;
  }
  const auto data = gm::make_unique_for_overwrite<std::uint64_t[]>(chunks * chunk_words);
  const auto sums = gm::make_unique_for_overwrite<std::uint64_t[]>(chunks * chunk_words / words_a_sum);
  const auto chunk_of = [&](std::size_t c) { return words(data.get() + c * chunk_words, chunk_words); };
  const auto sums_of = [&](std::size_t c) {
    return words(sums.get() + c * (chunk_words / words_a_sum), chunk_words / words_a_sum);
  };
  std::cout << "oversubscribe: " << chunks * chunk_words * sizeof(std::uint64_t) / mib << " MiB of data, "
            << device.budget_bytes / mib << " MiB of " << device.name << ", chunks of "
            << chunk_words * sizeof(std::uint64_t) / mib << " MiB\n";
  print_heading();
  gm::reset_stats();

  for (std::size_t c = 0; c < chunks; ++c) fill(stream, chunk_of(c), c * chunk_words);
  stream.synchronize();
  print_traffic("the device fills", stream.node());

  for (int pass = 0; pass < 2; ++pass) {
    for (std::size_t c = 0; c < chunks; ++c) add_up(stream, chunk_of(c), sums_of(c));
    stream.synchronize();
    print_traffic(pass == 0 ? "the device reads" : "the device reads again", stream.node());
  }

  for (std::size_t c = 0; c < chunks; ++c) change(stream, chunk_of(c));
  stream.synchronize();
  print_traffic("the device changes", stream.node());

  for (std::size_t s = 0; s < chunks * chunk_words / words_a_sum; ++s) {
    std::uint64_t expected_sum = 0;
    for (std::size_t i = s * words_a_sum; i < (s + 1) * words_a_sum; ++i) {
      expected_sum += scramble(i);
      if (data[i] != 3 * scramble(i) + 1) {
        std::cerr << "oversubscribe: WRONG: word " << i << " is " << data[i] << " and should be " << 3 * scramble(i) + 1
                  << '\n';
        return 1;
      }
    }
    if (sums[s] != expected_sum) {
      std::cerr << "oversubscribe: WRONG: sum " << s << " is " << sums[s] << " and should be " << expected_sum << '\n';
      return 1;
    }
  }
  print_traffic("the CPU checks", stream.node());
  std::cout << "oversubscribe: every word and every sum equal to the CPU's\n";
  return 0;
}

void usage(std::ostream& to) {
  to << "Usage: sample_oversubscribe [OPTION]...\n"
        "Works on data four times as large as the device's budget, and shows what eviction copied and what it "
        "skipped.\n"
        "  -b, --budget-mib=N   the device's budget, 8 to "
     << budget_mib_max
     << " MiB (default 64); the environment's\n"
        "                       GM_DEVICE_BUDGET wins\n"
        "  -h, --help           this text\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t budget_mib = 64;
  const option options[] = {{"budget-mib", required_argument, nullptr, 'b'}, {"help", no_argument, nullptr, 'h'}, {}};
  for (int letter; (letter = getopt_long(argc, argv, "b:h", options, nullptr)) != -1;) {
    const auto number = letter == 'b' ? sample::whole_number(optarg, 8, budget_mib_max) : std::nullopt;
    if (!number) {
      usage(letter == 'h' ? std::cout : std::cerr);
      return letter == 'h' ? 0 : 2;
    }
    budget_mib = *number;
  }
  if (optind != argc) {
    usage(std::cerr);
    return 2;
  }
  try {
    return run(budget_mib);
  } catch (const std::exception& failure) {
    std::cerr << "oversubscribe: " << failure.what() << '\n';
    return 1;
  }
}
