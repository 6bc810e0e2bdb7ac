// SPDX-License-Identifier: Apache-2.0
//
// bfs - how far every node of a graph is from one of them: breadth-first search, level by level.
//
// The idea: the depths are one array that the device writes and the CPU reads, and the number of nodes reached is one
// word by which the CPU learns, after each level, whether there is another. Nothing is copied by name. A graph that is
// larger than the device's memory is reached through views: kernels fetch the pages that they touch, and what is not
// touched stays at home. With --tiles, and on devices that have no access map, it goes through the device's memory in
// tiles of rows, with a scope for each, and the depths stay.
//
// The kernel is that of kernels/bfs.hpp. The CPU searches too, over the same memory, with a queue.
#include <getopt.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <gmem/view.hpp>
#include <iomanip>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "graph/csr.h"
#include "graph/edge_list.h"
#include "graph/result_table.h"
#include "kernels/bfs.hpp"
#include "whole_number.h"

namespace {

using gm::kernels::unreached;

constexpr std::size_t generated_max = std::size_t{1} << 26;

struct search {
  gm::unique_ptr<std::uint32_t[]> depths;
  gm::unique_ptr<std::uint64_t[]> reached;  // one word
  std::vector<std::uint64_t> levels;        // how many nodes each has
};

void visit(gm::stream& stream, const sample::csr_tile& tile, const search& s, std::uint32_t depth) {
  gm::scope use(stream, gm::read(tile.memory()), gm::read_write(s.depths), gm::read_write(s.reached));
  const sample::csr_arrays edges = tile.on_device(stream);
  std::uint32_t* depths = gm::device_pointer(s.depths.get(), stream);
  std::uint64_t* reached = gm::device_pointer(s.reached.get(), stream);
  gm::parallel_for(stream, tile.rows(),
                   gm::kernels::bfs_level{edges.offsets, edges.columns, depths, reached, tile.first_row(), depth});
}

// The CPU would not wait for kernels on demand: its accesses and theirs may mix.
void visit_on_demand(gm::stream& stream, const sample::csr_tile& all, const search& s, std::uint32_t depth) {
  {
    gm::scope use(stream, all.on_demand(), gm::on_demand(s.depths), gm::on_demand(s.reached));
    const sample::csr_views edges = all.views(use);
    const gm::view depths(use, s.depths);
    const gm::view reached(use, s.reached);
    gm::parallel_for(stream, all.rows(),
                     gm::kernels::bfs_level{edges.offsets, edges.columns, depths, reached, 0, depth});
  }
  stream.synchronize();
}

search by_the_device(gm::stream& stream, const sample::csr& graph, std::uint32_t nodes, std::uint32_t from,
                     bool on_demand) {
  search s{gm::make_unique_for_overwrite<std::uint32_t[]>(nodes), gm::make_unique<std::uint64_t[]>(1), {1}};
  std::fill_n(s.depths.get(), nodes, unreached);
  s.depths[from] = 0;
  s.reached[0] = 1;
  for (std::uint64_t before = 1;;) {
    const auto depth = static_cast<std::uint32_t>(s.levels.size() - 1);
    for (const sample::csr_tile& tile : graph.tiles())
      on_demand ? visit_on_demand(stream, tile, s, depth) : visit(stream, tile, s, depth);
    const std::uint64_t now = s.reached[0];  // waits for the level
    if (now == before) return s;
    s.levels.push_back(now - before);
    before = now;
  }
}

std::vector<std::uint32_t> by_the_cpu(const sample::csr& graph, std::uint32_t nodes, std::uint32_t from) {
  std::vector<std::uint32_t> depths(nodes, unreached), queue{from};
  depths[from] = 0;
  for (std::size_t at = 0; at < queue.size(); ++at) {
    const std::uint32_t node = queue[at];
    const sample::csr_tile& tile = *std::prev(
        std::upper_bound(graph.tiles().begin(), graph.tiles().end(), node,
                         [](std::uint32_t wanted, const sample::csr_tile& t) { return wanted < t.first_row(); }));
    const sample::csr_arrays edges = tile.on_host();
    const std::uint64_t* const offset = &edges.offsets[node - tile.first_row()];
    for (std::uint64_t edge = offset[0]; edge < offset[1]; ++edge) {
      std::uint32_t& depth = depths[edges.columns[edge]];
      if (depth != unreached) continue;
      depth = depths[node] + 1;
      queue.push_back(edges.columns[edge]);
    }
  }
  return depths;
}

bool is_right(const sample::edge_list& list, const search& made, const std::vector<std::uint32_t>& expected) {
  for (std::uint32_t node = 0; node < list.rows; ++node) {
    if (made.depths[node] == expected[node]) continue;
    std::cerr << "bfs: WRONG: node " << list.name(node) << " has depth " << static_cast<std::int32_t>(made.depths[node])
              << " and should have " << static_cast<std::int32_t>(expected[node]) << " (-1: not reached)\n";
    return false;
  }
  return true;
}

void print_levels(const std::vector<std::uint64_t>& levels) {
  constexpr std::size_t levels_shown = 20, bar_width = 40;
  const std::uint64_t most = *std::max_element(levels.begin(), levels.end());
  std::cout << "depth     nodes\n";
  for (std::size_t depth = 0; depth < std::min(levels.size(), levels_shown); ++depth) {
    std::cout << std::setw(5) << depth << std::setw(10) << levels[depth] << "  "
              << std::string((levels[depth] * bar_width + most - 1) / most, '#') << '\n';
  }
  if (levels.size() > levels_shown) std::cout << "  ... to depth " << levels.size() - 1 << '\n';
}

// The node with the most edges out, of several the first.
std::uint32_t busiest(const sample::edge_list& list) {
  std::vector<std::uint64_t> edges(list.rows);
  for (const sample::edge& e : list.edges) ++edges[e.from];
  return static_cast<std::uint32_t>(std::max_element(edges.begin(), edges.end()) - edges.begin());
}

struct arguments {
  std::string path, start;
  std::size_t generated_nodes = 0;
  bool both_ways = false;
  bool tiles = false;
};

int run(const arguments& asked) {
  sample::edge_list list = sample::read_graph_or_default(asked.path, asked.generated_nodes);
  sample::require_graph(list);
  if (asked.both_ways) sample::add_reversed_edges(list);
  const std::uint32_t from = asked.start.empty() ? busiest(list) : list.find(asked.start);
  if (from == list.rows) {
    std::cerr << "bfs: " << list.origin << " has no node " << asked.start << "; give --start one that it has\n";
    return 2;
  }
  gm::stream stream;
  const gm_node_info device = gm::node_info(stream.node());
  const bool on_demand = device.has_access_map != 0 && !asked.tiles;
  constexpr auto values = sample::entry_values::left_out;
  const std::uint64_t tile_bytes =
      on_demand ? sample::one_tile : sample::tile_bytes_for(list, values, device.budget_bytes);
  const sample::csr graph(list, sample::row_of::edge_source, values, tile_bytes);
  std::cout << "bfs: " << list.origin << ", searched from " << list.name(from) << " by " << device.name << '\n';

  sample::measurement measured;
  const search found = by_the_device(stream, graph, list.rows, from, on_demand);
  measured.stop(stream);
  print_levels(found.levels);
  const bool right = is_right(list, found, by_the_cpu(graph, list.rows, from));
  sample::print_table(list, on_demand ? 0 : graph.tiles().size(), "levels", found.levels.size(), measured, right);
  return right ? 0 : 1;
}

void usage(std::ostream& to) {
  to << "Usage: sample_bfs [OPTION]... [FILE]\n"
        "Finds how far every node of a graph is from one of them, on the first device, and checks every depth.\n"
        "FILE: an edge list as SNAP's, Matrix Market coordinates, or dpkg's status (default: that of this machine,\n"
        "where edges go from a package to those that it needs).\n"
        "  -g, --generate=N   no file: a random graph of N nodes and 16 times as many edges, N to "
     << generated_max
     << "\n"
        "  -s, --start=NODE   where to begin, as the file names it (default: the node with the most edges out)\n"
        "  -b, --both-ways    edges may be followed backwards too\n"
        "  -t, --tiles        bring the graph in tiles, instead of what kernels touch of it\n"
        "  -h, --help         this text\n";
}

}  // namespace

int main(int argc, char** argv) {
  arguments asked;
  const option options[] = {{"generate", required_argument, nullptr, 'g'}, {"start", required_argument, nullptr, 's'},
                            {"both-ways", no_argument, nullptr, 'b'},      {"tiles", no_argument, nullptr, 't'},
                            {"help", no_argument, nullptr, 'h'},           {}};
  for (int letter; (letter = getopt_long(argc, argv, "g:s:bth", options, nullptr)) != -1;) {
    const auto number = letter == 'g' ? sample::whole_number(optarg, 1, generated_max) : std::nullopt;
    if (letter == 's' && *optarg != '\0') {
      asked.start = optarg;
    } else if (letter == 'b') {
      asked.both_ways = true;
    } else if (letter == 't') {
      asked.tiles = true;
    } else if (number) {
      asked.generated_nodes = *number;
    } else {
      usage(letter == 'h' ? std::cout : std::cerr);
      return letter == 'h' ? 0 : 2;
    }
  }
  if (argc - optind > (asked.generated_nodes != 0 ? 0 : 1)) {
    usage(std::cerr);
    return 2;
  }
  if (optind < argc) asked.path = argv[optind];
  try {
    return run(asked);
  } catch (const std::exception& failure) {
    std::cerr << "bfs: " << failure.what() << '\n';
    return 1;
  }
}
