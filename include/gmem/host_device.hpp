// SPDX-License-Identifier: Apache-2.0
//
// host_device.hpp - the words that begin code for both sides. Part of parallel.hpp; needs nothing else of gmem.
#ifndef GMEM_HOST_DEVICE_HPP
#define GMEM_HOST_DEVICE_HPP

// Begins a function that kernels call, or a member of a type that they use: GM_HOST_DEVICE int twice(int x) { ... }.
#if defined(__CUDACC__) || defined(__HIPCC__)
#define GM_HOST_DEVICE __host__ __device__
#else
#define GM_HOST_DEVICE
#endif

// Begins a kernel's lambda: GM_LAMBDA(size_t i) { ... }. Captures by value; a capture by reference would be the host's.
#define GM_LAMBDA [=] GM_HOST_DEVICE

#endif  // GMEM_HOST_DEVICE_HPP
