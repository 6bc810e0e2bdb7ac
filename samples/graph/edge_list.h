// SPDX-License-Identifier: Apache-2.0
//
// edge_list.h - a graph or a sparse matrix as files have it, an edge or an entry after the other, and where from.
//
// Nodes are numbered from 0 without gaps, in the order in which the file first names them. The same file gives the same
// list every time. What is wrong with a file is thrown as bad_input, with its name, the line and what was expected.
#ifndef GMEM_SAMPLES_GRAPH_EDGE_LIST_H
#define GMEM_SAMPLES_GRAPH_EDGE_LIST_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "text_lines.h"

namespace sample {

struct edge {
  std::uint32_t from, to;  // row and column
};

struct edge_list {
  std::uint32_t rows = 0, columns = 0;  // of a graph both are its nodes
  std::vector<edge> edges;
  std::vector<double> values;      // one an edge, or empty: all are 1
  std::vector<std::string> names;  // of the nodes, or empty
  std::vector<std::uint64_t> ids;  // of the nodes in the file, or empty: first_id and so on
  std::uint64_t first_id = 0;
  std::string origin;  // for people

  // What the file calls the node.
  std::string name(std::uint32_t node) const;
  // The node that the file calls so; rows when there is none.
  std::uint32_t find(const std::string& name) const;
};

inline constexpr std::uint64_t nodes_max = 0xfffffffe;
inline constexpr std::size_t edges_a_generated_node = 16;

// Lines of two ids, whole numbers of 64 bits; lines that begin with # and empty ones are skipped. As SNAP has them.
edge_list read_snap(text_lines& lines);

// Coordinate format, pattern, real or integer, general or symmetric; the mirrored entries of a symmetric matrix follow
// their originals.
edge_list read_matrix_market(text_lines& lines);

// Debian packages and what they depend on: Depends, Pre-Depends and Recommends of dpkg's status file and of apt's
// lists. Of alternatives the edge goes to the first that is a package of the files, else to a package that provides
// one; where there is neither, there is no edge. Packages that are in several files are taken from the first.
edge_list read_debian_packages(text_lines& lines);
edge_list read_debian_packages(const std::vector<std::string>& paths);

// The files of that kind that this machine has: /var/lib/dpkg/status and /var/lib/apt/lists/*_Packages.
std::vector<std::string> debian_package_files();

// Edges as if preferring a few nodes, the same ones every time. nodes: 1 to nodes_max.
edge_list generated_graph(std::size_t nodes);

// A file of any of the three kinds: which of them its beginning says. It is read once, so it may be a pipe.
edge_list read_graph(const std::string& path);

// What a sample works on: the file if one is named, else a generated graph if nodes are given, else the packages of
// this machine; where there are none, a generated graph.
edge_list read_graph_or_default(const std::string& path, std::size_t generated_nodes);

// Throws bad_input unless the matrix has as many rows as columns.
void require_graph(const edge_list& list);
// Each edge is followed by one in the other direction.
void add_reversed_edges(edge_list& list);

}  // namespace sample

#endif  // GMEM_SAMPLES_GRAPH_EDGE_LIST_H
