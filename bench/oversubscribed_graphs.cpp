// SPDX-License-Identifier: Apache-2.0
// oversubscribed_graphs.cpp - the samples' work over a graph that a device cannot hold, on demand, over a slow link:
// oversubscribe/bfs, oversubscribe/pagerank.
//
// The floor is what the link alone makes of it: the time of the same kernels where everything is resident, and the
// bytes that were moved over the link's rate. What is above that grows with the number of faults.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "bare_pager.h"
#include "gmem/gmem.hpp"
#include "gmem/parallel.hpp"
#include "gmem/view.hpp"
#include "kernels/bfs.hpp"
#include "kernels/spmv.hpp"
#include "managed.h"
#include "measure.h"
#include "samples/graph/csr.h"
#include "samples/graph/edge_list.h"

namespace gm::bench {
namespace {

constexpr std::size_t nodes = std::size_t{1} << 19;

// By compressed rows, in ordinary memory: every run begins from here.
struct plain_graph {
  std::vector<std::uint64_t> offsets;
  std::vector<std::uint32_t> columns;
  std::vector<std::uint32_t> edges_out;
};

plain_graph make_graph(::sample::row_of row) {
  const session runtime;
  const ::sample::edge_list list = ::sample::generated_graph(nodes);
  const ::sample::csr made(list, row, ::sample::entry_values::left_out, ~std::uint64_t{0});
  const ::sample::csr_arrays arrays = made.tiles().front().on_host();
  plain_graph graph{{arrays.offsets, arrays.offsets + nodes + 1},
                    {arrays.columns, arrays.columns + list.edges.size()},
                    std::vector<std::uint32_t>(nodes)};
  for (const ::sample::edge& e : list.edges) ++graph.edges_out[e.from];
  return graph;
}

// What kernels of the scope only read.
template <class T>
auto read_by(const gm::scope& use, const gm::vector<T>& x) {
  return gm::view<const T>(use, x);
}

// One breadth-first search, level by level.
class search {
 public:
  static constexpr std::size_t budget = 20 * MiB;  // of 38

  search() : graph_(make_graph(::sample::row_of::edge_source)), expected_(nodes, kernels::unreached) {
    std::vector<std::uint32_t> order{start()};
    expected_[start()] = 0;
    for (std::size_t at = 0; at < order.size(); ++at) {
      for (std::uint64_t e = graph_.offsets[order[at]]; e < graph_.offsets[order[at] + 1]; ++e) {
        std::uint32_t& depth = expected_[graph_.columns[e]];
        if (depth != kernels::unreached) continue;
        depth = expected_[order[at]] + 1;
        order.push_back(graph_.columns[e]);
      }
    }
  }

  struct memory {
    explicit memory(const search& of)
        : offsets(of.graph_.offsets.begin(), of.graph_.offsets.end()),
          columns(of.graph_.columns.begin(), of.graph_.columns.end()),
          depths(nodes),
          reached(1) {}
    gm::vector<std::uint64_t> offsets;
    gm::vector<std::uint32_t> columns;
    gm::vector<std::uint32_t> depths;
    gm::vector<std::uint64_t> reached;
  };

  double run(const device_stream& stream, memory& m) const {
    std::fill(m.depths.begin(), m.depths.end(), kernels::unreached);
    m.depths[start()] = 0;
    m.reached[0] = 1;
    return time_ns([&] {
      std::uint64_t before = 0;
      for (std::uint32_t depth = 0; m.reached[0] != before; ++depth) {
        before = m.reached[0];
        {
          gm::scope use(stream.get(), gm::on_demand(std::as_const(m.offsets)), gm::on_demand(std::as_const(m.columns)),
                        gm::on_demand(m.depths), gm::on_demand(m.reached));
          gm::parallel_for(stream.get(), nodes,
                           kernels::bfs_level{read_by(use, m.offsets), read_by(use, m.columns), gm::view(use, m.depths),
                                              gm::view(use, m.reached), 0, depth});
        }
        stream.synchronize();
      }
    });
  }
  void verify(const memory& m) const {
    expect(std::equal(expected_.begin(), expected_.end(), m.depths.begin()), "a depth is wrong");
  }

 private:
  std::uint32_t start() const {
    const auto& out = graph_.edges_out;
    return static_cast<std::uint32_t>(std::max_element(out.begin(), out.end()) - out.begin());
  }

  plain_graph graph_;
  std::vector<std::uint32_t> expected_;
};

// Some steps of ranking.
class ranking {
 public:
  static constexpr std::size_t budget = 24 * MiB;  // of 46
  static constexpr std::size_t steps = 3;

  ranking() : graph_(make_graph(::sample::row_of::edge_target)), expected_(nodes, 1.0 / nodes) {
    std::vector<double> shares(nodes);
    for (std::size_t step = 0; step < steps; ++step) {
      for (std::size_t i = 0; i < nodes; ++i) shares[i] = share_of(expected_[i], graph_.edges_out[i]);
      for (std::size_t i = 0; i < nodes; ++i) {
        double sum = 0;
        for (std::uint64_t e = graph_.offsets[i]; e < graph_.offsets[i + 1]; ++e) sum += shares[graph_.columns[e]];
        expected_[i] = (1 - damping) / nodes + damping * sum;
      }
    }
  }

  struct memory {
    explicit memory(const ranking& of)
        : offsets(of.graph_.offsets.begin(), of.graph_.offsets.end()),
          columns(of.graph_.columns.begin(), of.graph_.columns.end()),
          edges_out(of.graph_.edges_out.begin(), of.graph_.edges_out.end()),
          ranks(nodes),
          shares(nodes) {}
    gm::vector<std::uint64_t> offsets;
    gm::vector<std::uint32_t> columns;
    gm::vector<std::uint32_t> edges_out;
    gm::vector<double> ranks;
    gm::vector<double> shares;
  };

  double run(const device_stream& stream, memory& m) const {
    std::fill(m.ranks.begin(), m.ranks.end(), 1.0 / nodes);
    return time_ns([&] {
      {
        gm::scope use(stream.get(), gm::on_demand(std::as_const(m.offsets)), gm::on_demand(std::as_const(m.columns)),
                      gm::on_demand(std::as_const(m.edges_out)), gm::on_demand(m.ranks), gm::on_demand(m.shares));
        const auto offsets = read_by(use, m.offsets);
        const auto columns = read_by(use, m.columns);
        const auto edges_out = read_by(use, m.edges_out);
        const gm::view<double> ranks(use, m.ranks), shares(use, m.shares);
        const auto given = read_by(use, m.shares);
        for (std::size_t step = 0; step < steps; ++step) {
          gm::parallel_for(
              stream.get(), nodes, GM_LAMBDA(std::size_t i) { shares[i] = share_of(ranks[i], edges_out[i]); });
          gm::parallel_for(
              stream.get(), nodes, GM_LAMBDA(std::size_t i) {
                const kernels::constant<double> ones{1};
                ranks[i] = (1 - damping) / nodes + damping * kernels::row_times(offsets, columns, ones, given, i);
              });
        }
      }
      stream.synchronize();
    });
  }
  void verify(const memory& m) const {
    for (std::size_t i = 0; i < nodes; ++i)
      expect(std::abs(m.ranks[i] - expected_[i]) <= 1e-9 * expected_[i], "a rank is wrong");
  }

 private:
  static constexpr double damping = 0.85;
  static double share_of(double rank, std::uint32_t edges) { return edges == 0 ? 0 : rank / edges; }

  plain_graph graph_;
  std::vector<double> expected_;
};

template <class Work>
class oversubscribed : public measurement {
 public:
  sample run(bool floor_first) override {
    gm_node_stats moved{};
    const auto ours = [&] {
      const session runtime(slow_link, Work::budget);
      const double ns = once(false);
      moved = moved_;
      return ns;
    };
    const auto resident = [&] {
      const session runtime(slow_link);
      return once(true);
    };
    sample result = time_both(floor_first, ours, resident);
    const double resident_ns = result.floor_ns;
    const auto bytes = static_cast<double>(std::max(moved.bytes_in, moved.bytes_out));
    const double link_ns = bytes * 1e9 / static_cast<double>(slow_link.bytes_per_second);
    result.floor_ns += link_ns;
    result.counters = {{"resident_ns", resident_ns},
                       {"link_ns", link_ns},
                       {"faults", static_cast<double>(moved.faults)},
                       {"bytes_in", static_cast<double>(moved.bytes_in)},
                       {"bytes_out", static_cast<double>(moved.bytes_out)}};
    return result;
  }

 private:
  // warm: what fits has come before.
  double once(bool warm) {
    const device_stream stream;
    typename Work::memory memory(work_);
    if (warm) static_cast<void>(work_.run(stream, memory));
    gm::reset_stats();
    const double ns = work_.run(stream, memory);
    moved_ = stats_now().node[device_node];
    work_.verify(memory);
    return ns;
  }

  Work work_;
  gm_node_stats moved_{};
};

}  // namespace

void add_oversubscribed_graphs(case_list& cases) {
  cases.push_back({"oversubscribe/bfs", 5, [] { return std::make_unique<oversubscribed<search>>(); }});
  cases.push_back({"oversubscribe/pagerank", 5, [] { return std::make_unique<oversubscribed<ranking>>(); }});
}

}  // namespace gm::bench
