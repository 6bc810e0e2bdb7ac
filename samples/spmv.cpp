// SPDX-License-Identifier: Apache-2.0
//
// spmv - y = A * x for a sparse matrix out of a file, which may be larger than the device's memory.
//
// The idea: kernels reach the matrix, x and y through views, and fetch the pages that they touch. Where all fits the
// device it goes there once, however often it is multiplied; where it does not, pages come and go, and nobody says
// which. With --tiles, and on devices that have no access map, a scope takes one tile of the matrix's rows, the whole
// of x, and the tile's part of y.
//
// Kernels are those of kernels/spmv.hpp. The CPU multiplies too, edge by edge as the file has them.
#include <getopt.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <gmem/view.hpp>
#include <iostream>
#include <string>
#include <vector>

#include "graph/csr.h"
#include "graph/edge_list.h"
#include "graph/result_table.h"
#include "kernels/spmv.hpp"
#include "whole_number.h"

namespace {

constexpr std::size_t repeats_max = 1'000'000;
constexpr std::size_t generated_max = std::size_t{1} << 26;

// Whole numbers: where the entries are whole too, every sum is exact.
double x_at(std::size_t column) { return static_cast<double>(column % 1000) - 300; }

// Each tile has its part of y beside it.
struct tile_of_y {
  const sample::csr_tile& a;
  gm::unique_ptr<double[]> y;
};

void multiply(gm::stream& stream, const tile_of_y& tile, const gm::unique_ptr<double[]>& x) {
  gm::scope use(stream, gm::read(tile.a.memory()), gm::read(x), gm::write(tile.y));
  const sample::csr_arrays a = tile.a.on_device(stream);
  const double* from = gm::device_pointer(x.get(), stream);
  double* to = gm::device_pointer(tile.y.get(), stream);
  gm::parallel_for(stream, tile.a.rows(), gm::kernels::spmv{a.offsets, a.columns, a.values, from, to});
}

void multiply_on_demand(gm::stream& stream, const tile_of_y& all, const gm::unique_ptr<double[]>& x) {
  const double* const read = x.get();
  const std::size_t columns = x.get_deleter().count();
  gm::scope use(stream, all.a.on_demand(), gm::on_demand(read, columns), gm::on_demand(all.y));
  const sample::csr_views a = all.a.views(use);
  const gm::view<const double> from(use, read, columns);
  const gm::view<double> to(use, all.y);
  gm::parallel_for(stream, all.a.rows(), gm::kernels::spmv{a.offsets, a.columns, a.values, from, to});
}

// By the CPU. Devices may round a product and a sum in one step, so for entries that are not whole numbers the last
// bits may differ.
bool is_right(const sample::edge_list& matrix, const std::vector<tile_of_y>& tiles) {
  constexpr double error_max = 1e-12;
  std::vector<double> expected(matrix.rows), sizes(matrix.rows);
  for (std::size_t e = 0; e < matrix.edges.size(); ++e) {
    const double product = (matrix.values.empty() ? 1 : matrix.values[e]) * x_at(matrix.edges[e].to);
    expected[matrix.edges[e].from] += product;
    sizes[matrix.edges[e].from] += std::abs(product);
  }
  for (const tile_of_y& tile : tiles) {
    for (std::uint32_t i = 0; i < tile.a.rows(); ++i) {
      const std::uint32_t row = tile.a.first_row() + i;
      if (std::abs(tile.y[i] - expected[row]) <= error_max * sizes[row]) continue;
      std::cerr << "spmv: WRONG: y[" << row << "] is " << tile.y[i] << " and should be " << expected[row] << '\n';
      return false;
    }
  }
  return true;
}

int run(const std::string& path, std::size_t generated_nodes, std::size_t repeats, bool in_tiles) {
  const sample::edge_list matrix = sample::read_graph_or_default(path, generated_nodes);
  gm::stream stream;
  const gm_node_info device = gm::node_info(stream.node());
  const bool on_demand = device.has_access_map != 0 && !in_tiles;
  constexpr auto values = sample::entry_values::kept;
  const std::uint64_t tile_bytes =
      on_demand ? sample::one_tile : sample::tile_bytes_for(matrix, values, device.budget_bytes);
  const sample::csr a(matrix, sample::row_of::edge_source, values, tile_bytes);
  auto x = gm::make_unique_for_overwrite<double[]>(matrix.columns);
  for (std::size_t column = 0; column < matrix.columns; ++column) x[column] = x_at(column);
  std::vector<tile_of_y> tiles;
  for (const sample::csr_tile& tile : a.tiles()) {
    tiles.push_back({tile, gm::make_unique_for_overwrite<double[]>(tile.rows())});
  }
  std::cout << "spmv: " << matrix.origin << ", multiplied by " << device.name << '\n';

  sample::measurement measured;
  for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
    for (const tile_of_y& tile : tiles) on_demand ? multiply_on_demand(stream, tile, x) : multiply(stream, tile, x);
  }
  measured.stop(stream);
  const bool right = is_right(matrix, tiles);
  sample::print_table(matrix, on_demand ? 0 : tiles.size(), "multiplications", repeats, measured, right);
  return right ? 0 : 1;
}

void usage(std::ostream& to) {
  to << "Usage: sample_spmv [OPTION]... [FILE]\n"
        "Multiplies a sparse matrix and a vector on the first device, and checks the product.\n"
        "FILE: Matrix Market coordinates, an edge list as SNAP's, or dpkg's status (default: that of this machine).\n"
        "  -g, --generate=N   no file: a random graph of N nodes and 16 times as many edges, N to "
     << generated_max
     << "\n"
        "  -r, --repeat=N     multiply that often, 1 to "
     << repeats_max
     << " (default 10)\n"
        "  -t, --tiles        bring the matrix in tiles, instead of what kernels touch of it\n"
        "  -h, --help         this text\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t generated_nodes = 0, repeats = 10;
  bool tiles = false;
  const option options[] = {{"generate", required_argument, nullptr, 'g'},
                            {"repeat", required_argument, nullptr, 'r'},
                            {"tiles", no_argument, nullptr, 't'},
                            {"help", no_argument, nullptr, 'h'},
                            {}};
  for (int letter; (letter = getopt_long(argc, argv, "g:r:th", options, nullptr)) != -1;) {
    if (letter == 't') {
      tiles = true;
      continue;
    }
    std::optional<std::size_t> number;
    if (letter == 'g') number = sample::whole_number(optarg, 1, generated_max);
    if (letter == 'r') number = sample::whole_number(optarg, 1, repeats_max);
    if (!number) {
      usage(letter == 'h' ? std::cout : std::cerr);
      return letter == 'h' ? 0 : 2;
    }
    (letter == 'g' ? generated_nodes : repeats) = *number;
  }
  if (argc - optind > (generated_nodes != 0 ? 0 : 1)) {
    usage(std::cerr);
    return 2;
  }
  try {
    return run(optind < argc ? argv[optind] : "", generated_nodes, repeats, tiles);
  } catch (const std::exception& failure) {
    std::cerr << "spmv: " << failure.what() << '\n';
    return 1;
  }
}
