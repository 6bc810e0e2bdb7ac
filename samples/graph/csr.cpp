// SPDX-License-Identifier: Apache-2.0
#include "csr.h"

#include <algorithm>
#include <utility>

namespace sample {

namespace {

constexpr std::uint64_t tiles_to_budget = 8;
constexpr std::uint64_t tile_bytes_min = std::uint64_t{1} << 16;

std::uint64_t bytes_an_entry(bool has_values) { return sizeof(std::uint32_t) + (has_values ? sizeof(double) : 0); }

}  // namespace

csr_tile::csr_tile(std::uint32_t first_row, std::uint32_t rows, std::uint64_t entries, bool has_values)
    : first_row_(first_row),
      rows_(rows),
      entries_(entries),
      has_values_(has_values),
      memory_(gm::make_unique_for_overwrite<std::byte[]>(sizeof(std::uint64_t) * (std::uint64_t{rows} + 1) +
                                                         entries * bytes_an_entry(has_values))) {}

// The widest first, so that each is aligned.
csr_arrays csr_tile::arrays(std::byte* first) const {
  auto* const offsets = reinterpret_cast<std::uint64_t*>(first);
  auto* const values = reinterpret_cast<double*>(offsets + rows_ + 1);
  auto* const columns = reinterpret_cast<std::uint32_t*>(values + (has_values_ ? entries_ : 0));
  return {offsets, columns, has_values_ ? values : nullptr};
}

gm::access csr_tile::on_demand() const {
  return gm::on_demand(static_cast<const std::byte*>(memory_.get()), memory_.get_deleter().count());
}

csr_views csr_tile::views(const gm::scope& use) const {
  const csr_arrays here = on_host();
  const std::uint64_t* const offsets = here.offsets;
  const std::uint32_t* const columns = here.columns;
  const double* const values = here.values;
  return {{use, offsets, std::size_t{rows_} + 1}, {use, columns, entries_}, {use, values, has_values_ ? entries_ : 0}};
}

csr::csr(const edge_list& list, row_of row, entry_values values, std::uint64_t tile_bytes_max) {
  const bool by_source = row == row_of::edge_source;
  const std::uint32_t rows = by_source ? list.rows : list.columns;
  // First how many entries each row has, then where in its tile the next one goes.
  std::vector<std::uint64_t> places(rows);
  for (const edge& e : list.edges) ++places[by_source ? e.from : e.to];

  std::vector<std::uint32_t> tile_of(rows);
  for (std::uint32_t first = 0; first < rows;) {
    std::uint64_t entries = 0, bytes = 0;
    std::uint32_t end = first;
    for (; end < rows; ++end) {
      bytes += sizeof(std::uint64_t) + places[end] * bytes_an_entry(values == entry_values::kept);
      if (end != first && bytes > tile_bytes_max) break;
      entries += places[end];
    }
    tiles_.emplace_back(first, end - first, entries, values == entry_values::kept);
    std::uint64_t* const offsets = tiles_.back().on_host().offsets;
    std::uint64_t offset = 0;
    for (std::uint32_t i = first; i < end; ++i) {
      offsets[i - first] = offset;
      offset += std::exchange(places[i], offset);
      tile_of[i] = static_cast<std::uint32_t>(tiles_.size() - 1);
    }
    offsets[end - first] = offset;
    first = end;
  }

  for (std::size_t i = 0; i < list.edges.size(); ++i) {
    const edge& e = list.edges[i];
    const std::uint32_t entry_row = by_source ? e.from : e.to;
    const csr_arrays tile = tiles_[tile_of[entry_row]].on_host();
    const std::uint64_t place = places[entry_row]++;
    tile.columns[place] = by_source ? e.to : e.from;
    if (tile.values != nullptr) tile.values[place] = list.values.empty() ? 1 : list.values[i];
  }
}

std::uint64_t tile_bytes_for(const edge_list& list, entry_values values, std::uint64_t budget_bytes) {
  const std::uint64_t whole = sizeof(std::uint64_t) * (std::uint64_t{std::max(list.rows, list.columns)} + 1) +
                              list.edges.size() * bytes_an_entry(values == entry_values::kept);
  if (whole <= budget_bytes / 2) return one_tile;
  return std::max(budget_bytes / tiles_to_budget, tile_bytes_min);
}

}  // namespace sample
