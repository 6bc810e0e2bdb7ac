// SPDX-License-Identifier: Apache-2.0
// gpu_frame.h - 2 MiB of a device's physical memory, and the calls that make and map it.
//
// A frame may be mapped at several addresses at once: in the window, where it stands for a block, and at its lasting
// address (lasting_addresses.h). One that has a lasting address is ours until the device is closed.
// Errors are in words, with the API's own. Threads: any, on the device. Units: bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "device/gpu/vendor.h"
#include "gmem/gmem.h"

namespace gm::device::gpu {

inline constexpr std::uint64_t frame_bytes = std::uint64_t{2} << 20;

// All zero is none.
struct gpu_frame {
  vendor::memory handle;
  std::uint64_t lasting;  // address; 0: it has none

  explicit operator bool() const noexcept { return handle != vendor::no_memory; }
};
static_assert(vendor::no_memory == vendor::memory{});

gm_status create_frame(const vendor::context& where, gpu_frame* frame) noexcept;
// For all of the peers. Nothing is mapped when it fails.
gm_status map_frame(std::uint64_t address, const gpu_frame& frame, const std::vector<int>& peers) noexcept;

}  // namespace gm::device::gpu
