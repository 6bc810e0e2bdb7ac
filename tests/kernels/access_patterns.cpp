// SPDX-License-Identifier: Apache-2.0
// access_patterns.cpp - each pattern of kernels/ on a device, against a plain loop of the CPU: over raw pointers, over
// an accessor that gives the least that kernels/accessor.hpp asks for, and over views, of more data than the device may
// hold. Exit status 77: there is no device.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <gmem/view.hpp>
#include <utility>
#include <vector>

#include "kernels/bfs.hpp"
#include "kernels/gather.hpp"
#include "kernels/pointer_chase.hpp"
#include "kernels/scatter_add.hpp"
#include "kernels/spmv.hpp"
#include "kernels/stencil.hpp"
#include "kernels/stream.hpp"
#include "kernels/strided.hpp"

namespace {

using gm::kernels::constant;
using gm::kernels::unreached;
using word = std::uint32_t;
using wide = std::uint64_t;

int mistakes = 0;

void expect(bool holds, const char* what, const char* over) {
  if (holds) return;
  ++mistakes;
  std::printf("wrong: %s over %s\n", what, over);
}

word mixed(std::size_t i) { return static_cast<word>((i + 1) * 2654435761u) ^ static_cast<word>(i >> 3); }

// Whose [i] converts and is assigned, and has the atomic operations itself: nothing else can be done with it.
template <class T>
class narrow {
 public:
  using value_type = T;

  class reference {
   public:
    GM_HOST_DEVICE explicit reference(T* at) : at_(at) {}
    reference(const reference&) = default;
    GM_HOST_DEVICE operator T() const { return *at_; }  // NOLINT(google-explicit-constructor): as a view's
    GM_HOST_DEVICE const reference& operator=(T value) const {
      *at_ = value;
      return *this;
    }
    reference& operator=(const reference&) = delete;
    GM_HOST_DEVICE T load() const { return gm::kernels::load(at_, 0); }
    GM_HOST_DEVICE T fetch_add(T value) const { return gm::kernels::fetch_add(at_, 0, value); }
    GM_HOST_DEVICE bool compare_exchange(T expected, T desired) const {
      return gm::kernels::compare_exchange(at_, 0, expected, desired);
    }

   private:
    T* at_;
  };

  explicit narrow(T* first) : first_(first) {}
  GM_HOST_DEVICE reference operator[](std::size_t i) const { return reference(first_ + i); }

 private:
  T* first_;
};

// How kernels reach the arrays: what a scope is told of them, and what they look through. Few of the data, or many.
struct as_pointer {
  static constexpr const char* name = "raw pointers";
  static constexpr std::size_t scale = 1;  // of the arrays
  template <class X>
  static gm::access read(const X& x) {
    return gm::read(x);
  }
  template <class X>
  static gm::access write(X& x) {
    return gm::write(x);
  }
  template <class X>
  static gm::access read_write(X& x) {
    return gm::read_write(x);
  }
  template <class X>
  static auto* look(const gm::scope&, const gm::stream& stream, X& x) {
    return gm::device_pointer(x.data(), stream);
  }
};

struct as_narrow : as_pointer {
  static constexpr const char* name = "a narrow accessor";
  template <class X>
  static auto look(const gm::scope& use, const gm::stream& stream, X& x) {
    return narrow(as_pointer::look(use, stream, x));
  }
};

struct as_view {
  static constexpr const char* name = "views";
  static constexpr std::size_t scale = 64;
  template <class X>
  static gm::access read(const X& x) {
    return gm::on_demand(x);
  }
  template <class X>
  static gm::access write(X& x) {
    return gm::on_demand(x);
  }
  template <class X>
  static gm::access read_write(X& x) {
    return gm::on_demand(x);
  }
  template <class X>
  static auto look(const gm::scope& use, const gm::stream&, X& x) {
    return gm::view(use, x);
  }
};

template <class T, class Value>
gm::vector<T> filled(std::size_t count, Value value) {
  gm::vector<T> made(count);
  for (std::size_t i = 0; i < count; ++i) made[i] = static_cast<T>(value(i));
  return made;
}

// Runs every pattern with the arrays seen through Access.
template <class Access>
class patterns {
 public:
  void run() {
    stream_triad();
    strided();
    gather();
    scatter_add();
    pointer_chase();
    stencil();
    spmv();
    bfs();
  }

 private:
  static constexpr std::size_t scale = Access::scale;

  // What kernels of the scope write, and what they only read.
  template <class T>
  auto out(const gm::scope& use, gm::vector<T>& x) const {
    return Access::look(use, stream_, x);
  }
  template <class T>
  auto in(const gm::scope& use, const gm::vector<T>& x) const {
    return Access::look(use, stream_, x);
  }

  // Waits first: for kernels on demand nobody else would.
  template <class T, class Expected>
  void expect_elements(const gm::vector<T>& made, Expected expected, const char* what) {
    stream_.synchronize();
    bool right = true;
    for (std::size_t i = 0; i < made.size(); ++i) right = right && made[i] == expected(i);
    expect(right, what, Access::name);
  }

  void stream_triad() {
    constexpr std::size_t count = 70'001 * scale;
    const auto x_at = [](std::size_t i) { return static_cast<float>(i % 1000); };
    const auto y_at = [](std::size_t i) { return static_cast<float>(i % 77); };
    auto x = filled<float>(count, x_at), y = filled<float>(count, y_at), z = filled<float>(count, x_at);
    {
      gm::scope use(stream_, Access::read(x), Access::read(y), Access::write(z));
      gm::parallel_for(stream_, count, gm::kernels::triad{3.0f, in(use, x), in(use, y), out(use, z)});
    }
    expect_elements(
        z, [&](std::size_t i) { return x_at(i) + 3 * y_at(i); }, "stream");
  }

  void strided() {
    constexpr std::size_t count = 3'000 * scale, stride = 33;
    auto from = filled<word>(count * stride, mixed);
    auto to = filled<word>(count, [](std::size_t) { return 0; });
    {
      gm::scope use(stream_, Access::read(from), Access::write(to));
      gm::parallel_for(stream_, count, gm::kernels::strided{in(use, from), out(use, to), stride});
    }
    expect_elements(
        to, [](std::size_t i) { return mixed(i * stride); }, "strided");
  }

  void gather() {
    constexpr std::size_t count = 50'000 / scale, sources = 80'000 * scale;
    const auto place = [](std::size_t i) { return mixed(i) % sources; };
    auto from = filled<wide>(sources, mixed);
    auto places = filled<word>(count, place);
    auto to = filled<wide>(count, [](std::size_t) { return 0; });
    {
      gm::scope use(stream_, Access::read(from), Access::read(places), Access::write(to));
      gm::parallel_for(stream_, count, gm::kernels::gather{in(use, from), in(use, places), out(use, to)});
    }
    expect_elements(
        to, [&](std::size_t i) { return wide{mixed(place(i))}; }, "gather");
  }

  void scatter_add() {
    scatter_add_of<std::int32_t>("scatter-add of int32");
    scatter_add_of<wide>("scatter-add of uint64");
    scatter_add_of<float>("scatter-add of float");
    scatter_add_of<double>("scatter-add of double");
  }

  // Few places, so that many additions meet. Sums are small whole numbers, so they are exact in any order.
  template <class T>
  void scatter_add_of(const char* what) {
    constexpr std::size_t count = 30'000, sums = 37;
    const auto value = [](std::size_t i) { return static_cast<T>(static_cast<int>(i % 11) + (i % 2 == 0 ? 5 : -5)); };
    const auto place = [](std::size_t i) { return mixed(i) % sums; };
    auto from = filled<T>(count, value);
    auto places = filled<word>(count, place);
    auto to = filled<T>(sums, [](std::size_t i) { return i; });
    {
      gm::scope use(stream_, Access::read(from), Access::read(places), Access::read_write(to));
      gm::parallel_for(stream_, count, gm::kernels::scatter_add{in(use, from), in(use, places), out(use, to)});
    }
    std::vector<T> expected(sums);
    for (std::size_t s = 0; s < sums; ++s) expected[s] = static_cast<T>(s);
    for (std::size_t i = 0; i < count; ++i) expected[place(i)] += value(i);
    expect_elements(
        to, [&](std::size_t s) { return expected[s]; }, what);
  }

  void pointer_chase() {
    constexpr std::size_t places = 40'000 * scale, chases = 1'000 / scale, steps = 100;
    auto next = filled<word>(places, [](std::size_t i) { return mixed(i) % places; });
    auto starts = filled<word>(chases, [](std::size_t i) { return i * 7 % places; });
    auto ends = filled<word>(chases, [](std::size_t) { return 0; });
    {
      gm::scope use(stream_, Access::read(next), Access::read(starts), Access::write(ends));
      gm::parallel_for(stream_, chases,
                       gm::kernels::pointer_chase{in(use, next), in(use, starts), out(use, ends), steps});
    }
    const auto chased = [&](std::size_t i) {
      word here = starts[i];
      for (std::size_t step = 0; step < steps; ++step) here = next[here];
      return here;
    };
    expect_elements(ends, chased, "pointer chase");
  }

  void stencil() {
    for (const auto& [width, height] : {std::pair<std::size_t, std::size_t>{191, 67 * scale}, {1, 5}, {4, 1}, {3, 3}}) {
      const std::size_t w = width, h = height;
      auto from = filled<word>(w * h, mixed);
      auto to = filled<word>(w * h, [](std::size_t) { return 0; });
      {
        gm::scope use(stream_, Access::read(from), Access::write(to));
        gm::parallel_for(stream_, w * h, gm::kernels::stencil{in(use, from), out(use, to), w, h, 5u, 3u});
      }
      const auto cell = [&](std::size_t i) {
        const bool is_rim = i < w || i >= w * (h - 1) || i % w == 0 || i % w == w - 1;
        return is_rim ? from[i] : 5 * from[i] + 3 * (from[i - w] + from[i - 1] + from[i + 1] + from[i + w]);
      };
      expect_elements(to, cell, "stencil");
    }
  }

  // Rows of 0 to 12 entries.
  static gm::vector<wide> row_offsets(std::size_t rows) {
    gm::vector<wide> offsets(rows + 1);
    for (std::size_t row = 0; row < rows; ++row) offsets[row + 1] = offsets[row] + mixed(row) % 13;
    return offsets;
  }

  void spmv() {
    constexpr std::size_t rows = 5'000, width = 4'000;
    auto offsets = row_offsets(rows);
    auto columns = filled<word>(offsets[rows], [](std::size_t i) { return mixed(i) % width; });
    auto values = filled<double>(offsets[rows], [](std::size_t i) { return i % 9; });
    auto x = filled<double>(width, [](std::size_t i) { return i % 101; });
    auto y = filled<double>(rows, [](std::size_t) { return -1; }), sums = y;
    {
      gm::scope use(stream_, Access::read(offsets), Access::read(columns), Access::read(values), Access::read(x),
                    Access::write(y), Access::write(sums));
      gm::parallel_for(stream_, rows,
                       gm::kernels::spmv{in(use, offsets), in(use, columns), in(use, values), in(use, x), out(use, y)});
      gm::parallel_for(
          stream_, rows,
          gm::kernels::spmv{in(use, offsets), in(use, columns), constant<double>{1}, in(use, x), out(use, sums)});
    }
    std::vector<double> expected(rows), expected_sums(rows);
    for (std::size_t row = 0; row < rows; ++row) {
      for (wide k = offsets[row]; k < offsets[row + 1]; ++k) {
        expected[row] += values[k] * x[columns[k]];
        expected_sums[row] += x[columns[k]];
      }
    }
    expect_elements(
        y, [&](std::size_t row) { return expected[row]; }, "sparse matrix-vector");
    expect_elements(
        sums, [&](std::size_t row) { return expected_sums[row]; }, "sparse matrix-vector of ones");
  }

  // The nodes' edges in one piece for the CPU, and in two tiles for the device.
  void bfs() {
    constexpr std::size_t nodes = 6'000, seam = 2'500;
    const auto offsets = row_offsets(nodes);
    auto targets = filled<word>(offsets[nodes], [](std::size_t i) { return mixed(i) % (nodes - 100); });
    std::vector<word> expected(nodes, unreached), order{0};
    expected[0] = 0;
    for (std::size_t at = 0; at < order.size(); ++at) {
      for (wide k = offsets[order[at]]; k < offsets[order[at] + 1]; ++k) {
        if (expected[targets[k]] != unreached) continue;
        expected[targets[k]] = expected[order[at]] + 1;
        order.push_back(targets[k]);
      }
    }
    gm::vector<wide> low(offsets.begin(), offsets.begin() + seam + 1), high(offsets.begin() + seam, offsets.end());
    for (wide& offset : high) offset -= offsets[seam];
    gm::vector<word> low_targets(targets.begin(), targets.begin() + low.back()),
        high_targets(targets.begin() + low.back(), targets.end());
    auto depths = filled<word>(nodes, [](std::size_t i) { return i == 0 ? 0 : unreached; });
    gm::vector<wide> reached(1, 1);
    for (wide before = 0, depth = 0; reached[0] != before; ++depth) {
      before = reached[0];
      gm::scope use(stream_, Access::read(low), Access::read(low_targets), Access::read(high),
                    Access::read(high_targets), Access::read_write(depths), Access::read_write(reached));
      level(use, low, low_targets, depths, reached, 0, static_cast<word>(depth));
      level(use, high, high_targets, depths, reached, seam, static_cast<word>(depth));
      use.end();
      stream_.synchronize();
    }
    expect(reached[0] == order.size(), "breadth-first search's number of nodes", Access::name);
    expect_elements(
        depths, [&](std::size_t i) { return expected[i]; }, "breadth-first search");
  }

  void level(const gm::scope& use, const gm::vector<wide>& offsets, const gm::vector<word>& targets,
             gm::vector<word>& depths, gm::vector<wide>& reached, std::size_t first_node, word depth) {
    gm::parallel_for(stream_, offsets.size() - 1,
                     gm::kernels::bfs_level{in(use, offsets), in(use, targets), out(use, depths), out(use, reached),
                                            first_node, depth});
  }

  gm::stream stream_;
};

// Up to three arrays of 18 MiB or one of 41 at a time, and a device that may hold 16 MiB of them.
void over_views() {
  gm_options options = gm::default_options();
  options.device_budget_bytes = std::uint64_t{16} << 20;
  gm::init(options);
  if (gm::node_info(1).has_access_map == 0) {
    std::printf("%s has no access map: nothing is seen through views\n", gm::node_info(1).name);
    return;
  }
  patterns<as_view>{}.run();
  expect(gm::stats().node[1].faults != 0, "faults of kernels", as_view::name);
  expect(gm::stats().node[1].evictions != 0, "evictions", as_view::name);
}

}  // namespace

int main() {
  if (gm_node_count() == 0) {
    std::printf("skipped: %s\n", gm_last_error());
    return 77;
  }
  try {
    patterns<as_pointer>{}.run();
    patterns<as_narrow>{}.run();
    gm::shutdown();
    over_views();
  } catch (const std::exception& thrown) {
    std::printf("wrong: %s\n", thrown.what());
    return 1;
  }
  std::printf("%s: %d mistakes\n", gm::node_info(1).name, mistakes);
  return mistakes == 0 ? 0 : 1;
}
