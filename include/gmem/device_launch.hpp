// SPDX-License-Identifier: Apache-2.0
//
// device_launch.hpp - gm::parallel_for's way onto a device that has a compiler of its own. Part of parallel.hpp.
//
// Read by nvcc or hipcc it launches the body as a kernel on the native stream; read by a host compiler it has nothing
// to launch. The kernel is compiled with the program, so the library needs to know nothing of it.
#ifndef GMEM_DEVICE_LAUNCH_HPP
#define GMEM_DEVICE_LAUNCH_HPP

#include <gmem/gmem.h>
#include <gmem/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <type_traits>

#if defined(__HIPCC__)
#include <hip/hip_runtime.h>
#elif defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

namespace gm {
inline namespace v0 {
namespace detail {

#if defined(__CUDACC__) || defined(__HIPCC__)

#if defined(__HIPCC__)
struct device_api {
  static constexpr const char* backend = "hip";
  using error = hipError_t;
  static const char* words(error e) { return hipGetErrorString(e); }
  static error get_device(int* device) { return hipGetDevice(device); }
  static error set_device(int device) { return hipSetDevice(device); }
  static error launch(const void* kernel, dim3 grid, dim3 block, void** arguments, void* stream) {
    return hipLaunchKernel(kernel, grid, block, arguments, 0, static_cast<hipStream_t>(stream));
  }
};
#else
struct device_api {
  static constexpr const char* backend = "cuda";
  using error = cudaError_t;
  static const char* words(error e) { return cudaGetErrorString(e); }
  static error get_device(int* device) { return cudaGetDevice(device); }
  static error set_device(int device) { return cudaSetDevice(device); }
  static error launch(const void* kernel, dim3 grid, dim3 block, void** arguments, void* stream) {
    return cudaLaunchKernel(kernel, grid, block, arguments, 0, static_cast<cudaStream_t>(stream));
  }
};
#endif

inline void check_device(device_api::error e, const char* what) {
  if (e != device_api::error{}) throw error(GM_ERROR_DEVICE, std::string(what) + ": " + device_api::words(e));
}

// The stream's device is current until the end of the block, then what was so before.
class current_device {
 public:
  explicit current_device(int wanted) {
    check_device(device_api::get_device(&before_), "asking for the current device");
    is_changed_ = before_ != wanted;
    if (is_changed_) check_device(device_api::set_device(wanted), "making a device current");
  }
  current_device(const current_device&) = delete;
  current_device& operator=(const current_device&) = delete;
  ~current_device() {
    if (is_changed_) static_cast<void>(device_api::set_device(before_));
  }

 private:
  int before_ = 0;
  bool is_changed_ = false;
};

// Any count is covered by any grid: each thread goes on by the number of threads there are.
template <class Body>
__global__ void device_kernel(std::size_t count, Body body) {
  const Body& shared = body;
  const std::size_t threads = std::size_t{gridDim.x} * blockDim.x;
  std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  for (;;) {
    shared(i);
    if (count - i <= threads) return;
    i += threads;
  }
}

// nvcc wraps its lambdas in a class that is not trivially copyable and that it copies to kernels all the same.
#if defined(__CUDACC__) && !defined(__HIPCC__)
template <class Body>
inline constexpr bool goes_to_devices = std::is_trivially_copyable_v<Body> ||
                                        __nv_is_extended_host_device_lambda_closure_type(Body);
#else
template <class Body>
inline constexpr bool goes_to_devices = std::is_trivially_copyable_v<Body>;
#endif

// False where the stream's kernels are host code. True: launched, or skipped because the stream has failed.
template <class Body>
bool launch_on_device(gm_stream stream, std::size_t count, const Body& body) {
  gm_native_stream native;
  const gm_status asked = gm_stream_native(stream, &native);
  if (asked == GM_ERROR_UNSUPPORTED) return false;
  check(asked);
  if (std::strcmp(native.backend, device_api::backend) != 0) {
    throw error(GM_ERROR_UNSUPPORTED, std::string("the stream is of a ") + native.backend +
                                          " device, and this source was compiled for " + device_api::backend);
  }
  if (native.has_failed != 0) return true;
  if constexpr (goes_to_devices<Body>) {
    constexpr unsigned threads_a_block = 256;
    constexpr std::size_t blocks_max = std::size_t{1} << 20;
    const std::size_t blocks = std::min(blocks_max, (count - 1) / threads_a_block + 1);
    const current_device here(native.device);
    void* arguments[] = {&count, const_cast<Body*>(&body)};
    check_device(
        device_api::launch(reinterpret_cast<const void*>(&device_kernel<Body>), dim3(static_cast<unsigned>(blocks)),
                           dim3(threads_a_block), arguments, native.stream),
        "launching a kernel");
  } else {
    throw error(GM_ERROR_UNSUPPORTED, "the body of a kernel is not trivially copyable: a device takes its bytes alone");
  }
  return true;
}

#else

template <class Body>
bool launch_on_device(gm_stream, std::size_t, const Body&) noexcept {
  return false;
}

#endif

}  // namespace detail
}  // namespace v0
}  // namespace gm

#endif  // GMEM_DEVICE_LAUNCH_HPP
