// SPDX-License-Identifier: Apache-2.0
// sim_launch.h - runs one kernel of the simulated device: a loop over [0, count), on all cores, with oneTBB.
//
// Returns when every index has been covered exactly once, or when body has thrown: then the kernel is broken off and
// the status is GM_ERROR_DEVICE, with the exception's words in the error text. Never throws. Any thread. Under
// ThreadSanitizer plain threads take the place of TBB, which it cannot follow. While a thread is in body, it is marked
// as running the unit (running_units.h).
#pragma once

#include <cstddef>

#include "device/backend.h"
#include "gmem/gmem.h"

namespace gm::device::sim {

gm_status launch_in_parallel(std::size_t count, void (*body)(void*, std::size_t, std::size_t), void* argument,
                             fence unit) noexcept;

}  // namespace gm::device::sim
