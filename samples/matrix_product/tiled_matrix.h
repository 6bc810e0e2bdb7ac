// SPDX-License-Identifier: Apache-2.0
//
// tiled_matrix.h - a square matrix in managed memory, tile by tile.
//
// A tile is what a scope takes, so each is an allocation of its own, row by row without gaps: one range, whole pages of
// nobody else's, and one piece on a device without a window. Tiles at the right and lower edge may be smaller.
#ifndef GMEM_SAMPLES_MATRIX_PRODUCT_TILED_MATRIX_H
#define GMEM_SAMPLES_MATRIX_PRODUCT_TILED_MATRIX_H

#include <algorithm>
#include <cstddef>
#include <gmem/gmem.hpp>
#include <vector>

class tiled_matrix {
 public:
  using tile_elements = gm::unique_ptr<float[]>;

  // Contents undefined.
  tiled_matrix(std::size_t side, std::size_t tile_side) : side_(side), tile_side_(tile_side) {
    for (std::size_t i = 0; i < tiles_a_side(); ++i) {
      for (std::size_t j = 0; j < tiles_a_side(); ++j) {
        tiles_.push_back(gm::make_unique_for_overwrite<float[]>(length(i) * length(j)));
      }
    }
  }

  std::size_t side() const { return side_; }
  std::size_t tiles_a_side() const { return (side_ + tile_side_ - 1) / tile_side_; }

  // Rows of the i-th row of tiles, or columns of the i-th column of tiles.
  std::size_t length(std::size_t i) const { return std::min(tile_side_, side_ - i * tile_side_); }

  const tile_elements& tile(std::size_t i, std::size_t j) const { return tiles_[i * tiles_a_side() + j]; }

  // The element, for the CPU.
  float& at(std::size_t row, std::size_t column) const {
    const std::size_t i = row / tile_side_, j = column / tile_side_;
    return tile(i, j)[row % tile_side_ * length(j) + column % tile_side_];
  }

  // Calls visit(row, column, element) for every element, by the CPU, tile after tile.
  template <class Visit>
  void each(Visit visit) const {
    for (std::size_t i = 0; i < tiles_a_side(); ++i) {
      for (std::size_t j = 0; j < tiles_a_side(); ++j) {
        float* element = tile(i, j).get();
        for (std::size_t row = i * tile_side_; row < i * tile_side_ + length(i); ++row) {
          for (std::size_t column = j * tile_side_; column < j * tile_side_ + length(j); ++column) {
            visit(row, column, *element++);
          }
        }
      }
    }
  }

 private:
  std::size_t side_, tile_side_;
  std::vector<tile_elements> tiles_;
};

#endif  // GMEM_SAMPLES_MATRIX_PRODUCT_TILED_MATRIX_H
