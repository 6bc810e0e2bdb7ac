// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/staged_copies.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "device/gpu/gpu_error.h"
#include "device/gpu/gpu_event.h"

namespace gm::device::gpu {
namespace {

std::uint64_t address_of(const std::uint8_t* memory) { return reinterpret_cast<std::uint64_t>(memory); }

// Through a little memory of the thread's own, done when it returns.
vendor::error copy_without_chunks(const copy_run& run, vendor::stream on) noexcept {
  std::array<std::uint8_t, std::size_t{64} << 10> between;
  const bool to_device = run.direction == direction::host_to_device;
  for (std::uint64_t at = 0; at < run.bytes; at += between.size()) {
    const std::uint64_t bytes = std::min<std::uint64_t>(between.size(), run.bytes - at);
    copy_run part{run.destination + at, run.source + at, bytes, run.direction};
    void* const host = reinterpret_cast<void*>(to_device ? part.source : part.destination);
    if (to_device) std::memcpy(between.data(), host, bytes);
    (to_device ? part.source : part.destination) = address_of(between.data());
    vendor::error error = vendor::copy(part, on);
    if (error == vendor::success) error = wait_for_all(on);
    if (error != vendor::success) return error;
    if (!to_device) std::memcpy(host, between.data(), bytes);
  }
  return vendor::success;
}

}  // namespace

staged_copies::staged_copies(pinned_chunks& chunks, host_copiers& copiers, event_pool& events, vendor::stream on,
                             std::uint64_t bytes) noexcept
    : chunks_(chunks), copiers_(copiers), events_(events), on_(on), is_shared_(bytes > alone_bytes_max) {}

vendor::error staged_copies::add(const copy_run& run) noexcept {
  way_ = run.direction;
  for (std::uint64_t at = 0; at < run.bytes; at += chunk_bytes) {
    copy_run piece{run.destination + at, run.source + at, run.bytes - at, run.direction};
    pinned_chunk* chunk = nullptr;
    if (const vendor::error error = take_chunk(&chunk); error != vendor::success) return error;
    if (chunk == nullptr) return copy_without_chunks(piece, on_);  // all the rest
    piece.bytes = std::min(piece.bytes, chunk_bytes);
    if (const vendor::error error = begin(piece, chunk); error != vendor::success) return error;
  }
  return vendor::success;
}

vendor::error staged_copies::settle(vendor::error so_far) noexcept {
  vendor::error error = so_far;
  while (error == vendor::success && in_second_half_ < count_) error = begin_second_half();
  for (std::size_t i = 0; i < count_; ++i) copiers_.finish(held(i).by_host);
  const vendor::error at_end = wait_for_all(on_);
  for (std::size_t i = 0; i < count_; ++i) {
    held(i).device_done = {};
    if (at_end == vendor::success) chunks_.give_back(&held(i));
  }
  count_ = in_second_half_ = 0;
  last_started_ = nullptr;
  return error != vendor::success ? error : at_end;
}

// A new one, or the oldest piece's when that is through, or null.
vendor::error staged_copies::take_chunk(pinned_chunk** result) noexcept {
  *result = count_ < chunks_held_max ? chunks_.take() : nullptr;
  if (*result != nullptr || count_ == 0) return vendor::success;
  // Half of the pieces are in their second half before the end of one is waited for: then there is work for both sides
  // meanwhile, and the oldest is probably through.
  while (in_second_half_ < (count_ + 1) / 2) {
    if (const vendor::error error = begin_second_half(); error != vendor::success) return error;
  }
  if (const vendor::error error = end_oldest(); error != vendor::success) return error;
  *result = &held(0);
  oldest_ = (oldest_ + 1) % chunks_held_max;
  --count_;
  --in_second_half_;
  return vendor::success;
}

vendor::error staged_copies::begin(const copy_run& piece, pinned_chunk* chunk) noexcept {
  held_[(oldest_ + count_++) % chunks_held_max] = chunk;
  if (!to_device()) {
    chunk->by_host.destination = reinterpret_cast<void*>(piece.destination);
    chunk->by_host.source = chunk->memory;
    chunk->by_host.bytes = piece.bytes;
    chunk->by_device = {address_of(chunk->memory), piece.source, piece.bytes, piece.direction};
    return start_device(*chunk);
  }
  chunk->by_host.destination = chunk->memory;
  chunk->by_host.source = reinterpret_cast<const void*>(piece.source);
  chunk->by_host.bytes = piece.bytes;
  chunk->by_device = {piece.destination, address_of(chunk->memory), piece.bytes, piece.direction};
  start_host(*chunk);
  // What the host has finished, the engine may have.
  vendor::error error = vendor::success;
  while (error == vendor::success && in_second_half_ < count_ &&
         held(in_second_half_).by_host.is_done.load(std::memory_order_acquire)) {
    error = begin_second_half();
  }
  return error;
}

// Of the oldest piece that is in its first.
vendor::error staged_copies::begin_second_half() noexcept {
  pinned_chunk& chunk = held(in_second_half_);
  if (to_device()) {
    copiers_.finish(chunk.by_host);
    if (const vendor::error error = start_device(chunk); error != vendor::success) return error;
  } else {
    if (const vendor::error error = wait_device(chunk); error != vendor::success) return error;
    start_host(chunk);
  }
  ++in_second_half_;
  return vendor::success;
}

vendor::error staged_copies::end_oldest() noexcept {
  if (to_device()) return wait_device(held(0));
  copiers_.finish(held(0).by_host);
  return vendor::success;
}

void staged_copies::start_host(pinned_chunk& chunk) noexcept {
  if (is_shared_) {
    copiers_.post(chunk.by_host);
  } else {
    std::memcpy(chunk.by_host.destination, chunk.by_host.source, chunk.by_host.bytes);
  }
}

// The last one is waited for with the stream, so that a single piece needs no event.
vendor::error staged_copies::start_device(pinned_chunk& chunk) noexcept {
  if (last_started_ != nullptr) {
    vendor::error error = vendor::success;
    event_ref event = events_.take(&error);
    if (event) error = vendor::record_event(event.handle(), on_);
    if (error != vendor::success) return error;
    last_started_->device_done = std::move(event);  // empty, where there is no memory: then the stream is waited for
  }
  last_started_ = &chunk;
  chunk.device_done = {};
  return vendor::copy(chunk.by_device, on_);
}

vendor::error staged_copies::wait_device(pinned_chunk& chunk) noexcept {
  if (chunk.device_done) return wait_for(chunk.device_done);
  if (last_started_ == &chunk) last_started_ = nullptr;
  return wait_for_all(on_);
}

}  // namespace gm::device::gpu
