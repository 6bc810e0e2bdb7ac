// SPDX-License-Identifier: Apache-2.0
// registering_probe.h - whether a driver registers and unregisters host memory beside work of its device. One that
// waits for all streams there (a HIP implementation is known to, in hipHostUnregister) must not be asked: a function in
// stream order, which every later piece of work waits for, may itself be waiting for host memory that is to be
// unregistered.
#pragma once

#include "device/gpu/gpu_device.h"

namespace gm::device::gpu {

// Tried while a stream of the device is held up, for half a second at most. False also where it cannot be
// tried. The device is open, but nobody knows of it yet. Leaves nothing behind.
bool registers_beside_work(device& where) noexcept;

}  // namespace gm::device::gpu
