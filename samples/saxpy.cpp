// SPDX-License-Identifier: Apache-2.0
//
// saxpy - the smallest whole program: y = a * x + y on a device, over vectors that the CPU filled and then reads.
//
// The idea: there is one pair of vectors. Nobody allocates a second one on the device, nobody copies, and the CPU does
// not even wait by name: its first look at y waits for the kernel and fetches that page.
#include <getopt.h>

#include <cstddef>
#include <exception>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <iostream>

#include "whole_number.h"

namespace {

constexpr std::size_t count_max = std::size_t{1} << 30;

// Small whole numbers, so that every result is exact and can be compared with ==.
float x_at(std::size_t i) { return static_cast<float>(i % 1000); }
float y_at(std::size_t i) { return static_cast<float>(i % 77); }

int run(std::size_t count, float a) {
  gm::vector<float> x(count), y(count);
  for (std::size_t i = 0; i < count; ++i) {
    x[i] = x_at(i);
    y[i] = y_at(i);
  }

  gm::stream stream;
  {
    gm::scope use(stream, gm::read(x), gm::read_write(y));
    const float* from = gm::device_pointer(x.data(), stream);
    float* to = gm::device_pointer(y.data(), stream);
    gm::parallel_for(
        stream, count, GM_LAMBDA(std::size_t i) { to[i] += a * from[i]; });
  }

  for (std::size_t i = 0; i < count; ++i) {
    const float expected = a * x_at(i) + y_at(i);
    if (y[i] != expected) {
      std::cerr << "saxpy: WRONG: y[" << i << "] is " << y[i] << " and should be " << expected << '\n';
      return 1;
    }
  }
  std::cout << "saxpy: " << count << " elements computed on " << gm::node_info(stream.node()).name
            << ", equal to the CPU's result\n";
  return 0;
}

void usage(std::ostream& to) {
  to << "Usage: sample_saxpy [OPTION]...\n"
        "Computes y = 3 * x + y on the first device, over memory that the CPU shares, and checks every element.\n"
        "  -n, --count=N   elements of each vector, 1 to "
     << count_max
     << " (default 16777216)\n"
        "  -h, --help      this text\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t count = std::size_t{1} << 24;
  const option options[] = {{"count", required_argument, nullptr, 'n'}, {"help", no_argument, nullptr, 'h'}, {}};
  for (int letter; (letter = getopt_long(argc, argv, "n:h", options, nullptr)) != -1;) {
    const auto number = letter == 'n' ? sample::whole_number(optarg, 1, count_max) : std::nullopt;
    if (!number) {
      usage(letter == 'h' ? std::cout : std::cerr);
      return letter == 'h' ? 0 : 2;
    }
    count = *number;
  }
  if (optind != argc) {
    usage(std::cerr);
    return 2;
  }
  try {
    return run(count, 3);
  } catch (const std::exception& failure) {
    std::cerr << "saxpy: " << failure.what() << '\n';
    return 1;
  }
}
