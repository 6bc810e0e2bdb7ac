// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/pinned_chunks.h"

#include <cstdio>

#include "device/gpu/gpu_error.h"
#include "device/gpu/vendor.h"

namespace gm::device::gpu {

void pinned_chunks::open() noexcept {
  if (is_open_) return;
  is_open_ = true;
  const vendor::error error = vendor::allocate_pinned(chunks_count * chunk_bytes, &memory_);
  if (error != vendor::success) {
    memory_ = nullptr;
    std::fprintf(stderr, "gmem %s: no pinned memory (%s): copies go through pageable memory, slower\n", vendor::name,
                 vendor::describe(error));
    ignore(error);
    return;
  }
  auto* memory = static_cast<std::uint8_t*>(memory_);
  for (pinned_chunk& each : chunks_) {
    each.memory = memory;
    memory += chunk_bytes;
    give_back(&each);
  }
}

void pinned_chunks::close() noexcept {
  if (memory_ != nullptr) ignore(vendor::free_pinned(memory_));
  memory_ = nullptr;
  free_ = nullptr;
  is_open_ = false;
}

pinned_chunk* pinned_chunks::take() noexcept {
  const std::scoped_lock lock(mutex_);
  pinned_chunk* const taken = free_;
  if (taken != nullptr) free_ = taken->next_free;
  return taken;
}

void pinned_chunks::give_back(pinned_chunk* chunk) noexcept {
  const std::scoped_lock lock(mutex_);
  chunk->next_free = free_;
  free_ = chunk;
}

}  // namespace gm::device::gpu
