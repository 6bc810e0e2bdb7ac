// SPDX-License-Identifier: Apache-2.0
// gpu_tables.h - device memory for tables that kernels read while the host changes them (backend.h, Demand).
//
//   part of a table: addresses only --extend--> mapped --zeroed--> there (until close)
// A part is a frame. One that could be mapped and not zeroed stays mapped, and is zeroed when it is asked for again.
// Locking: one lock, held in the API and while zeroes are copied, by a stream that waits for no other: extending is
// rare. Threads: any, on the device. Units: bytes.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "device/gpu/gpu_frame.h"
#include "device/gpu/gpu_memory.h"
#include "device/gpu/vendor.h"
#include "device/gpu/zeroes.h"
#include "gmem/gmem.h"

namespace gm::device::gpu {

class gpu_tables {
 public:
  // memory and zero outlive this.
  vendor::error open(gpu_memory& memory, const zeroes& zero) noexcept;
  void close() noexcept;  // before the memory

  gm_status reserve(std::uint64_t bytes, std::uint64_t* address) noexcept;
  gm_status extend(std::uint64_t address, std::uint64_t bytes) noexcept;
  bool contains(std::uint64_t address) const noexcept;

 private:
  struct part {
    gpu_frame frame;
    bool is_zeroed;
  };

  gm_status make_locked(std::uint64_t address, part* which) noexcept;

  gpu_memory* memory_ = nullptr;
  const zeroes* zero_ = nullptr;
  vendor::stream stream_ = vendor::no_stream;

  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::vector<part>> tables_;  // by their first address
};

}  // namespace gm::device::gpu
