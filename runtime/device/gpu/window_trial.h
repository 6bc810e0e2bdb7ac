// SPDX-License-Identifier: Apache-2.0
// window_trial.h - whether a frame in the window is memory of the device, to everything that will work there.
//
// Drivers exist that say they map memory, and whose mapping only copies from and to the host find: those may go by a
// way of their own. So the device itself fills the frame at both ends and carries that to an ordinary allocation, and
// back again; then the host's copies have to find the same. Threads: any, on the device. Leaves nothing behind.
#pragma once

#include <cstdint>

#include "device/gpu/vendor.h"

namespace gm::device::gpu {

// frame: where one is mapped, which may be overwritten. The API's error, if it was refused something; else *works says
// whether all was found as it was written.
vendor::error try_window(std::uint64_t frame, std::uint64_t frame_bytes, bool* works) noexcept;
// The same, of a second address of that frame: what is written at the one has to be found at the other.
vendor::error try_alias(std::uint64_t frame, std::uint64_t alias, std::uint64_t frame_bytes, bool* works) noexcept;

}  // namespace gm::device::gpu
