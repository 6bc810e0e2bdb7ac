// SPDX-License-Identifier: Apache-2.0
// error_class.h - what a vendor's error means for us. Its number and words stay the vendor's.
#pragma once

#include <cstdint>

namespace gm::device::gpu {

enum class error_class : std::uint8_t {
  none,       // it worked
  not_ready,  // the event has not happened yet
  no_memory,  // of the device, or locked memory of the host
  no_device,  // no driver, no device, or none of this kind
  lacking,    // the driver or the device cannot do this at all
  lost,       // the context is gone for good: an illegal access in a kernel, a device that fell off the bus
  captured,   // into a graph, and so not begun: nothing of it is on the device
  other
};

}  // namespace gm::device::gpu
