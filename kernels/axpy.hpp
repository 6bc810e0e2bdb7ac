// SPDX-License-Identifier: Apache-2.0
// axpy.hpp - y += a * x, the streaming pattern: two reads and a write an element, no reuse.
#ifndef GMEM_KERNELS_AXPY_HPP
#define GMEM_KERNELS_AXPY_HPP

#include <gmem/host_device.hpp>

#include <cstddef>

namespace gm::kernels {

// x and y do not overlap, and are the device's addresses of what an open scope reads and reads and writes.
struct axpy {
  float a;
  const float* x;
  float* y;

  GM_HOST_DEVICE void operator()(std::size_t i) const { y[i] += a * x[i]; }
};

}  // namespace gm::kernels

#endif  // GMEM_KERNELS_AXPY_HPP
