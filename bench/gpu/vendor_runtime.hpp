// SPDX-License-Identifier: Apache-2.0
// vendor_runtime.hpp - what the comparison needs of CUDA or HIP, under one name. Compiled by neither, as on a machine
// with nothing but simulated devices, the ways that are the vendor's are not there (has_vendor is false), and what is
// left works on ordinary memory.
//
// Every function throws bench_error with the vendor's own words.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "measure.h"

#if defined(__HIPCC__)
#include <hip/hip_runtime.h>
#elif defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

namespace gm::bench::vendor {

#if defined(__HIPCC__) || defined(__CUDACC__)

inline constexpr bool has_vendor = true;

#if defined(__HIPCC__)
#define GM_VENDOR(name) hip##name
#else
#define GM_VENDOR(name) cuda##name
#endif

using stream = GM_VENDOR(Stream_t);

inline void check(GM_VENDOR(Error_t) e, const char* what) {
  if (e != GM_VENDOR(Success)) throw bench_error(std::string(what) + ": " + GM_VENDOR(GetErrorString)(e));
}

inline stream make_stream() {
  stream made{};
  check(GM_VENDOR(StreamCreateWithFlags)(&made, GM_VENDOR(StreamNonBlocking)), "making a stream");
  return made;
}
inline void free_stream(stream s) { static_cast<void>(GM_VENDOR(StreamDestroy)(s)); }
inline void synchronize(stream s) { check(GM_VENDOR(StreamSynchronize)(s), "waiting for a stream"); }

inline void* device_memory(std::size_t bytes) {
  void* made = nullptr;
  check(GM_VENDOR(Malloc)(&made, bytes), "device memory");
  return made;
}
inline void free_device_memory(void* p) { static_cast<void>(GM_VENDOR(Free)(p)); }

// Pinned, and mapped for the device: to_device() is the address by which a kernel reaches it.
inline void* pinned_memory(std::size_t bytes) {
  void* made = nullptr;
#if defined(__HIPCC__)
  check(hipHostMalloc(&made, bytes, hipHostMallocMapped), "pinned memory");
#else
  check(cudaHostAlloc(&made, bytes, cudaHostAllocMapped), "pinned memory");
#endif
  return made;
}
inline void free_pinned_memory(void* p) {
#if defined(__HIPCC__)
  static_cast<void>(hipHostFree(p));
#else
  static_cast<void>(cudaFreeHost(p));
#endif
}
inline void* to_device(void* pinned) {
  void* there = nullptr;
  check(GM_VENDOR(HostGetDevicePointer)(&there, pinned, 0), "the address of pinned memory");
  return there;
}

// Null where the device has none.
inline void* managed_memory(std::size_t bytes) {
  int has = 0;
#if defined(__HIPCC__)
  if (hipDeviceGetAttribute(&has, hipDeviceAttributeManagedMemory, 0) != hipSuccess || has == 0) return nullptr;
#else
  if (cudaDeviceGetAttribute(&has, cudaDevAttrManagedMemory, 0) != cudaSuccess || has == 0) return nullptr;
#endif
  void* made = nullptr;
  if (GM_VENDOR(MallocManaged)(&made, bytes) != GM_VENDOR(Success)) {
    static_cast<void>(GM_VENDOR(GetLastError)());
    return nullptr;
  }
  return made;
}

inline void copy_to_device(void* to, const void* from, std::size_t bytes, stream s) {
  check(GM_VENDOR(MemcpyAsync)(to, from, bytes, GM_VENDOR(MemcpyHostToDevice), s), "copying to the device");
}
inline void copy_to_host(void* to, const void* from, std::size_t bytes, stream s) {
  check(GM_VENDOR(MemcpyAsync)(to, from, bytes, GM_VENDOR(MemcpyDeviceToHost), s), "copying to the host");
}

enum class place : bool { host, device };

inline void prefetch(void* p, std::size_t bytes, place where, stream s) {
#if defined(__HIPCC__)
  check(hipMemPrefetchAsync(p, bytes, where == place::host ? hipCpuDeviceId : 0, s), "prefetching managed memory");
#elif CUDART_VERSION >= 13000
  const cudaMemLocation to{where == place::host ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice, 0};
  check(cudaMemPrefetchAsync(p, bytes, to, 0, s), "prefetching managed memory");
#else
  check(cudaMemPrefetchAsync(p, bytes, where == place::host ? cudaCpuDeviceId : 0, s), "prefetching managed memory");
#endif
}

inline void advise_read_mostly(void* p, std::size_t bytes, bool on) {
#if defined(__HIPCC__)
  check(hipMemAdvise(p, bytes, on ? hipMemAdviseSetReadMostly : hipMemAdviseUnsetReadMostly, 0), "advising");
#else
  const auto what = on ? cudaMemAdviseSetReadMostly : cudaMemAdviseUnsetReadMostly;
#if CUDART_VERSION >= 13000
  check(cudaMemAdvise(p, bytes, what, cudaMemLocation{cudaMemLocationTypeDevice, 0}), "advising");
#else
  check(cudaMemAdvise(p, bytes, what, 0), "advising");
#endif
#endif
}

#undef GM_VENDOR

#else

inline constexpr bool has_vendor = false;
using stream = void*;
inline stream make_stream() { return nullptr; }
inline void free_stream(stream) {}
inline void synchronize(stream) {}
inline void* device_memory(std::size_t bytes) { return std::malloc(bytes); }
inline void free_device_memory(void* p) { std::free(p); }
inline void* pinned_memory(std::size_t) { throw bench_error("no vendor, no pinned memory"); }
inline void free_pinned_memory(void*) {}
inline void* to_device(void* pinned) { return pinned; }
inline void* managed_memory(std::size_t) { return nullptr; }
inline void copy_to_device(void* to, const void* from, std::size_t bytes, stream) { std::memcpy(to, from, bytes); }
inline void copy_to_host(void* to, const void* from, std::size_t bytes, stream) { std::memcpy(to, from, bytes); }
enum class place : bool { host, device };
inline void prefetch(void*, std::size_t, place, stream) {}
inline void advise_read_mostly(void*, std::size_t, bool) {}

#endif

}  // namespace gm::bench::vendor
