// SPDX-License-Identifier: Apache-2.0
// pinned_chunks.h - the pinned memory through which copies go whose host memory is not registered (staged_copies.h): a
// fixed number of chunks a backend, which the copy engines of all its devices use.
//
//   free --take--> held by one host step --give_back--> free
//                          \--is not given back: a copy engine may still be at it--> gone, until close()
// Nobody waits for a chunk: take() has one or it has not, and where there is none the driver's own way is left. So
// steps of several streams never wait for each other here. All of the memory comes with open(), before any stream has
// work: a driver may make the allocation of pinned memory wait for what its devices have in their queues, and there a
// gate may be closed. Locking: one lock, for a few instructions; innermost. open() and close() are alone. Threads: any.
// Units: bytes.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "device/backend.h"
#include "device/gpu/gpu_event.h"
#include "device/gpu/host_copiers.h"
#include "device/gpu/staging_sizes.h"

namespace gm::device::gpu {

struct pinned_chunk {
  std::uint8_t* memory = nullptr;  // chunk_bytes
  host_copy by_host;               // between the program's memory and the chunk
  copy_run by_device{};            // between the chunk and the device
  event_ref device_done;           // behind by_device, where something followed it on the stream
  pinned_chunk* next_free = nullptr;
};

class pinned_chunks {
 public:
  // On a current context. Where there is no pinned memory all copies go the driver's own way, and a line on stderr says
  // so. Does nothing when it is open already.
  void open() noexcept;
  // On a current context. Nobody holds a chunk.
  void close() noexcept;

  pinned_chunk* take() noexcept;  // null: there is none now
  void give_back(pinned_chunk* chunk) noexcept;

 private:
  std::mutex mutex_;
  pinned_chunk* free_ = nullptr;  // most recently used first: it is in the cache
  void* memory_ = nullptr;        // of all
  bool is_open_ = false;
  std::array<pinned_chunk, chunks_count> chunks_;
};

}  // namespace gm::device::gpu
