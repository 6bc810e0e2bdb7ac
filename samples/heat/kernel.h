// SPDX-License-Identifier: Apache-2.0
//
// kernel.h - one step of the diffusion as device work.
#ifndef GMEM_SAMPLES_HEAT_KERNEL_H
#define GMEM_SAMPLES_HEAT_KERNEL_H

#include <cstddef>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>

#include "melting.h"

namespace heat {

// Queues it: every float of next is written. The addresses are the device's; what they point to is within a scope.
// static: nvcc makes of a lambda something that belongs to one source.
static void queue_step(gm::stream& stream, const float* now, float* next, const task& t) {
  const std::size_t row = t.row(), inside = t.count() - 2 * row;
  gm::parallel_for(
      stream, 2 * row, GM_LAMBDA(std::size_t i) {
        const std::size_t at = i < row ? i : i + inside;  // the two rows that stay
        next[at] = now[at];
      });
  gm::parallel_for(
      stream, inside, GM_LAMBDA(std::size_t i) { next[row + i] = diffused(now + row + i, row); });
}

}  // namespace heat

#endif  // GMEM_SAMPLES_HEAT_KERNEL_H
