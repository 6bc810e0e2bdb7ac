// SPDX-License-Identifier: Apache-2.0
//
// pagerank - which nodes of a graph the others lead to: where a walker is most often who follows edges at random, and
// now and then starts anew anywhere.
//
// The idea: the graph lies by the targets of its edges, so that every node adds up what its sources give it, and no two
// threads write one element. Tiles of rows come to the device, a scope each, while the ranks stay there from step to
// step; the CPU adds up the few sums of each step that the next one needs, out of the same memory.
//
// Sums are made with kernels/spmv.hpp. The CPU does the same edge by edge.
#include <getopt.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <iomanip>
#include <iostream>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "graph/csr.h"
#include "graph/edge_list.h"
#include "graph/result_table.h"
#include "kernels/spmv.hpp"
#include "whole_number.h"

namespace {

constexpr double damping = 0.85;
constexpr std::size_t steps_max = 1'000'000;
constexpr std::size_t generated_max = std::size_t{1} << 26;
constexpr std::size_t sums_max = 4096;

// What stays on the device.
struct vectors {
  explicit vectors(const sample::edge_list& list)
      : nodes(list.rows),
        edges_out(gm::make_unique<std::uint32_t[]>(nodes)),
        ranks(gm::make_unique_for_overwrite<double[]>(nodes)),
        shares(gm::make_unique_for_overwrite<double[]>(nodes)),
        stuck(gm::make_unique_for_overwrite<double[]>(std::min(nodes, sums_max))) {
    for (const sample::edge& e : list.edges) ++edges_out[e.from];
    std::fill_n(ranks.get(), nodes, 1.0 / static_cast<double>(nodes));
  }

  std::size_t nodes;
  gm::unique_ptr<std::uint32_t[]> edges_out;
  gm::unique_ptr<double[]> ranks;
  gm::unique_ptr<double[]> shares;  // what each node gives along each of its edges
  gm::unique_ptr<double[]> stuck;   // sums of the ranks of nodes without edges: theirs go to all
};

void share_ranks(gm::stream& stream, const vectors& v) {
  gm::scope use(stream, gm::read(v.edges_out), gm::read(v.ranks), gm::write(v.shares), gm::write(v.stuck));
  const std::uint32_t* edges_out = gm::device_pointer(v.edges_out.get(), stream);
  const double* ranks = gm::device_pointer(v.ranks.get(), stream);
  double* shares = gm::device_pointer(v.shares.get(), stream);
  double* stuck = gm::device_pointer(v.stuck.get(), stream);
  const std::size_t nodes = v.nodes, sums = std::min(nodes, sums_max);
  gm::parallel_for(
      stream, sums, GM_LAMBDA(std::size_t s) {
        double sum = 0;
        for (std::size_t node = s; node < nodes; node += sums) {
          const bool is_stuck = edges_out[node] == 0;
          shares[node] = is_stuck ? 0 : ranks[node] / edges_out[node];
          if (is_stuck) sum += ranks[node];
        }
        stuck[s] = sum;
      });
}

// for_all: what every node has, whoever leads to it.
void collect_ranks(gm::stream& stream, const sample::csr_tile& tile, const vectors& v, double for_all) {
  gm::scope use(stream, gm::read(tile.memory()), gm::read(v.shares), gm::read_write(v.ranks));
  const sample::csr_arrays edges = tile.on_device(stream);
  const double* shares = gm::device_pointer(v.shares.get(), stream);
  double* ranks = gm::device_pointer(v.ranks.get(), stream) + tile.first_row();
  gm::parallel_for(
      stream, tile.rows(), GM_LAMBDA(std::size_t row) {
        const gm::kernels::constant<double> ones{1};
        ranks[row] = for_all + damping * gm::kernels::row_times(edges.offsets, edges.columns, ones, shares, row);
      });
}

void by_the_device(gm::stream& stream, const sample::csr& graph, const vectors& v, std::size_t steps) {
  for (std::size_t step = 0; step < steps; ++step) {
    share_ranks(stream, v);
    const double stuck = std::accumulate(v.stuck.get(), v.stuck.get() + std::min(v.nodes, sums_max), 0.0);
    const double for_all = (1 - damping + damping * stuck) / static_cast<double>(v.nodes);
    for (const sample::csr_tile& tile : graph.tiles()) collect_ranks(stream, tile, v, for_all);
  }
}

std::vector<double> by_the_cpu(const sample::edge_list& list, std::size_t steps) {
  const auto nodes = static_cast<double>(list.rows);
  std::vector<double> ranks(list.rows, 1 / nodes), sums(list.rows);
  std::vector<std::uint32_t> edges_out(list.rows);
  for (const sample::edge& e : list.edges) ++edges_out[e.from];
  for (std::size_t step = 0; step < steps; ++step) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (const sample::edge& e : list.edges) sums[e.to] += ranks[e.from] / edges_out[e.from];
    double stuck = 0;
    for (std::size_t node = 0; node < ranks.size(); ++node) stuck += edges_out[node] == 0 ? ranks[node] : 0;
    for (std::size_t node = 0; node < ranks.size(); ++node) {
      ranks[node] = (1 - damping + damping * stuck) / nodes + damping * sums[node];
    }
  }
  return ranks;
}

// To a billionth: the CPU adds in another order, and devices may round a product and a sum in one step.
bool is_right(const sample::edge_list& list, const vectors& made, const std::vector<double>& expected) {
  constexpr double error_max = 1e-9;
  for (std::uint32_t node = 0; node < list.rows; ++node) {
    if (std::abs(made.ranks[node] - expected[node]) <= error_max * expected[node]) continue;
    std::cerr << "pagerank: WRONG: node " << list.name(node) << " has rank " << made.ranks[node] << " and should have "
              << expected[node] << '\n';
    return false;
  }
  return true;
}

void print_top(const sample::edge_list& list, const vectors& v) {
  std::vector<std::uint32_t> order(list.rows);
  std::iota(order.begin(), order.end(), 0);
  const std::size_t shown = std::min<std::size_t>(order.size(), 10);
  std::partial_sort(
      order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
      [&](std::uint32_t a, std::uint32_t b) { return v.ranks[a] != v.ranks[b] ? v.ranks[a] > v.ranks[b] : a < b; });
  std::cout << "times the average  node\n" << std::fixed << std::setprecision(2);
  for (std::size_t i = 0; i < shown; ++i) {
    std::cout << std::setw(17) << v.ranks[order[i]] * list.rows << "  " << list.name(order[i]) << '\n';
  }
}

int run(const std::string& path, std::size_t generated_nodes, std::size_t steps) {
  const sample::edge_list list = sample::read_graph_or_default(path, generated_nodes);
  sample::require_graph(list);
  gm::stream stream;
  const gm_node_info device = gm::node_info(stream.node());
  constexpr auto values = sample::entry_values::left_out;
  const sample::csr graph(list, sample::row_of::edge_target, values,
                          sample::tile_bytes_for(list, values, device.budget_bytes));
  const vectors v(list);
  std::cout << "pagerank: " << list.origin << ", ranked by " << device.name << '\n';

  sample::measurement measured;
  by_the_device(stream, graph, v, steps);
  measured.stop(stream);
  print_top(list, v);
  const bool right = is_right(list, v, by_the_cpu(list, steps));
  sample::print_table(list, graph.tiles().size(), "steps", steps, measured, right);
  return right ? 0 : 1;
}

void usage(std::ostream& to) {
  to << "Usage: sample_pagerank [OPTION]... [FILE]\n"
        "Ranks the nodes of a graph on the first device, prints the ten that come first, and checks every rank.\n"
        "FILE: an edge list as SNAP's, Matrix Market coordinates, or dpkg's status (default: that of this machine,\n"
        "where edges go from a package to those that it needs).\n"
        "  -g, --generate=N   no file: a random graph of N nodes and 16 times as many edges, N to "
     << generated_max
     << "\n"
        "  -n, --steps=N      1 to "
     << steps_max
     << " (default 40)\n"
        "  -h, --help         this text\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t generated_nodes = 0, steps = 40;
  const option options[] = {{"generate", required_argument, nullptr, 'g'},
                            {"steps", required_argument, nullptr, 'n'},
                            {"help", no_argument, nullptr, 'h'},
                            {}};
  for (int letter; (letter = getopt_long(argc, argv, "g:n:h", options, nullptr)) != -1;) {
    std::optional<std::size_t> number;
    if (letter == 'g') number = sample::whole_number(optarg, 1, generated_max);
    if (letter == 'n') number = sample::whole_number(optarg, 1, steps_max);
    if (!number) {
      usage(letter == 'h' ? std::cout : std::cerr);
      return letter == 'h' ? 0 : 2;
    }
    (letter == 'g' ? generated_nodes : steps) = *number;
  }
  if (argc - optind > (generated_nodes != 0 ? 0 : 1)) {
    usage(std::cerr);
    return 2;
  }
  try {
    return run(optind < argc ? argv[optind] : "", generated_nodes, steps);
  } catch (const std::exception& failure) {
    std::cerr << "pagerank: " << failure.what() << '\n';
    return 1;
  }
}
