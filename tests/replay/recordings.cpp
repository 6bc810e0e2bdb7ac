// SPDX-License-Identifier: Apache-2.0
#include "replay/recordings.h"

#include <random>
#include <string>

#include "kernels/bfs.hpp"
#include "kernels/gather.hpp"
#include "kernels/stencil.hpp"
#include "kernels/stream.hpp"
#include "kernels/strided.hpp"
#include "replay/recorder.h"
#include "unit/seeded.h"

namespace gm::test {
namespace {

template <class Kernel>
void run(std::size_t count, const Kernel& kernel) {
  for (std::size_t i = 0; i < count; ++i) kernel(i);
}

void describe(recorder& r, const std::string& what) {
  r.result().comments = {"SPDX-License-Identifier: Apache-2.0", what,
                         "Made by tests/replay/recordings.cpp, with pages of " + std::to_string(r.bytes_a_page()) +
                             " bytes. The format stands in trace.h."};
}

}  // namespace

trace record_stream() {
  recorder r(1024);
  describe(r, "kernels/stream.hpp, three passes over three arrays of 192 pages.");
  constexpr std::size_t count = 192 * 256;
  const recorded<float> x(r, count);
  const recorded<float> y(r, count);
  const recorded<float> z(r, count);
  for (int pass = 0; pass < 3; ++pass) run(count, kernels::triad{2.0F, x, y, z});
  return r.result();
}

trace record_strided() {
  recorder r(1024);
  describe(r, "kernels/strided.hpp, a column of a matrix with 500 rows of five pages each, and another one.");
  constexpr std::size_t rows = 500;
  constexpr std::size_t stride = 5 * 256;
  const recorded<float> matrix(r, rows * stride);
  const recorded<float> column(r, rows);
  run(rows, kernels::strided{matrix, column, stride});
  run(rows, kernels::strided{matrix, column, stride});
  return r.result();
}

trace record_gather() {
  recorder r(1024);
  describe(
      r, "kernels/gather.hpp, 4000 reads at random of an array of 2048 pages, four of five of them in its hot fifth.");
  constexpr std::size_t count = 4000;
  constexpr std::size_t elements = 2048 * 256;
  const recorded<float> from(r, elements);
  const recorded<std::uint32_t> places(r, count);
  const recorded<float> to(r, count);
  rng random(1);
  for (std::uint32_t& place : places.contents()) {
    const bool is_hot = below(random, 5) != 0;
    place = static_cast<std::uint32_t>(is_hot ? elements / 2 + below(random, elements / 5) : below(random, elements));
  }
  run(count, kernels::gather{from, places, to});
  return r.result();
}

trace record_stencil() {
  recorder r(1024);
  describe(r, "kernels/stencil.hpp, two steps between two boards of 40 rows, eight pages a row.");
  constexpr std::size_t width = 8 * 256;
  constexpr std::size_t height = 40;
  const recorded<float> a(r, width * height);
  const recorded<float> b(r, width * height);
  run(width * height, kernels::stencil{a, b, width, height, 0.5F, 0.125F});
  run(width * height, kernels::stencil{b, a, width, height, 0.5F, 0.125F});
  return r.result();
}

trace record_bfs() {
  recorder r(64);
  describe(r,
           "kernels/bfs.hpp, all levels over 2048 nodes: a ring, each node with three more edges near it or anywhere.");
  constexpr std::uint32_t nodes = 2048;
  constexpr std::uint32_t edges_a_node = 4;
  const recorded<std::uint32_t> offsets(r, nodes + 1);
  const recorded<std::uint32_t> targets(r, std::size_t{nodes} * edges_a_node);
  const recorded<std::uint32_t> depths(r, nodes, kernels::unreached);
  const recorded<std::uint32_t> reached(r, 1);
  rng random(2);
  for (std::uint32_t node = 0; node <= nodes; ++node) offsets.contents()[node] = node * edges_a_node;
  for (std::uint32_t node = 0; node < nodes; ++node) {
    std::uint32_t* edges = &targets.contents()[std::size_t{node} * edges_a_node];
    edges[0] = (node + 1) % nodes;
    for (std::uint32_t i = 1; i < edges_a_node; ++i)
      edges[i] = static_cast<std::uint32_t>(below(random, 8) == 0 ? below(random, nodes)
                                                                  : (node + nodes + below(random, 64) - 32) % nodes);
  }
  depths.contents()[0] = 0;
  std::uint32_t before = 0;
  for (std::uint32_t depth = 0;; ++depth) {
    run(nodes, kernels::bfs_level{offsets, targets, depths, reached, 0, depth});
    const std::uint32_t now = reached.contents()[0];
    if (now == before) break;
    before = now;
  }
  return r.result();
}

}  // namespace gm::test
