// SPDX-License-Identifier: Apache-2.0
// shared_addresses.h - whether the arena may stand where a device's window stands, tried out on the machine at hand.
//
// A pointer then means the host's bytes to the CPU and the frame's bytes to the device. Drivers promise neither that
// their reservation may be mapped over nor that mapping a frame leaves it alone, so both are looked at, with system
// calls that return an error where a load would raise a signal.
// Called at start, before the arena is registered or used; one page of it is written and given back.
#pragma once

#include "base/status.h"
#include "frame/device_node.h"
#include "platform/arena.h"

namespace gm {

// ok: they are. Anything else says what was wrong, and leaves nothing behind. memory stands at the window's base.
status addresses_are_shared(device_node&, const arena& memory);

}  // namespace gm
