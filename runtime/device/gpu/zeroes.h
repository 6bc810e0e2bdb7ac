// SPDX-License-Identifier: Apache-2.0
// zeroes.h - zeroing device memory by copies of pinned zeroes, which is the copy engine's work. A fill is a kernel: it
// waits for room among the program's, and those may be waiting for what it fills.
//
// Where there is no pinned memory there is none of this, and fills are what is left.
// Locking: none; open() and close() are alone. Threads: any, on the device. Units: bytes.
#pragma once

#include <cstdint>

#include "device/gpu/vendor.h"

namespace gm::device::gpu {

class zeroes {
 public:
  void open() noexcept;
  void close() noexcept;
  // In stream order, in one copy for each bytes_at_once.
  vendor::error fill(std::uint64_t address, std::uint64_t bytes, vendor::stream on) const noexcept;

  static constexpr std::uint64_t bytes_at_once = std::uint64_t{64} << 10;

 private:
  void* memory_ = nullptr;  // null: none
};

}  // namespace gm::device::gpu
