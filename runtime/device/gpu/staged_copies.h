// SPDX-License-Identifier: Apache-2.0
// staged_copies.h - the copies of one host step whose host memory is not registered, through chunks of pinned memory.
//
// A run is cut into pieces of a chunk. Each piece goes through two halves, one by the host and one by the device:
//   to the device:   the host fills the chunk     | the copy engine takes it away
//   to the host:     the copy engine fills it     | the host takes it away
// Several pieces are in each half at a time, so memory is copied and transferred at once. The host's halves are shared
// with the copiers when there is more than one thread's worth of them.
// A step holds up to chunks_held_max chunks. When it can have no more it uses its oldest again; when it can have none
// at all, the run goes through a little unpinned memory. It never waits for chunks of others.
// The driver never sees the host memory itself: it may be about to be unregistered, and a driver that still finds it
// locked would have an engine use it directly (host_registrations.h, retire).
// H1 held chunks are in the order of their pieces: first those in their second half, then those in their first.
// H2 a chunk is given back only when the stream says that all its work is done; where it does not (a lost device), the
// chunk stays away, since an engine may still write to it.
// Runs are done, and may be relied on by other runs, after settle(). Errors are the API's, and the first one ends the
// step: settle() says it again. Threads: one, on a current context.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "device/backend.h"
#include "device/gpu/gpu_event.h"
#include "device/gpu/host_copiers.h"
#include "device/gpu/pinned_chunks.h"
#include "device/gpu/staging_sizes.h"
#include "device/gpu/vendor.h"

namespace gm::device::gpu {

class staged_copies {
 public:
  // events: of the current device, which the stream `on` is of. bytes: of all copies of the step.
  staged_copies(pinned_chunks& chunks, host_copiers& copiers, event_pool& events, vendor::stream on,
                std::uint64_t bytes) noexcept;
  staged_copies(const staged_copies&) = delete;
  staged_copies& operator=(const staged_copies&) = delete;
  // settle() was the last.
  ~staged_copies() = default;

  // Between host and device. All runs up to the next settle() go the same way, and none writes where another does.
  vendor::error add(const copy_run& run) noexcept;
  // Everything added, and everything else on the stream, is done when it returns; or, with `so_far`, given up.
  vendor::error settle(vendor::error so_far = vendor::success) noexcept;

 private:
  bool to_device() const noexcept { return way_ == direction::host_to_device; }
  pinned_chunk& held(std::size_t nth) noexcept { return *held_[(oldest_ + nth) % chunks_held_max]; }
  vendor::error take_chunk(pinned_chunk** result) noexcept;
  vendor::error begin(const copy_run& piece, pinned_chunk* chunk) noexcept;
  vendor::error begin_second_half() noexcept;
  vendor::error end_oldest() noexcept;
  void start_host(pinned_chunk& chunk) noexcept;
  vendor::error start_device(pinned_chunk& chunk) noexcept;
  vendor::error wait_device(pinned_chunk& chunk) noexcept;

  pinned_chunks& chunks_;
  host_copiers& copiers_;
  event_pool& events_;
  const vendor::stream on_;
  const bool is_shared_;  // with the copiers
  direction way_ = direction::host_to_device;

  std::array<pinned_chunk*, chunks_held_max> held_{};  // a ring that begins at oldest_
  std::size_t oldest_ = 0;
  std::size_t count_ = 0;
  std::size_t in_second_half_ = 0;
  pinned_chunk* last_started_ = nullptr;  // on the device, with nothing of ours behind it: it needs no event
};

}  // namespace gm::device::gpu
