// SPDX-License-Identifier: Apache-2.0
// sim_device.h - one simulated device: its memory, and its links, one for each direction of transfer.
//
// device_open makes it, device_close ends it; streams point to it while they live. What changes is inside sim_memory
// and sim_link, which have their own locks. Threads: any.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "device/backend.h"
#include "device/parts/counted_failures.h"
#include "device/sim/sim_link.h"
#include "device/sim/sim_memory.h"

namespace gm::device {

struct device {
  backend* owner;
  std::uint32_t index;
  counted_failures* failures;  // the backend's
  std::unique_ptr<sim::sim_memory> memory;
  std::array<sim::sim_link, 3> links;  // by direction

  sim::sim_link& link(direction where) noexcept { return links[static_cast<std::size_t>(where)]; }

  // A copy inside the device's own memory goes over no link.
  bool uses_link(const copy_run& run) const noexcept {
    return run.direction != direction::device_to_device || !memory->contains(run.source) ||
           !memory->contains(run.destination);
  }
};

}  // namespace gm::device
