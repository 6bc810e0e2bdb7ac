// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/gpu_tables.h"

#include <iterator>
#include <new>
#include <utility>

#include "device/gpu/gpu_error.h"
#include "device/gpu/gpu_event.h"

namespace gm::device::gpu {

vendor::error gpu_tables::open(gpu_memory& memory, const zeroes& zero) noexcept {
  memory_ = &memory;
  zero_ = &zero;
  const vendor::error error = vendor::create_stream(&stream_, true);
  if (error != vendor::success) stream_ = vendor::no_stream;
  return error;
}

void gpu_tables::close() noexcept {
  for (const auto& [base, parts] : tables_) {
    std::uint64_t address = base;
    for (const part& each : parts) {
      if (each.frame) ignore(vendor::unmap(address, frame_bytes));
      if (each.frame) ignore(vendor::release_memory(each.frame.handle));
      address += frame_bytes;
    }
    ignore(vendor::unreserve(base, parts.size() * frame_bytes));
  }
  tables_.clear();
  if (stream_ != vendor::no_stream) ignore(vendor::destroy_stream(stream_));
  stream_ = vendor::no_stream;
}

gm_status gpu_tables::reserve(std::uint64_t bytes, std::uint64_t* address) noexcept {
  const std::uint64_t parts = (bytes + frame_bytes - 1) / frame_bytes;
  std::uint64_t base = 0;
  const vendor::error error = vendor::reserve(parts * frame_bytes, frame_bytes, &base);
  if (error != vendor::success) return fail_api(error, "reserving addresses for a table");
  try {
    const std::scoped_lock lock(mutex_);
    tables_.emplace(base, std::vector<part>(parts));
  } catch (const std::bad_alloc&) {
    ignore(vendor::unreserve(base, parts * frame_bytes));
    return fail(GM_ERROR_NO_MEMORY, "no memory to remember a table");
  }
  *address = base;
  return GM_OK;
}

gm_status gpu_tables::extend(std::uint64_t address, std::uint64_t bytes) noexcept {
  const std::scoped_lock lock(mutex_);
  const auto next = tables_.upper_bound(address);
  if (next != tables_.begin()) {
    auto& [base, parts] = *std::prev(next);
    const std::uint64_t begin = address - base;
    const std::uint64_t all = parts.size() * frame_bytes;
    if (begin < all && bytes <= all - begin) {
      for (std::uint64_t i = begin / frame_bytes; i * frame_bytes < begin + bytes; ++i) {
        const gm_status status = make_locked(base + i * frame_bytes, &parts[i]);
        if (status != GM_OK) return status;
      }
      return GM_OK;
    }
  }
  return fail(GM_ERROR_INVALID_ARGUMENT, "table_extend: %llu bytes at %#llx are of no table",
              static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(address));
}

gm_status gpu_tables::make_locked(std::uint64_t address, part* which) noexcept {
  if (which->is_zeroed) return GM_OK;
  if (!which->frame) {
    gpu_frame frame{};
    if (const gm_status status = memory_->take_frame(&frame); status != GM_OK) return status;
    if (const gm_status status = memory_->map_for_peers(address, frame); status != GM_OK) {
      memory_->give_back_frame(frame);
      return status;
    }
    which->frame = frame;
  }
  vendor::error error = zero_->fill(address, frame_bytes, stream_);
  const vendor::error at_end = wait_for_all(stream_);
  if (error == vendor::success) error = at_end;
  if (error != vendor::success) return fail_api(error, "zeroing a table");
  which->is_zeroed = true;
  return GM_OK;
}

bool gpu_tables::contains(std::uint64_t address) const noexcept {
  const std::scoped_lock lock(mutex_);
  const auto next = tables_.upper_bound(address);
  return next != tables_.begin() && address - std::prev(next)->first < std::prev(next)->second.size() * frame_bytes;
}

}  // namespace gm::device::gpu
