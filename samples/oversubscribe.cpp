// SPDX-License-Identifier: Apache-2.0
//
// oversubscribe - data four times as large as the device's memory, worked on as if it fitted.
//
// The idea: the program goes through its data chunk by chunk, with a scope for each, and never says what should leave
// the device. The runtime evicts what was used least recently. It copies home only what the device wrote: what
// a pass has merely read is dropped without a copy, and counted as skipped.
//
// The budget is set here (64 MiB a device) so that this runs anywhere; GM_DEVICE_BUDGET in the environment wins.
#include <getopt.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <iomanip>
#include <iostream>
#include <vector>

#include "whole_number.h"

namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
constexpr std::size_t budget_mib_max = std::size_t{1} << 16;
constexpr std::size_t data_to_budget = 4;
constexpr std::size_t chunks_to_budget = 4;  // four chunks fit at once
constexpr std::size_t words_a_sum = 4096;

GM_HOST_DEVICE std::uint64_t scramble(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

using words = gm::unique_ptr<std::uint64_t[]>;

// A chunk of the data, in an allocation of its own: a device without a window keeps an allocation in one piece.
struct chunk {
  std::size_t first;  // place of its first word in the whole
  words data;
  words sums;  // of each words_a_sum

  std::size_t size() const { return data.get_deleter().count(); }
};

void fill(gm::stream& stream, const chunk& c) {
  gm::scope use(stream, gm::write(c.data));
  std::uint64_t* to = gm::device_pointer(c.data.get(), stream);
  const std::size_t first = c.first;
  gm::parallel_for(
      stream, c.size(), GM_LAMBDA(std::size_t i) { to[i] = scramble(first + i); });
}

void add_up(gm::stream& stream, const chunk& c) {
  gm::scope use(stream, gm::read(c.data), gm::write(c.sums));
  const std::uint64_t* from = gm::device_pointer(c.data.get(), stream);
  std::uint64_t* to = gm::device_pointer(c.sums.get(), stream);
  gm::parallel_for(
      stream, c.size() / words_a_sum, GM_LAMBDA(std::size_t s) {
        std::uint64_t sum = 0;
        for (std::size_t i = s * words_a_sum; i < (s + 1) * words_a_sum; ++i) sum += from[i];
        to[s] = sum;
      });
}

void change(gm::stream& stream, const chunk& c) {
  gm::scope use(stream, gm::read_write(c.data));
  std::uint64_t* data = gm::device_pointer(c.data.get(), stream);
  gm::parallel_for(
      stream, c.size(), GM_LAMBDA(std::size_t i) { data[i] = 3 * data[i] + 1; });
}

// By the CPU, word for word.
bool is_right(const chunk& c) {
  for (std::size_t i = 0; i < c.size(); ++i) {
    const std::uint64_t expected = 3 * scramble(c.first + i) + 1;
    if (c.data[i] == expected) continue;
    std::cerr << "oversubscribe: WRONG: word " << c.first + i << " is " << c.data[i] << " and should be " << expected
              << '\n';
    return false;
  }
  for (std::size_t s = 0; s < c.size() / words_a_sum; ++s) {
    std::uint64_t expected = 0;
    for (std::size_t i = s * words_a_sum; i < (s + 1) * words_a_sum; ++i) expected += scramble(c.first + i);
    if (c.sums[s] == expected) continue;
    std::cerr << "oversubscribe: WRONG: the sum of " << words_a_sum << " words from " << c.first + s * words_a_sum
              << " is " << c.sums[s] << " and should be " << expected << '\n';
    return false;
  }
  return true;
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
  if (chunk_words == 0) {
    std::cerr << "oversubscribe: a budget of " << device.budget_bytes
              << " bytes is too small; give --budget-mib 8 or more, or unset GM_DEVICE_BUDGET\n";
    return 1;
  }
  std::vector<chunk> chunks;
  for (std::size_t c = 0; c < data_to_budget * chunks_to_budget; ++c) {
    chunks.push_back({c * chunk_words, gm::make_unique_for_overwrite<std::uint64_t[]>(chunk_words),
                      gm::make_unique_for_overwrite<std::uint64_t[]>(chunk_words / words_a_sum)});
  }
  std::cout << "oversubscribe: " << chunks.size() * chunk_words * sizeof(std::uint64_t) / mib << " MiB of data, "
            << device.budget_bytes / mib << " MiB of " << device.name << ", chunks of "
            << chunk_words * sizeof(std::uint64_t) / mib << " MiB\n";
  print_heading();
  gm::reset_stats();

  const auto pass = [&](const char* name, const auto& work) {
    for (const chunk& c : chunks) work(stream, c);
    stream.synchronize();
    print_traffic(name, stream.node());
  };
  pass("the device fills", fill);
  pass("the device reads", add_up);
  pass("the device reads again", add_up);
  pass("the device changes", change);
  if (!std::all_of(chunks.begin(), chunks.end(), is_right)) return 1;
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
