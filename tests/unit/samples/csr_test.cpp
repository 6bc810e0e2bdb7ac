// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>
#include <utility>
#include <vector>

#include "samples/graph/csr.h"

namespace {

using sample::entry_values;
using sample::row_of;
using entries = std::vector<std::pair<std::uint32_t, double>>;

constexpr std::uint64_t no_limit = std::numeric_limits<std::uint64_t>::max();

// All rows of all tiles.
std::vector<entries> rows_of(const sample::csr& matrix) {
  std::vector<entries> rows;
  for (const sample::csr_tile& tile : matrix.tiles()) {
    EXPECT_EQ(tile.first_row(), rows.size());
    const sample::csr_arrays a = tile.on_host();
    EXPECT_EQ(a.offsets[0], 0u);
    for (std::uint32_t i = 0; i < tile.rows(); ++i) {
      rows.emplace_back();
      for (std::uint64_t k = a.offsets[i]; k < a.offsets[i + 1]; ++k) {
        rows.back().emplace_back(a.columns[k], a.values != nullptr ? a.values[k] : 1);
      }
    }
  }
  return rows;
}

sample::edge_list small_matrix() {
  sample::edge_list list;
  list.rows = 4;
  list.columns = 3;
  list.edges = {{3, 2}, {0, 1}, {3, 0}, {0, 0}, {3, 2}};
  list.values = {1.5, 2, 3, 4, 5};
  return list;
}

TEST(csr, rows_keep_the_order_of_the_list) {
  const sample::csr made(small_matrix(), row_of::edge_source, entry_values::kept, no_limit);
  EXPECT_EQ(made.tiles().size(), 1u);
  EXPECT_EQ(rows_of(made), (std::vector<entries>{{{1, 2}, {0, 4}}, {}, {}, {{2, 1.5}, {0, 3}, {2, 5}}}));
}

TEST(csr, rows_may_be_the_edges_targets) {
  const sample::csr made(small_matrix(), row_of::edge_target, entry_values::left_out, no_limit);
  EXPECT_EQ(rows_of(made), (std::vector<entries>{{{3, 1}, {0, 1}}, {{0, 1}}, {{3, 1}, {3, 1}}}));
}

TEST(csr, tiles_are_whole_rows_of_no_more_bytes) {
  const auto list = sample::generated_graph(1000);
  const auto whole = rows_of(sample::csr(list, row_of::edge_source, entry_values::kept, no_limit));
  for (const std::uint64_t bytes : {1u, 5'000u, 100'000u}) {
    const sample::csr tiled(list, row_of::edge_source, entry_values::kept, bytes);
    EXPECT_EQ(rows_of(tiled), whole);
    EXPECT_GT(tiled.tiles().size(), 1u);
    for (const sample::csr_tile& tile : tiled.tiles()) {
      if (tile.rows() > 1) EXPECT_LE(tile.memory().get_deleter().count(), bytes + sizeof(std::uint64_t));
    }
  }
}

TEST(csr, tiles_are_as_large_as_the_budget_allows) {
  const auto list = sample::generated_graph(100'000);  // 1.6 million entries, 4 or 12 bytes each
  EXPECT_EQ(sample::tile_bytes_for(list, entry_values::kept, 1 << 30), no_limit);
  EXPECT_EQ(sample::tile_bytes_for(list, entry_values::left_out, 16 << 20), no_limit);
  EXPECT_EQ(sample::tile_bytes_for(list, entry_values::kept, 16 << 20), 2u << 20);
  EXPECT_EQ(sample::tile_bytes_for(list, entry_values::kept, 1), 1u << 16);
}

}  // namespace
