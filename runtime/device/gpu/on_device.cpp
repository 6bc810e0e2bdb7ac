// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/on_device.h"

#include <cstdio>

#include "device/gpu/gpu_error.h"

namespace gm::device::gpu {

on_device::~on_device() {
  vendor::error error = vendor::leave(&before_);
  if (error != vendor::success) {
    ignore(error);
    error = vendor::leave(&before_);
  }
  if (error != vendor::success) {
    std::fprintf(stderr, "gmem %s: a thread could not be set back to its own device: %s\n", vendor::name,
                 vendor::describe(error));
  }
  ignore(error);
  ignore(error_);
}

}  // namespace gm::device::gpu
