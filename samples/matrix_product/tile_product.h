// SPDX-License-Identifier: Apache-2.0
//
// tile_product.h - the product of two tiles that are on the device, queued on a stream.
//
// With a vendor's BLAS where the program has one for the device, else by a kernel that every device takes.
#ifndef GMEM_SAMPLES_MATRIX_PRODUCT_TILE_PRODUCT_H
#define GMEM_SAMPLES_MATRIX_PRODUCT_TILE_PRODUCT_H

#include <cstddef>
#include <gmem/gmem.hpp>
#include <memory>

// left is rows x depth, right depth x columns, the result rows x columns. Columns are a multiple of columns_a_strip.
struct product_shape {
  std::size_t rows, depth, columns;
};

inline constexpr std::size_t columns_a_strip = 32;

class tile_multiplier {
 public:
  // The stream must outlive this. Throws gm::error, std::runtime_error (the BLAS would not start).
  explicit tile_multiplier(gm::stream& stream);
  ~tile_multiplier();  // a library's end waits for its device
  tile_multiplier(const tile_multiplier&) = delete;
  tile_multiplier& operator=(const tile_multiplier&) = delete;

  // For people: who multiplies.
  const char* name() const;

  // Queues result = left * right, or result += left * right. Device addresses, of tiles stored row by row without gaps
  // and within open scopes. Throws gm::error, std::runtime_error.
  void queue(const float* left, const float* right, float* result, const product_shape& shape, bool adds);

 private:
  class library;

  gm::stream& stream_;
  std::unique_ptr<library> library_;  // null: the kernel
};

#endif  // GMEM_SAMPLES_MATRIX_PRODUCT_TILE_PRODUCT_H
