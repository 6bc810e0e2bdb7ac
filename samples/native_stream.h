// SPDX-License-Identifier: Apache-2.0
//
// native_stream.h - a stream as the libraries of a GPU's vendor take it.
#ifndef GMEM_SAMPLES_NATIVE_STREAM_H
#define GMEM_SAMPLES_NATIVE_STREAM_H

#include <cstring>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <optional>
#include <string>

namespace sample {

#if defined(__HIPCC__)
inline constexpr const char* compiled_for = "hip";
inline bool make_current(int device) { return hipSetDevice(device) == hipSuccess; }
#elif defined(__CUDACC__)
inline constexpr const char* compiled_for = "cuda";
inline bool make_current(int device) { return cudaSetDevice(device) == cudaSuccess; }
#else
inline constexpr const char* compiled_for = "sim";
inline bool make_current(int /*device*/) { return false; }
#endif

// The stream in its device's own API, and that device current in this thread. Nothing where kernels are host code,
// which is the simulated device: the work is then a function for gm::stream::call, or a kernel for gm::parallel_for.
// Throws gm::error: UNSUPPORTED where this program was compiled for another kind of device, DEVICE.
inline std::optional<gm_native_stream> native_stream(gm_stream stream) {
  gm_native_stream native;
  const gm_status asked = gm_stream_native(stream, &native);
  if (asked == GM_ERROR_UNSUPPORTED) return {};
  gm::check(asked);
  if (std::strcmp(native.backend, compiled_for) != 0) {
    throw gm::error(GM_ERROR_UNSUPPORTED,
                    std::string("the device is of ") + native.backend + ", and this program was compiled for " +
                        compiled_for +
                        ": run the one built by the device's compiler, or set GM_BACKEND=" + compiled_for);
  }
  if (!make_current(native.device)) {
    throw gm::error(GM_ERROR_DEVICE, "device " + std::to_string(native.device) + " could not be made current");
  }
  return native;
}

}  // namespace sample

#endif  // GMEM_SAMPLES_NATIVE_STREAM_H
