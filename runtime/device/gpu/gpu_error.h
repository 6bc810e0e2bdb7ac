// SPDX-License-Identifier: Apache-2.0
// gpu_error.h - an error of the vendor's API as a gm_status, with the API's own words in the error text.
//
// Threads: any; the sentence is the calling thread's (device/parts/error_text.h).
#pragma once

#include "device/gpu/vendor.h"
#include "device/parts/error_text.h"
#include "gmem/gmem.h"

namespace gm::device::gpu {

inline gm_status status_of(vendor::error error) noexcept {
  switch (vendor::classify(error)) {
    case error_class::none:
      return GM_OK;
    case error_class::no_memory:
      return GM_ERROR_NO_MEMORY;
    case error_class::no_device:
    case error_class::lacking:
      return GM_ERROR_UNSUPPORTED;
    case error_class::not_ready:
    case error_class::lost:
    case error_class::captured:
    case error_class::other:
      break;
  }
  return GM_ERROR_DEVICE;
}

// The status of an error that was just returned; what: "copying to the device".
inline gm_status fail_api(vendor::error error, const char* what) noexcept {
  const gm_status status = fail(status_of(error), "%s: %s", what, vendor::describe(error));
  vendor::forget_error(error);
  return status;
}

// Where giving back must not fail, and a lost device has nothing left to give back.
inline void ignore(vendor::error error) noexcept {
  if (error != vendor::success) vendor::forget_error(error);
}

}  // namespace gm::device::gpu
