// SPDX-License-Identifier: Apache-2.0
//
// gmem.hpp - unified virtual memory for GPUs, in user space: the C++ interface, header-only over gmem.h.
//
//   gm::vector<float> x(n, 1.0f), y(n, 2.0f);                     // plain memory to the CPU
//   gm::stream stream;                                            // a queue on the first device
//   {
//     gm::scope use(stream, gm::read(x), gm::read_write(y));      // what the work is about to touch
//     const float* from = gm::device_pointer(x.data(), stream);
//     float* to = gm::device_pointer(y.data(), stream);
//     gm::parallel_for(stream, n, GM_LAMBDA(size_t i) { to[i] += 3 * from[i]; });  // of gmem/parallel.hpp
//   }
//   std::cout << y[0];                                            // waits for the kernel, fetches one page
//
// Failing calls throw gm::error, which carries the gm_status and says what to do; what allocates throws a
// std::bad_alloc. Words, units, threads and errors are those of gmem.h. C++20; needs the standard library only.
// Names lie in gm::v0, an inline namespace: write gm::scope. It keeps parts of a program that were compiled against
// different versions of these headers apart.
#ifndef GMEM_GMEM_HPP
#define GMEM_GMEM_HPP

#include <gmem/gmem.h>
#include <gmem/error.hpp>
#include <gmem/extent.hpp>
#include <gmem/memory.hpp>
#include <gmem/movement.hpp>
#include <gmem/runtime.hpp>
#include <gmem/scope.hpp>
#include <gmem/stream.hpp>

#endif  // GMEM_GMEM_HPP
