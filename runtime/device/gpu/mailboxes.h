// SPDX-License-Identifier: Apache-2.0
// mailboxes.h - host memory that kernels of one device reach too, pinned, and known as such to copies.
//
//   made --create--> somebody's --destroy--> idle --create, of the same size--> somebody's ...
// A driver may wait for all work of a device before it gives or takes such memory. So what is given back is kept for
// the next one, until the device is closed; few are ever made.
// Locking: one lock over the list. Threads: any, on the device; open() and close() are alone. Units: bytes.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "device/gpu/host_registrations.h"
#include "device/gpu/vendor.h"
#include "gmem/gmem.h"

namespace gm::device::gpu {

class mailboxes {
 public:
  // Makes a small one, to see whether there are any to be had.
  gm_status open(host_registrations& registrations) noexcept;
  void close() noexcept;

  // Zeroed.
  gm_status create(std::uint64_t bytes, void** host, std::uint64_t* device_address) noexcept;
  void destroy(void* host) noexcept;  // of another's, nothing

 private:
  struct mailbox {
    void* host;
    std::uint64_t device_address;
    std::uint64_t bytes;
    bool is_idle;
  };

  host_registrations* registrations_ = nullptr;
  std::mutex mutex_;
  std::vector<mailbox> all_;
};

}  // namespace gm::device::gpu
