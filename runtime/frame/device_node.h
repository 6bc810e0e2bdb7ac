// SPDX-License-Identifier: Apache-2.0
// device_node.h - one device as the runtime sees it: its backend, its frames, its own copy streams.
//
// Locking: `admission` is held by whoever gathers frames for a scope, so that no two scopes hold half of what both need
// (rank admission; write-backs are waited for under it, scopes never are). The rest is constant after start, or has
// locks of its own.
#pragma once

#include <cstdint>

#include "base/mutex.h"
#include "device/backend.h"
#include "frame/frame_pool.h"

namespace gm {

struct device_node {
  unsigned node = 0;
  const device::backend_table* api = nullptr;
  device::device* handle = nullptr;
  device::device_info info{};
  std::uint64_t budget_bytes = 0;
  frame_pool pool;
  mutex<lock_rank::admission> admission;
  // A block loses its frame and the backend ends the piece as one step, and nobody begins to make one for it meanwhile.
  // Device calls that end or ask for pieces are made under it, not those that make them: they may wait. Block locks are
  // taken under it.
  mutex<lock_rank::pieces> pieces;

  // For copies that wait for nothing but each other: a CPU fault may be behind any of them, so no user work ever is
  // ahead of them. Copies that must follow user work go on the user's stream.
  device::stream* to_device = nullptr;
  device::stream* to_host = nullptr;
  device::stream* to_map = nullptr;  // entries of the access map, and what is read of it

  // Kernels may fetch their own pages. Frames then come one by one, which takes a window to declare memory as well.
  bool has_access_map() const { return windowed() && (info.capabilities & device::has_access_maps) != 0; }

  bool windowed() const { return (info.capabilities & device::has_window) != 0; }
  bool same_address(std::uintptr_t arena_base) const { return windowed() && info.window_base == arena_base; }
  bool reaches(const device_node& other) const {
    return &other == this || (other.api == api && (info.capabilities & device::has_peer_copies) != 0);
  }
};

}  // namespace gm
