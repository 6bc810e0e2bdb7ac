// SPDX-License-Identifier: Apache-2.0
// world.h - the fake driver's tables: what is alive, what is where. One for the process, behind one lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "fake_gpu/controls.h"
#include "fake_gpu/machine.h"

namespace gm::fake_gpu {

inline constexpr int devices_max = 32;

struct physical {
  int device;
  std::uint64_t bytes;
  std::shared_ptr<std::uint8_t[]> storage;
};

struct mapping {
  std::uint64_t bytes;
  std::shared_ptr<std::uint8_t[]> storage;
  std::set<int> may_access;
  bool is_allocation;
  int device;
  bool is_second;  // of memory that was mapped elsewhere before
};

// Written at one address of a frame, and not yet there for those who read at the other.
struct late_write {
  std::shared_ptr<std::uint8_t[]> storage;
  std::uint64_t offset;
  std::vector<std::uint8_t> bytes;
};

struct world {
  std::mutex mutex;
  description machine;
  census alive{};
  std::set<stream*> streams;
  std::array<std::uint64_t, devices_max> used_bytes{};
  std::map<std::uint64_t, mapping> mappings;  // by address
  std::vector<late_write> late_writes;
  std::map<std::uint64_t, std::uint64_t> reservations;  // base -> bytes
  std::map<std::uint64_t, std::uint64_t> locked;        // begin -> bytes
  std::uint64_t locked_bytes = 0;
  std::multimap<std::uint64_t, std::uint64_t> in_use;  // begin -> bytes: locked memory that copies not yet done use
  std::array<std::atomic<int>, devices_max> losses{};  // code; ok: none
  std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(api::count_)> failing{};
  std::atomic<bool> failures_are_final{false};
  std::atomic<bool> failures_go_on{false};
  std::array<std::atomic<int>, devices_max> running_kernels{};
  std::atomic<bool> is_capturing{false};
  std::atomic<bool> is_capture_spoilt{false};
  std::atomic<std::uint64_t> blocked_calls{0};
  std::set<std::uint64_t> pinned;  // of what is locked: where the driver's own allocations begin
  std::atomic<std::uint64_t> direct_copies{0};
  std::atomic<std::uint64_t> pinned_copies{0};
};

world& the_world();

}  // namespace gm::fake_gpu
