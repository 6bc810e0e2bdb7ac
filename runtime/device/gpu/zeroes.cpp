// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/zeroes.h"

#include <algorithm>
#include <cstring>

#include "device/gpu/gpu_error.h"

namespace gm::device::gpu {

void zeroes::open() noexcept {
  const vendor::error error = vendor::allocate_pinned(bytes_at_once, &memory_);
  if (error != vendor::success) {
    ignore(error);
    memory_ = nullptr;
    return;
  }
  std::memset(memory_, 0, bytes_at_once);
}

void zeroes::close() noexcept {
  if (memory_ != nullptr) ignore(vendor::free_pinned(memory_));
  memory_ = nullptr;
}

vendor::error zeroes::fill(std::uint64_t address, std::uint64_t bytes, vendor::stream on) const noexcept {
  if (memory_ == nullptr) return vendor::fill(address, 0, bytes, on);
  const auto source = reinterpret_cast<std::uint64_t>(memory_);
  vendor::error error = vendor::success;
  for (std::uint64_t at = 0; at < bytes && error == vendor::success; at += bytes_at_once) {
    error = vendor::copy({address + at, source, std::min(bytes_at_once, bytes - at), direction::host_to_device}, on);
  }
  return error;
}

}  // namespace gm::device::gpu
