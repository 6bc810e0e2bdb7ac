// SPDX-License-Identifier: Apache-2.0
//
// csr.h - a graph or a sparse matrix in managed memory, by compressed rows, cut into tiles of whole rows.
//
// A tile is what one scope brings, so that a matrix larger than a device's memory is worked on tile after tile. It is
// one allocation, which a device without a window has in one piece. Vectors over all rows are the program's, and must
// fit beside a tile. Or the matrix is one tile that nobody brings: kernels fetch what they touch of it, through views.
#ifndef GMEM_SAMPLES_GRAPH_CSR_H
#define GMEM_SAMPLES_GRAPH_CSR_H

#include <cstddef>
#include <cstdint>
#include <gmem/gmem.hpp>
#include <gmem/view.hpp>
#include <vector>

#include "edge_list.h"

namespace sample {

// Addresses of a tile's arrays, the host's or a device's. Row first_row + i of the matrix has the entries offsets[i] to
// offsets[i + 1] of columns and values.
struct csr_arrays {
  std::uint64_t* offsets;
  std::uint32_t* columns;
  double* values;  // null unless asked for
};

// The same, for kernels that fetch what they touch.
struct csr_views {
  gm::view<const std::uint64_t> offsets;
  gm::view<const std::uint32_t> columns;
  gm::view<const double> values;  // empty unless asked for
};

class csr_tile {
 public:
  csr_tile(std::uint32_t first_row, std::uint32_t rows, std::uint64_t entries, bool has_values);

  std::uint32_t first_row() const { return first_row_; }
  std::uint32_t rows() const { return rows_; }

  // The tile as a scope takes it.
  const gm::unique_ptr<std::byte[]>& memory() const { return memory_; }
  // ... and as one on demand takes it.
  gm::access on_demand() const;

  csr_arrays on_host() const { return arrays(memory_.get()); }
  // Within a scope over memory(). Throws gm::error as gm::device_pointer does.
  csr_arrays on_device(const gm::stream& stream) const { return arrays(gm::device_pointer(memory_.get(), stream)); }
  // Of a scope with on_demand().
  csr_views views(const gm::scope& use) const;

 private:
  csr_arrays arrays(std::byte* first) const;

  std::uint32_t first_row_, rows_;
  std::uint64_t entries_;
  bool has_values_;
  gm::unique_ptr<std::byte[]> memory_;
};

enum class row_of { edge_source, edge_target };
enum class entry_values { kept, left_out };

class csr {
 public:
  // In a row entries stand in the order of the list. tile_bytes_max: see tile_bytes_for; a row that alone is larger is
  // a tile. Throws a std::bad_alloc.
  csr(const edge_list& list, row_of row, entry_values values, std::uint64_t tile_bytes_max);

  const std::vector<csr_tile>& tiles() const { return tiles_; }

 private:
  std::vector<csr_tile> tiles_;
};

// No tile is larger than this: the matrix is one.
inline constexpr std::uint64_t one_tile = ~std::uint64_t{0};

// How large tiles should be: all in one where that takes no more than half of the budget, else several that fit at
// once beside the vectors, so that the next is copied while one is worked on.
std::uint64_t tile_bytes_for(const edge_list& list, entry_values values, std::uint64_t budget_bytes);

}  // namespace sample

#endif  // GMEM_SAMPLES_GRAPH_CSR_H
