// SPDX-License-Identifier: Apache-2.0
//
// matrix_product - C = A * B, where the three matrices are larger than the device's memory, with a vendor's BLAS.
//
// The idea: cuBLAS wants plain device addresses and all of its operands on the device. Tiles are small enough for that,
// and a scope a product brings its three: A's and B's to read, C's to write first and to add to then. What leaves
// the device meanwhile is the runtime's business. Begin and end of a scope do not wait for the device, so the host runs
// ahead as far as there is room, and the next tiles are copied while these are multiplied.
//
// cuBLAS on CUDA, hipBLAS on HIP; a kernel of our own on the simulated device, and where there is no such library.
// Elements are small whole numbers, so every sum is exact in whatever order it is made.
//
// The budget is set here (16 MiB a device) so that this runs anywhere; GM_DEVICE_BUDGET in the environment wins.
#include <getopt.h>

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <gmem/gmem.hpp>
#include <iomanip>
#include <iostream>
#include <optional>
#include <vector>

#include "../whole_number.h"
#include "tile_product.h"
#include "tiled_matrix.h"

namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
constexpr std::size_t budget_mib_min = 8, budget_mib_max = std::size_t{1} << 20;
constexpr std::size_t side_max = std::size_t{1} << 16;
constexpr std::size_t tiles_to_budget = 8;  // three in use, and as many that come and go
constexpr std::size_t tile_side_max = 8192;
constexpr int element_max = 4;  // the largest sum, 4 * 4 * side_max, is far below 2^24, where floats have gaps

std::uint32_t scramble(std::uint64_t x) {
  x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9U;
  return static_cast<std::uint32_t>(x >> 32);
}

void fill(const tiled_matrix& matrix, std::uint64_t seed) {
  matrix.each([&](std::size_t row, std::size_t column, float& element) {
    const std::uint32_t random = scramble((seed * side_max + row) * side_max + column + 1);
    element = static_cast<float>(static_cast<int>(random % (2 * element_max + 1)) - element_max);
  });
}

// The largest power of two of which tiles_to_budget tiles fit.
std::size_t tile_side_for(std::uint64_t budget_bytes) {
  std::size_t side = columns_a_strip;
  while (side < tile_side_max && tiles_to_budget * sizeof(float) * (2 * side) * (2 * side) <= budget_bytes) side *= 2;
  return side;
}

// 0 .. count - 1 forwards or backwards. Who turns round at the end begins with what was used last, and is still there.
std::size_t to_and_fro(std::size_t step, std::size_t count, bool backwards) {
  return backwards ? count - 1 - step : step;
}

void queue_product(gm::stream& stream, tile_multiplier& multiplier, const tiled_matrix& a, const tiled_matrix& b,
                   const tiled_matrix& c) {
  const std::size_t tiles = c.tiles_a_side();
  for (std::size_t i = 0; i < tiles; ++i) {
    for (std::size_t j_step = 0; j_step < tiles; ++j_step) {
      const std::size_t j = to_and_fro(j_step, tiles, i % 2 != 0);
      for (std::size_t k_step = 0; k_step < tiles; ++k_step) {
        const std::size_t k = to_and_fro(k_step, tiles, (i * tiles + j_step) % 2 != 0);
        const bool adds = k_step != 0;
        gm::scope use(stream, gm::read(a.tile(i, k)), gm::read(b.tile(k, j)),
                      adds ? gm::read_write(c.tile(i, j)) : gm::write(c.tile(i, j)));
        multiplier.queue(gm::device_pointer(a.tile(i, k).get(), stream), gm::device_pointer(b.tile(k, j).get(), stream),
                         gm::device_pointer(c.tile(i, j).get(), stream), {c.length(i), a.length(k), c.length(j)}, adds);
      }
    }
  }
}

using column = std::vector<std::int64_t>;

column times(const tiled_matrix& matrix, const column& x) {
  column product(matrix.side());
  matrix.each([&](std::size_t row, std::size_t i, float element) {
    product[row] += static_cast<std::int64_t>(element) * x[i];
  });
  return product;
}

// Names the first element of C in the row that is not what it should be.
void explain(const tiled_matrix& a, const tiled_matrix& b, const tiled_matrix& c, std::size_t row) {
  for (std::size_t j = 0; j < c.side(); ++j) {
    float right = 0;
    for (std::size_t k = 0; k < c.side(); ++k) right += a.at(row, k) * b.at(k, j);
    if (c.at(row, j) == right) continue;
    std::cerr << "matrix_product: WRONG: C[" << row << "][" << j << "] is " << c.at(row, j) << " and should be "
              << right << '\n';
    return;
  }
}

// Freivalds' check, by the CPU: C * x = A * (B * x) for a random x, in three passes instead of a product. Numbers are
// whole and x has 20 bits, so that a wrong row stays unseen once in a million, and nothing overflows.
bool is_right(const tiled_matrix& a, const tiled_matrix& b, const tiled_matrix& c) {
  constexpr std::size_t none = side_max;
  std::size_t wrong_row = none;
  const float largest = static_cast<float>(element_max * element_max) * static_cast<float>(c.side());
  c.each([&](std::size_t row, std::size_t, float element) {
    if (!(std::abs(element) <= largest) || element != std::trunc(element)) wrong_row = row;
  });
  if (wrong_row == none) {
    column x(c.side());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = scramble(~std::uint64_t{i}) >> 12;
    const column made = times(c, x), expected = times(a, times(b, x));
    for (std::size_t row = 0; row < c.side() && wrong_row == none; ++row) {
      if (made[row] != expected[row]) wrong_row = row;
    }
  }
  if (wrong_row == none) return true;
  explain(a, b, c, wrong_row);
  return false;
}

int run(std::size_t side, std::size_t budget_mib) {
  gm_options options = gm::default_options();
  options.device_budget_bytes = budget_mib * mib;
  gm::init(options);
  gm::stream stream;
  const gm_node_info device = gm::node_info(stream.node());
  if (device.budget_bytes < budget_mib_min * mib) {
    std::cerr << "matrix_product: a budget of " << device.budget_bytes << " bytes is too small; give --budget-mib "
              << budget_mib_min << " or more, or unset GM_DEVICE_BUDGET\n";
    return 1;
  }
  const std::size_t tile_side = tile_side_for(device.budget_bytes);
  const tiled_matrix a(side, tile_side), b(side, tile_side), c(side, tile_side);
  fill(a, 1);
  fill(b, 2);
  tile_multiplier multiplier(stream);
  std::cout << "matrix_product: three matrices of " << side << " x " << side << ", "
            << 3 * sizeof(float) * side * side / mib << " MiB, in tiles of " << tile_side << " x " << tile_side << "; "
            << device.budget_bytes / mib << " MiB of " << device.name << ", multiplied by " << multiplier.name()
            << '\n';

  gm::reset_stats();
  const auto started = std::chrono::steady_clock::now();
  queue_product(stream, multiplier, a, b, c);
  stream.synchronize();
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - started;
  const gm_node_stats moved = gm::stats().node[stream.node()];

  const double operations = 2.0 * static_cast<double>(side) * static_cast<double>(side) * static_cast<double>(side);
  std::cout << std::fixed << std::setprecision(3) << time.count() << " s, " << std::setprecision(1)
            << operations / time.count() / 1e9 << " GFlop/s; " << moved.bytes_in / mib << " MiB came to the device, "
            << moved.bytes_out / mib << " MiB went home; " << moved.evictions << " blocks evicted\n";
  if (!is_right(a, b, c)) return 1;
  std::cout << "matrix_product: C = A * B, by Freivalds' check\n";
  return 0;
}

void usage(std::ostream& to) {
  to << "Usage: sample_matrix_product [OPTION]...\n"
        "Multiplies matrices that are larger than the device's budget, tile by tile, and checks the product.\n"
        "  -s, --size=N         rows and columns, a multiple of "
     << columns_a_strip << ", to " << side_max
     << " (default 2048)\n"
        "  -b, --budget-mib=N   the device's budget, "
     << budget_mib_min << " to " << budget_mib_max
     << " MiB (default 16); the environment's\n"
        "                       GM_DEVICE_BUDGET wins\n"
        "  -h, --help           this text\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t side = 2048, budget_mib = 16;
  const option options[] = {{"size", required_argument, nullptr, 's'},
                            {"budget-mib", required_argument, nullptr, 'b'},
                            {"help", no_argument, nullptr, 'h'},
                            {}};
  for (int letter; (letter = getopt_long(argc, argv, "s:b:h", options, nullptr)) != -1;) {
    std::optional<std::size_t> number;
    if (letter == 's') number = sample::whole_number(optarg, columns_a_strip, side_max);
    if (letter == 'b') number = sample::whole_number(optarg, budget_mib_min, budget_mib_max);
    if (!number || (letter == 's' && *number % columns_a_strip != 0)) {
      usage(letter == 'h' ? std::cout : std::cerr);
      return letter == 'h' ? 0 : 2;
    }
    (letter == 's' ? side : budget_mib) = *number;
  }
  if (optind != argc) {
    usage(std::cerr);
    return 2;
  }
  try {
    return run(side, budget_mib);
  } catch (const std::exception& failure) {
    std::cerr << "matrix_product: " << failure.what() << '\n';
    return 1;
  }
}
