// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/gpu_memory.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#include <utility>

#include "device/backend.h"
#include "device/gpu/gpu_error.h"

namespace gm::device::gpu {
namespace {

unsigned long long ull(std::uint64_t value) { return value; }

[[noreturn]] void no_such_piece(std::uint64_t address) {
  std::fprintf(stderr, "gmem %s: no piece at address %#llx to give back\n", vendor::name, ull(address));
  std::abort();
}

}  // namespace

gm_status gpu_memory::open(const vendor::context& context, bool may_map, std::uint64_t window_bytes,
                           std::vector<int> peers) {
  context_ = context;
  peers_ = std::move(peers);
  if (!may_map || window_bytes == 0) return GM_OK;
  blocks_.reset(static_cast<block*>(std::calloc(window_bytes / frame_bytes, sizeof(block))));
  if (blocks_ == nullptr) return fail(GM_ERROR_NO_MEMORY, "no memory for a table of the window's blocks");
  idle_.reserve(idle_frames_max);
  reserve_window(window_bytes);
  if (has_window() && !window_works()) close();
  return GM_OK;
}

void gpu_memory::close() noexcept {
  for (std::uint64_t i = 0; taken_ != 0; ++i) {
    if (!blocks_[i].is_taken) continue;
    ignore(vendor::unmap(window_base_ + i * frame_bytes, frame_bytes));
    ignore(vendor::release_memory(blocks_[i].frame));
    --taken_;
  }
  for (const vendor::memory frame : idle_) ignore(vendor::release_memory(frame));
  for (const auto& [address, bytes] : ranges_) ignore(vendor::free_memory(address));
  if (has_window()) ignore(vendor::unreserve(window_base_, window_bytes_));
  blocks_.reset();
  idle_.clear();
  ranges_.clear();
  window_base_ = 0;
}

void gpu_memory::reserve_window(std::uint64_t window_bytes) noexcept {
  std::uint64_t base = 0;
  const vendor::error error = vendor::reserve(window_bytes, frame_bytes, &base);
  if (error != vendor::success || base % frame_bytes != 0) {
    ignore(error);
    if (error == vendor::success) ignore(vendor::unreserve(base, window_bytes));
    return;
  }
  window_base_ = base;
  window_bytes_ = window_bytes;
}

bool gpu_memory::window_works() noexcept {
  std::uint64_t address = 0;
  if (piece_create_in_window(window_bytes_ - frame_bytes, &address) != GM_OK) return false;
  const bool works = pattern_survives();
  piece_destroy_in_window(window_bytes_ - frame_bytes);
  return works;
}

// There and back, at both ends of the last frame.
bool gpu_memory::pattern_survives() noexcept {
  constexpr std::uint64_t bytes = 4096;
  vendor::stream on = vendor::no_stream;
  vendor::error error = vendor::create_stream(&on, false);
  std::uint8_t sent[bytes];
  std::uint8_t received[bytes];
  bool same = error == vendor::success;
  for (const std::uint64_t at : {window_base_ + window_bytes_ - frame_bytes, window_base_ + window_bytes_ - bytes}) {
    if (!same) break;
    for (std::uint64_t i = 0; i < bytes; ++i) sent[i] = static_cast<std::uint8_t>(i * 31 + at / bytes);
    std::memset(received, 0, bytes);
    error = vendor::copy({at, reinterpret_cast<std::uint64_t>(sent), bytes, direction::host_to_device}, on);
    if (error == vendor::success) error = vendor::synchronize_stream(on);
    if (error == vendor::success)
      error = vendor::copy({reinterpret_cast<std::uint64_t>(received), at, bytes, direction::device_to_host}, on);
    if (error == vendor::success) error = vendor::synchronize_stream(on);
    same = error == vendor::success && std::memcmp(sent, received, bytes) == 0;
  }
  ignore(error);
  if (on != vendor::no_stream) ignore(vendor::destroy_stream(on));
  return same;
}

gm_status gpu_memory::piece_create(std::uint64_t offset, std::uint32_t frames, std::uint64_t* address) noexcept {
  if (frames == 0) return fail(GM_ERROR_INVALID_ARGUMENT, "a piece of no frames");
  if (has_window()) {
    if (frames != 1) return fail(GM_ERROR_INVALID_ARGUMENT, "a piece of %u frames: in a window it is 1", frames);
    return piece_create_in_window(offset, address);
  }
  const std::uint64_t bytes = frames * frame_bytes;
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
  vendor::error error = vendor::memory_of(context_, &free_bytes, &total_bytes);
  if (error == vendor::success && bytes > total_bytes) {
    return fail(GM_ERROR_NO_MEMORY, "%llu bytes in one piece: the device has %llu", ull(bytes), ull(total_bytes));
  }
  std::uint64_t made = 0;
  if (error == vendor::success) error = vendor::allocate(bytes, &made);
  if (error != vendor::success) return fail_api(error, "allocating device memory");
  try {
    const std::scoped_lock lock(mutex_);
    ranges_.emplace(made, bytes);
  } catch (const std::bad_alloc&) {
    ignore(vendor::free_memory(made));
    return fail(GM_ERROR_NO_MEMORY, "no memory to record a piece");
  }
  *address = made;
  return GM_OK;
}

gm_status gpu_memory::piece_create_in_window(std::uint64_t offset, std::uint64_t* address) noexcept {
  if (offset % frame_bytes != 0 || offset >= window_bytes_) {
    return fail(GM_ERROR_INVALID_ARGUMENT, "offset %#llx is not a block of the window, which has %#llx bytes",
                ull(offset), ull(window_bytes_));
  }
  block& place = blocks_[offset / frame_bytes];
  vendor::memory frame = vendor::no_memory;
  {
    const std::scoped_lock lock(mutex_);
    if (place.is_taken) return fail(GM_ERROR_INVALID_ARGUMENT, "offset %#llx has a piece already", ull(offset));
    place.is_taken = true;
    ++taken_;
    if (!idle_.empty()) {
      frame = idle_.back();
      idle_.pop_back();
    }
  }
  gm_status status = frame == vendor::no_memory ? create_frame(&frame) : GM_OK;
  if (status == GM_OK) {
    status = map_frame(window_base_ + offset, frame);
    if (status != GM_OK) give_back_frame(frame);
  }
  const std::scoped_lock lock(mutex_);
  if (status != GM_OK) {
    place.is_taken = false;
    --taken_;
  }
  place.frame = status == GM_OK ? frame : vendor::no_memory;
  if (status == GM_OK) *address = window_base_ + offset;
  return status;
}

gm_status gpu_memory::create_frame(vendor::memory* frame) noexcept {
  const vendor::error error = vendor::create_memory(context_, frame_bytes, frame);
  return error == vendor::success ? GM_OK : fail_api(error, "creating a frame of device memory");
}

gm_status gpu_memory::map_frame(std::uint64_t address, vendor::memory frame) noexcept {
  vendor::error error = vendor::map(address, frame_bytes, frame);
  if (error != vendor::success) return fail_api(error, "mapping a frame into the window");
  error = vendor::allow_access(address, frame_bytes, peers_.data(), peers_.size());
  if (error == vendor::success) return GM_OK;
  const gm_status status = fail_api(error, "giving access to a frame");
  ignore(vendor::unmap(address, frame_bytes));
  return status;
}

void gpu_memory::piece_destroy(std::uint64_t offset, std::uint32_t, std::uint64_t address) noexcept {
  if (has_window()) {
    if (address != window_base_ + offset || offset >= window_bytes_) no_such_piece(address);
    piece_destroy_in_window(offset);
    return;
  }
  {
    const std::scoped_lock lock(mutex_);
    if (ranges_.erase(address) == 0) no_such_piece(address);
  }
  ignore(vendor::free_memory(address));
}

void gpu_memory::piece_destroy_in_window(std::uint64_t offset) noexcept {
  block& place = blocks_[offset / frame_bytes];
  vendor::memory frame = vendor::no_memory;
  {
    const std::scoped_lock lock(mutex_);
    if (!place.is_taken || place.frame == vendor::no_memory) no_such_piece(window_base_ + offset);
    frame = std::exchange(place.frame, vendor::no_memory);
  }
  ignore(vendor::unmap(window_base_ + offset, frame_bytes));
  give_back_frame(frame);
  const std::scoped_lock lock(mutex_);
  place.is_taken = false;
  --taken_;
}

void gpu_memory::give_back_frame(vendor::memory frame) noexcept {
  {
    const std::scoped_lock lock(mutex_);
    if (idle_.size() < idle_frames_max) {
      idle_.push_back(frame);
      return;
    }
  }
  ignore(vendor::release_memory(frame));
}

std::uint64_t gpu_memory::idle_bytes() const noexcept {
  const std::scoped_lock lock(mutex_);
  return idle_.size() * frame_bytes;
}

bool gpu_memory::is_reached_by(int device) const noexcept {
  return !has_window() || std::find(peers_.begin(), peers_.end(), device) != peers_.end();
}

bool gpu_memory::contains(std::uint64_t address) const noexcept {
  if (has_window()) return address - window_base_ < window_bytes_;
  const std::scoped_lock lock(mutex_);
  const auto next = ranges_.upper_bound(address);
  return next != ranges_.begin() && address < std::prev(next)->first + std::prev(next)->second;
}

}  // namespace gm::device::gpu
