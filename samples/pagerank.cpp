// SPDX-License-Identifier: Apache-2.0
//
// pagerank - which nodes of a graph the others lead to: where a walker is most often who follows edges at random, and
// now and then starts anew anywhere.
//
// The idea: the graph lies by the targets of its edges, so that every node adds up what its sources give it, and no two
// threads write one element. The graph and the ranks may be larger than the device's memory: kernels reach them through
// views, and fetch the pages that they touch. With --tiles, and on devices that have no access map, tiles of rows come
// to the device, a scope each, while the ranks stay there from step to step. The CPU adds up the few sums of each step
// that the next one needs, out of the same memory.
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
#include <gmem/view.hpp>
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

// Kernels, over raw pointers and over views.
template <class Edges, class Ranks, class Shares, class Stuck>
struct share {
  Edges edges_out;
  Ranks ranks;
  Shares shares;
  Stuck stuck;
  std::size_t nodes, sums;

  GM_HOST_DEVICE void operator()(std::size_t s) const {
    double sum = 0;
    for (std::size_t node = s; node < nodes; node += sums) {
      const std::uint32_t edges = edges_out[node];
      const double rank = ranks[node];
      shares[node] = edges == 0 ? 0 : rank / edges;
      if (edges == 0) sum += rank;
    }
    stuck[s] = sum;
  }
};

template <class Edges, class Ranks, class Shares, class Stuck>
share(Edges, Ranks, Shares, Stuck, std::size_t, std::size_t) -> share<Edges, Ranks, Shares, Stuck>;

template <class Offsets, class Columns, class Shares, class Ranks>
struct collect {
  Offsets offsets;
  Columns columns;
  Shares shares;
  Ranks ranks;
  double for_all;

  GM_HOST_DEVICE void operator()(std::size_t row) const {
    const gm::kernels::constant<double> ones{1};
    ranks[row] = for_all + damping * gm::kernels::row_times(offsets, columns, ones, shares, row);
  }
};

template <class Offsets, class Columns, class Shares, class Ranks>
collect(Offsets, Columns, Shares, Ranks, double) -> collect<Offsets, Columns, Shares, Ranks>;

template <class T>
gm::access reads(const gm::unique_ptr<T[]>& x) {
  return gm::on_demand(static_cast<const T*>(x.get()), x.get_deleter().count());
}
template <class T>
gm::view<const T> read_view(const gm::scope& use, const gm::unique_ptr<T[]>& x) {
  return {use, static_cast<const T*>(x.get()), x.get_deleter().count()};
}

void share_ranks(gm::stream& stream, const vectors& v, bool on_demand) {
  const std::size_t nodes = v.nodes, sums = std::min(nodes, sums_max);
  if (on_demand) {
    gm::scope use(stream, reads(v.edges_out), reads(v.ranks), gm::on_demand(v.shares), gm::on_demand(v.stuck));
    gm::parallel_for(stream, sums,
                     share{read_view(use, v.edges_out), read_view(use, v.ranks), gm::view(use, v.shares),
                           gm::view(use, v.stuck), nodes, sums});
    use.end();
    stream.synchronize();  // the CPU reads the sums, and would not wait for kernels on demand
    return;
  }
  gm::scope use(stream, gm::read(v.edges_out), gm::read(v.ranks), gm::write(v.shares), gm::write(v.stuck));
  const std::uint32_t* edges_out = gm::device_pointer(v.edges_out.get(), stream);
  const double* ranks = gm::device_pointer(v.ranks.get(), stream);
  double* shares = gm::device_pointer(v.shares.get(), stream);
  double* stuck = gm::device_pointer(v.stuck.get(), stream);
  gm::parallel_for(stream, sums, share{edges_out, ranks, shares, stuck, nodes, sums});
}

// for_all: what every node has, whoever leads to it.
void collect_ranks(gm::stream& stream, const sample::csr_tile& tile, const vectors& v, double for_all, bool on_demand) {
  if (on_demand) {
    gm::scope use(stream, tile.on_demand(), reads(v.shares), gm::on_demand(v.ranks));
    const sample::csr_views edges = tile.views(use);
    gm::parallel_for(stream, tile.rows(),
                     collect{edges.offsets, edges.columns, read_view(use, v.shares), gm::view(use, v.ranks), for_all});
    return;
  }
  gm::scope use(stream, gm::read(tile.memory()), gm::read(v.shares), gm::read_write(v.ranks));
  const sample::csr_arrays edges = tile.on_device(stream);
  const double* shares = gm::device_pointer(v.shares.get(), stream);
  double* ranks = gm::device_pointer(v.ranks.get(), stream) + tile.first_row();
  gm::parallel_for(stream, tile.rows(), collect{edges.offsets, edges.columns, shares, ranks, for_all});
}

void by_the_device(gm::stream& stream, const sample::csr& graph, const vectors& v, std::size_t steps, bool on_demand) {
  for (std::size_t step = 0; step < steps; ++step) {
    share_ranks(stream, v, on_demand);
    const double stuck = std::accumulate(v.stuck.get(), v.stuck.get() + std::min(v.nodes, sums_max), 0.0);
    const double for_all = (1 - damping + damping * stuck) / static_cast<double>(v.nodes);
    for (const sample::csr_tile& tile : graph.tiles()) collect_ranks(stream, tile, v, for_all, on_demand);
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

int run(const std::string& path, std::size_t generated_nodes, std::size_t steps, bool tiles) {
  const sample::edge_list list = sample::read_graph_or_default(path, generated_nodes);
  sample::require_graph(list);
  gm::stream stream;
  const gm_node_info device = gm::node_info(stream.node());
  const bool on_demand = device.has_access_map != 0 && !tiles;
  constexpr auto values = sample::entry_values::left_out;
  const std::uint64_t tile_bytes =
      on_demand ? sample::one_tile : sample::tile_bytes_for(list, values, device.budget_bytes);
  const sample::csr graph(list, sample::row_of::edge_target, values, tile_bytes);
  const vectors v(list);
  std::cout << "pagerank: " << list.origin << ", ranked by " << device.name << '\n';

  sample::measurement measured;
  by_the_device(stream, graph, v, steps, on_demand);
  measured.stop(stream);
  print_top(list, v);
  const bool right = is_right(list, v, by_the_cpu(list, steps));
  sample::print_table(list, on_demand ? 0 : graph.tiles().size(), "steps", steps, measured, right);
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
        "  -t, --tiles        bring the graph in tiles, instead of what kernels touch of it\n"
        "  -h, --help         this text\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t generated_nodes = 0, steps = 40;
  bool tiles = false;
  const option options[] = {{"generate", required_argument, nullptr, 'g'},
                            {"steps", required_argument, nullptr, 'n'},
                            {"tiles", no_argument, nullptr, 't'},
                            {"help", no_argument, nullptr, 'h'},
                            {}};
  for (int letter; (letter = getopt_long(argc, argv, "g:n:th", options, nullptr)) != -1;) {
    if (letter == 't') {
      tiles = true;
      continue;
    }
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
    return run(optind < argc ? argv[optind] : "", generated_nodes, steps, tiles);
  } catch (const std::exception& failure) {
    std::cerr << "pagerank: " << failure.what() << '\n';
    return 1;
  }
}
