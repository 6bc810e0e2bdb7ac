// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/lasting_addresses.h"

#include <cstdio>

#include "device/gpu/gpu_error.h"
#include "device/gpu/window_trial.h"

namespace gm::device::gpu {

vendor::error lasting_addresses::open(std::uint64_t bytes, const std::vector<int>& peers) noexcept {
  std::uint64_t base = 0;
  const std::uint64_t whole = (bytes + frame_bytes - 1) / frame_bytes * frame_bytes;
  const vendor::error error = vendor::reserve(whole, frame_bytes, &base);
  if (error != vendor::success) return error;
  base_ = base;
  bytes_ = whole;
  peers_ = &peers;
  return vendor::success;
}

bool lasting_addresses::work(const gpu_frame& frame, std::uint64_t mapped_at) noexcept {
  std::uint64_t address = 0;
  bool do_work = false;
  vendor::error error = vendor::success;
  const bool is_given = give(frame, &address) == GM_OK;
  if (is_given) error = try_alias(mapped_at, address, frame_bytes, &do_work);
  if (!do_work) {
    const char* why = "a second mapping of a frame shows other bytes";
    if (error != vendor::success) why = vendor::describe(error);
    std::fprintf(stderr, "gmem %s: device %d: kernels cannot fetch their own pages: %s\n", vendor::name,
                 peers_->front(), is_given ? why : error_text());
  }
  ignore(error);
  // The place is free again: nobody has seen it.
  if (is_given) {
    error = vendor::unmap(address, frame_bytes);
    if (error == vendor::success) --given_;
    do_work = do_work && error == vendor::success;
    ignore(error);
  }
  if (!do_work) close();
  return do_work;
}

void lasting_addresses::close() noexcept {
  for (; given_ != 0; --given_) ignore(vendor::unmap(base_ + (given_ - 1) * frame_bytes, frame_bytes));
  if (base_ != 0) ignore(vendor::unreserve(base_, bytes_));
  base_ = bytes_ = 0;
}

gm_status lasting_addresses::give(const gpu_frame& frame, std::uint64_t* address) noexcept {
  const std::scoped_lock lock(mutex_);
  const std::uint64_t place = base_ + given_ * frame_bytes;
  if (!contains(place)) return fail(GM_ERROR_NO_MEMORY, "no lasting address is left for a frame");
  if (const gm_status status = map_frame(place, frame, *peers_); status != GM_OK) return status;
  ++given_;
  *address = place;
  return GM_OK;
}

}  // namespace gm::device::gpu
