// SPDX-License-Identifier: Apache-2.0
// lasting_addresses.h - the second address of a frame, at which it stays mapped until the device is closed. So a kernel
// that still reads a frame which has been taken away from under it reads something, and is not killed for it.
//
//   frame: without --give--> with a lasting address (for good)
// Frames get their addresses in the order in which they ask, side by side in one reservation as large as the device's
// memory. That a second mapping shows the same bytes is tried, not believed.
// What a kernel reads at one address of a frame while something else writes at another address of it is, by CUDA's
// rules, not defined before the kernel has ended (it may stand in a cache that goes by address). So what is written
// for kernels that run meanwhile is written at the lasting address, where they read it.
// A1 of n frames that have addresses, the first n places are mapped.
// Locking: one lock, held in the API: mapping a frame for the first time is rare. Threads: any, on the device.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "device/gpu/gpu_frame.h"
#include "device/gpu/vendor.h"
#include "gmem/gmem.h"

namespace gm::device::gpu {

class lasting_addresses {
 public:
  // For so many bytes of frames; peers outlive this. The API's error, after which there are none.
  vendor::error open(std::uint64_t bytes, const std::vector<int>& peers) noexcept;
  // Whether a frame, which is mapped there and may be overwritten, shows the same bytes at a second address. Closes
  // this where it does not, and says why on stderr.
  bool work(const gpu_frame& frame, std::uint64_t mapped_at) noexcept;
  // The frames stay their owner's.
  void close() noexcept;

  bool exist() const noexcept { return base_ != 0; }
  std::uint64_t base() const noexcept { return base_; }
  bool contains(std::uint64_t address) const noexcept { return address - base_ < bytes_; }

  // Of a frame that has none. GM_ERROR_NO_MEMORY, or the API's error, in words.
  gm_status give(const gpu_frame& frame, std::uint64_t* address) noexcept;

 private:
  std::uint64_t base_ = 0;
  std::uint64_t bytes_ = 0;
  const std::vector<int>* peers_ = nullptr;

  std::mutex mutex_;
  std::uint64_t given_ = 0;  // places
};

}  // namespace gm::device::gpu
