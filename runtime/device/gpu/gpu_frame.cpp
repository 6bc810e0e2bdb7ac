// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/gpu_frame.h"

#include "device/gpu/gpu_error.h"

namespace gm::device::gpu {

gm_status create_frame(const vendor::context& where, gpu_frame* frame) noexcept {
  *frame = {};
  const vendor::error error = vendor::create_memory(where, frame_bytes, &frame->handle);
  return error == vendor::success ? GM_OK : fail_api(error, "creating a frame of device memory");
}

gm_status map_frame(std::uint64_t address, const gpu_frame& frame, const std::vector<int>& peers) noexcept {
  vendor::error error = vendor::map(address, frame_bytes, frame.handle);
  if (error != vendor::success) return fail_api(error, "mapping a frame");
  error = vendor::allow_access(address, frame_bytes, peers.data(), peers.size());
  if (error == vendor::success) return GM_OK;
  const gm_status status = fail_api(error, "giving access to a frame");
  ignore(vendor::unmap(address, frame_bytes));
  return status;
}

}  // namespace gm::device::gpu
