// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "edge_list.h"

namespace sample {

namespace {

constexpr std::size_t default_nodes = std::size_t{1} << 14;

std::uint64_t scramble(std::uint64_t x) {
  x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9U;
  return x ^ (x >> 32);
}

// The first line that is not empty; it will be read again.
std::string beginning(text_lines& lines) {
  std::string_view line;
  while (lines.next(line)) {
    if (line.empty()) continue;
    std::string found(line);
    lines.put_back();
    return found;
  }
  return {};
}

}  // namespace

edge_list generated_graph(std::size_t nodes) {
  edge_list list;
  list.rows = list.columns = static_cast<std::uint32_t>(nodes);
  list.edges.reserve(nodes * edges_a_generated_node);
  for (std::size_t e = 0; e < nodes * edges_a_generated_node; ++e) {
    const std::uint64_t random = scramble(e + 1);
    // The cube of an even fraction: half of all edges go to an eighth of the nodes.
    const double fraction = static_cast<double>(random >> 11) / static_cast<double>(std::uint64_t{1} << 53);
    const auto to = static_cast<std::size_t>(fraction * fraction * fraction * static_cast<double>(nodes));
    list.edges.push_back(
        {static_cast<std::uint32_t>(scramble(random) % nodes), static_cast<std::uint32_t>(std::min(to, nodes - 1))});
  }
  list.origin = "generated";
  return list;
}

edge_list read_graph(const std::string& path) {
  text_lines lines(path);
  const std::string first = beginning(lines);
  if (first.starts_with("Package:")) return read_debian_packages(lines);
  return first.starts_with("%%") ? read_matrix_market(lines) : read_snap(lines);
}

edge_list read_graph_or_default(const std::string& path, std::size_t generated_nodes) {
  if (!path.empty()) return read_graph(path);
  if (generated_nodes != 0) return generated_graph(generated_nodes);
  const std::vector<std::string> files = debian_package_files();
  if (!files.empty()) return read_debian_packages(files);
  edge_list list = generated_graph(default_nodes);
  list.origin += ", since this machine has no /var/lib/dpkg/status";
  return list;
}

void require_graph(const edge_list& list) {
  if (list.rows == list.columns) return;
  throw bad_input(list.origin + ": expected a graph, as many rows as columns, found " + std::to_string(list.rows) +
                  " rows and " + std::to_string(list.columns) + " columns");
}

void add_reversed_edges(edge_list& list) {
  std::vector<edge> both;
  both.reserve(2 * list.edges.size());
  for (const edge& e : list.edges) {
    both.push_back(e);
    both.push_back({e.to, e.from});
  }
  list.edges = std::move(both);
  list.values.clear();
}

std::string edge_list::name(std::uint32_t node) const {
  if (!names.empty()) return names[node];
  return std::to_string(ids.empty() ? first_id + node : ids[node]);
}

std::uint32_t edge_list::find(const std::string& wanted) const {
  for (std::uint32_t node = 0; node < rows; ++node) {
    if (name(node) == wanted) return node;
  }
  return rows;
}

}  // namespace sample
