// SPDX-License-Identifier: Apache-2.0
#include "tile_product.h"

#include <gmem/parallel.hpp>
#include <stdexcept>
#include <string>

#include "../native_stream.h"

#if defined(SAMPLE_BLAS)
#include "blas.h"
#endif

#if defined(SAMPLE_BLAS)

class tile_multiplier::library {
 public:
  explicit library(const gm_native_stream& native) {
    check(blas::create(&handle_), "starting");
    check(blas::set_stream(handle_, native.stream), "taking the stream");
  }
  library(const library&) = delete;
  library& operator=(const library&) = delete;
  ~library() { static_cast<void>(blas::destroy(handle_)); }

  static const char* name() { return blas::name; }

  // A BLAS stores matrices column by column. Our rows are its columns, so it sees all three transposed, and the
  // transposed product is the product of the transposed in reverse order. With beta 0 it does not read the result.
  void multiply(const float* left, const float* right, float* result, const product_shape& shape, bool adds) {
    const int rows = static_cast<int>(shape.rows), depth = static_cast<int>(shape.depth),
              columns = static_cast<int>(shape.columns);
    const float alpha = 1, beta = adds ? 1 : 0;
    check(blas::sgemm(handle_, blas::as_it_is, blas::as_it_is, columns, rows, depth, &alpha, right, columns, left,
                      depth, &beta, result, columns),
          "multiplying");
  }

 private:
  static void check(blas::status status, const char* what) {
    if (status != blas::success) {
      throw std::runtime_error(std::string(blas::name) + ", " + what + ": " + blas::words(status));
    }
  }

  blas::handle handle_{};
};

#else

// Never made.
class tile_multiplier::library {
 public:
  explicit library(const gm_native_stream& /*native*/) {}
  static const char* name() { return ""; }
  void multiply(const float*, const float*, float*, const product_shape&, bool) {}
};

#endif

namespace {

#if defined(SAMPLE_BLAS)
constexpr bool has_library = true;
#else
constexpr bool has_library = false;
#endif

// One call of the body makes a strip of a row. Neighbours take the same strip of the rows below, so that the part of
// the right tile they share stays in the cache.
void queue_kernel(gm::stream& stream, const float* left, const float* right, float* result, const product_shape& shape,
                  bool adds) {
  const std::size_t rows = shape.rows, depth = shape.depth, columns = shape.columns;
  gm::parallel_for(
      stream, rows * (columns / columns_a_strip), GM_LAMBDA(std::size_t i) {
        const std::size_t row = i % rows, first = i / rows * columns_a_strip;
        float* to = result + row * columns + first;
        float sums[columns_a_strip];
        for (std::size_t j = 0; j < columns_a_strip; ++j) sums[j] = adds ? to[j] : 0.0f;
        for (std::size_t k = 0; k < depth; ++k) {
          const float factor = left[row * depth + k];
          const float* from = right + k * columns + first;
          for (std::size_t j = 0; j < columns_a_strip; ++j) sums[j] += factor * from[j];
        }
        for (std::size_t j = 0; j < columns_a_strip; ++j) to[j] = sums[j];
      });
}

}  // namespace

tile_multiplier::tile_multiplier(gm::stream& stream) : stream_(stream) {
  const auto native = sample::native_stream(stream);
  if (native && has_library) library_ = std::make_unique<library>(*native);
}

tile_multiplier::~tile_multiplier() = default;

const char* tile_multiplier::name() const { return library_ ? library::name() : "gm::parallel_for"; }

void tile_multiplier::queue(const float* left, const float* right, float* result, const product_shape& shape,
                            bool adds) {
  if (!library_) {
    queue_kernel(stream_, left, right, result, shape, adds);
  } else if (const auto native = sample::native_stream(stream_); native && native->has_failed == 0) {
    library_->multiply(left, right, result, shape, adds);
  }
}
