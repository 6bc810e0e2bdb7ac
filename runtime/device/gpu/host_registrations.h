// SPDX-License-Identifier: Apache-2.0
// host_registrations.h - which host memory is locked for the copy engines. Copies from and to it are the device's own
// work; copies from and to all other memory are carried out by a thread (gpu_stream.h).
//
// R1 ranges do not overlap.   R2 a range is listed, with an end, only while it is locked.
// Locking: readers share, writers exclude; calls of the API are made outside. Threads: any. Units: bytes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <shared_mutex>

#include "device/gpu/vendor.h"
#include "gmem/gmem.h"

namespace gm::device::gpu {

class host_registrations {
 public:
  // On a current context. In words when it fails.
  gm_status lock(void* memory, std::size_t bytes) noexcept;
  // What is pinned from the start, and so never unlocked here; until forget().
  gm_status note(void* memory, std::size_t bytes) noexcept;
  void forget(void* memory) noexcept;
  // Of the range that begins there: it is no longer used directly, and stays locked until unlock().
  void retire(void* memory) noexcept;
  void unlock(void* memory, std::size_t bytes) noexcept;
  // All of it, at the end: what the runtime has not given back.
  void unlock_all() noexcept;

  // Every byte of it lies in one or several neighbouring ranges that are not retired.
  bool covers(std::uint64_t address, std::uint64_t bytes) const noexcept;

 private:
  struct range {
    std::uint64_t end;
    bool is_retired;
    bool is_pinned;  // from the start
  };
  using range_map = std::map<std::uint64_t, range>;

  gm_status begin_range(std::uint64_t begin, std::size_t bytes, range_map::iterator* place) noexcept;

  mutable std::shared_mutex mutex_;
  std::atomic<std::size_t> count_{0};  // without the lock: none is the usual case
  range_map ranges_;                   // by where they begin
};

}  // namespace gm::device::gpu
