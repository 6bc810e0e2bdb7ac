// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/gpu_memory.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <new>
#include <utility>

#include "device/backend.h"
#include "device/gpu/device_thread.h"
#include "device/gpu/gpu_error.h"
#include "device/gpu/window_trial.h"

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
  if (may_map && window_bytes != 0) {
    if (const gm_status status = open_window(window_bytes); status != GM_OK) return status;
  }
  is_ending_ = false;
  vendor::error refusal = vendor::success;
  const gm_status status = start_device_thread(
      "gmem-pieces", context_, [](void* self) { static_cast<gpu_memory*>(self)->thread_main(); }, this, thread_,
      &refusal);
  if (status != GM_OK) close();
  return status;
}

gm_status gpu_memory::open_window(std::uint64_t window_bytes) {
  blocks_.reset(static_cast<block*>(std::calloc(window_bytes / frame_bytes, sizeof(block))));
  if (blocks_ == nullptr) return fail(GM_ERROR_NO_MEMORY, "no memory for a table of the window's blocks");
  idle_.reserve(idle_frames_max);
  reserve_window(window_bytes);
  if (has_window()) {
    std::uint64_t free_bytes = 0;
    std::uint64_t total_bytes = 0;
    vendor::error error = vendor::memory_of(context_, &free_bytes, &total_bytes);
    if (error == vendor::success) error = lasting_.open(total_bytes, peers_);
    ignore(error);
  }
  if (has_window() && !window_works()) close();
  return GM_OK;
}

void gpu_memory::close() noexcept {
  if (thread_.joinable()) {
    {
      const std::scoped_lock lock(mutex_);
      is_ending_ = true;
    }
    has_returned_.notify_all();
    thread_.join();
  }
  for (std::uint64_t i = 0; occupied_ != 0; ++i) {
    if (!blocks_[i].is_taken && !blocks_[i].frame) continue;
    ignore(vendor::unmap(window_base_ + i * frame_bytes, frame_bytes));
    ignore(vendor::release_memory(blocks_[i].frame.handle));
    --occupied_;
  }
  lasting_.close();
  for (const auto* idle : {&idle_, &idle_lasting_}) {
    for (const gpu_frame& frame : *idle) ignore(vendor::release_memory(frame.handle));
  }
  for (const auto& [address, bytes] : ranges_) ignore(vendor::free_memory(address));
  if (has_window()) ignore(vendor::unreserve(window_base_, window_bytes_));
  blocks_.reset();
  idle_.clear();
  idle_lasting_.clear();
  with_lasting_ = 0;
  ranges_.clear();
  window_base_ = 0;
}

void gpu_memory::reserve_window(std::uint64_t window_bytes) noexcept {
  std::uint64_t base = 0;
  const vendor::error error = vendor::reserve(window_bytes, frame_bytes, &base);
  if (error != vendor::success || base % frame_bytes != 0) {
    say_no_window(error != vendor::success ? vendor::describe(error) : "addresses that are no multiple of a frame");
    ignore(error);
    if (error == vendor::success) ignore(vendor::unreserve(base, window_bytes));
    return;
  }
  window_base_ = base;
  window_bytes_ = window_bytes;
}

bool gpu_memory::window_works() noexcept {
  std::uint64_t address = 0;
  if (piece_create_in_window(window_bytes_ - frame_bytes, &address) != GM_OK) {
    say_no_window(error_text());
    return false;
  }
  bool works = false;
  const vendor::error error = try_window(address, frame_bytes, &works);
  if (!works) {
    say_no_window(error != vendor::success ? vendor::describe(error) : "it does not find there what it wrote there");
  }
  ignore(error);
  if (works && lasting_.exist()) lasting_.work(blocks_[window_bytes_ / frame_bytes - 1].frame, address);
  piece_destroy(window_bytes_ - frame_bytes, 1, address);
  return works;
}

void gpu_memory::say_no_window(const char* why) const noexcept {
  std::fprintf(stderr, "gmem %s: device %d has no window (%s): every piece of its memory is an allocation\n",
               vendor::name, context_.index, why);
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
  std::uint64_t seen = taken_apart();
  if (error == vendor::success) error = vendor::allocate(bytes, &made);
  while (error != vendor::success && wait_for_returned(&seen)) {
    ignore(error);
    error = vendor::allocate(bytes, &made);
  }
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
  {
    std::unique_lock lock(mutex_);
    has_taken_apart_.wait(lock, [&] { return !place.is_returned; });
    if (place.is_taken) return fail(GM_ERROR_INVALID_ARGUMENT, "offset %#llx has a piece already", ull(offset));
    place.is_taken = true;
    if (place.frame) {
      *address = window_base_ + offset;
      return GM_OK;
    }
    ++occupied_;
  }
  gpu_frame frame{};
  gm_status status = take_frame(&frame);
  if (status == GM_OK) {
    status = map_for_peers(window_base_ + offset, frame);
    if (status != GM_OK) give_back_frame(frame);
  }
  const std::scoped_lock lock(mutex_);
  if (status != GM_OK) {
    place.is_taken = false;
    --occupied_;
    return status;
  }
  place.frame = frame;
  *address = window_base_ + offset;
  return GM_OK;
}

gm_status gpu_memory::take_frame(gpu_frame* frame) noexcept {
  std::uint64_t seen = taken_apart();
  gm_status status = take_idle(frame) ? GM_OK : create_frame(context_, frame);
  while (status != GM_OK && wait_for_returned(&seen)) {
    status = take_idle(frame) ? GM_OK : create_frame(context_, frame);
  }
  return status;
}

void gpu_memory::piece_destroy(std::uint64_t offset, std::uint32_t, std::uint64_t address) noexcept {
  piece gone{address, frame_bytes, {}};
  if (has_window()) {
    if (address != window_base_ + offset || offset >= window_bytes_) no_such_piece(address);
    const std::scoped_lock lock(mutex_);
    block& place = blocks_[offset / frame_bytes];
    if (!place.is_taken || place.is_returned || !place.frame) no_such_piece(address);
    gone.frame = std::exchange(place.frame, gpu_frame{});
    place.is_returned = true;
  } else {
    const std::scoped_lock lock(mutex_);
    const auto found = ranges_.find(address);
    if (found == ranges_.end()) no_such_piece(address);
    gone.bytes = found->second;
    ranges_.erase(found);
  }
  return_piece(gone);
}

// To the thread; done here while there is none (a window on trial), or when there is no memory to tell it.
void gpu_memory::return_piece(const piece& gone) noexcept {
  {
    const std::scoped_lock lock(mutex_);
    returned_bytes_ += gone.bytes;
    if (thread_.joinable()) {
      try {
        returned_.push_back(gone);
        has_returned_.notify_one();
        return;
      } catch (const std::bad_alloc&) {
      }
    }
  }
  take_apart(gone);
}

void gpu_memory::take_apart(const piece& gone) noexcept {
  vendor::error error = vendor::success;
  if (has_window()) {
    error = vendor::unmap(gone.address, frame_bytes);
    if (error == vendor::success) give_back_frame(gone.frame);
  } else {
    error = vendor::free_memory(gone.address);
  }
  ignore(error);
  const std::scoped_lock lock(mutex_);
  if (has_window()) {
    block& place = blocks_[(gone.address - window_base_) / frame_bytes];
    place.is_taken = place.is_returned = false;
    if (error != vendor::success) {
      place.frame = gone.frame;
    } else {
      --occupied_;
    }
  }
  returned_bytes_ -= gone.bytes;
  ++taken_apart_;
  is_in_hand_ = false;
  has_taken_apart_.notify_all();
}

void gpu_memory::thread_main() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    has_returned_.wait(lock, [&] { return is_ending_ || !returned_.empty(); });
    if (returned_.empty()) return;
    const piece gone = returned_.back();
    returned_.pop_back();
    is_in_hand_ = true;
    lock.unlock();
    take_apart(gone);
    lock.lock();
  }
}

std::uint64_t gpu_memory::taken_apart() const noexcept {
  const std::scoped_lock lock(mutex_);
  return taken_apart_;
}

// Until more memory is back than when so many pieces had been taken apart. False: there is none, and none on its way.
bool gpu_memory::wait_for_returned(std::uint64_t* seen) noexcept {
  std::unique_lock lock(mutex_);
  if (taken_apart_ == *seen && returned_bytes_ == 0) return false;
  has_taken_apart_.wait(lock, [&] { return taken_apart_ != *seen; });
  *seen = taken_apart_;
  return true;
}

bool gpu_memory::take_idle(gpu_frame* frame) noexcept {
  const std::scoped_lock lock(mutex_);
  std::vector<gpu_frame>& idle = idle_lasting_.empty() ? idle_ : idle_lasting_;
  if (idle.empty()) return false;
  *frame = idle.back();
  idle.pop_back();
  return true;
}

void gpu_memory::give_back_frame(const gpu_frame& frame) noexcept {
  {
    const std::scoped_lock lock(mutex_);
    if (frame.lasting != 0 || idle_.size() < idle_frames_max) {
      (frame.lasting != 0 ? idle_lasting_ : idle_).push_back(frame);
      return;
    }
  }
  ignore(vendor::release_memory(frame.handle));
}

gm_status gpu_memory::lasting_address(std::uint64_t address, std::uint64_t* lasting) noexcept {
  const std::uint64_t in_window = address - window_base_;
  if (!has_window() || in_window >= window_bytes_) {
    return fail(GM_ERROR_INVALID_ARGUMENT, "lasting_address: %#llx is not in the window", ull(address));
  }
  block& place = blocks_[in_window / frame_bytes];
  const std::scoped_lock one_at_a_time(lasting_mutex_);
  gpu_frame frame{};
  {
    const std::scoped_lock lock(mutex_);
    if (place.is_taken && !place.is_returned) frame = place.frame;
  }
  if (!frame) return fail(GM_ERROR_INVALID_ARGUMENT, "lasting_address: %#llx is of no piece", ull(address));
  if (frame.lasting == 0) {
    if (const gm_status status = make_lasting(&frame); status != GM_OK) return status;
    const std::scoped_lock lock(mutex_);
    place.frame = frame;
  }
  *lasting = frame.lasting + in_window % frame_bytes;
  return GM_OK;
}

std::uint64_t gpu_memory::where_kernels_look(std::uint64_t address, std::uint64_t bytes) const noexcept {
  const std::uint64_t in_window = address - window_base_;
  const std::uint64_t in_frame = in_window % frame_bytes;
  if (!has_window() || in_window >= window_bytes_ || bytes > frame_bytes - in_frame) return address;
  const std::scoped_lock lock(mutex_);
  const std::uint64_t lasting = blocks_[in_window / frame_bytes].frame.lasting;
  return lasting != 0 ? lasting + in_frame : address;
}

// With lasting_mutex_.
gm_status gpu_memory::make_lasting(gpu_frame* frame) noexcept {
  try {
    const std::scoped_lock lock(mutex_);
    idle_lasting_.reserve(with_lasting_ + 1);
  } catch (const std::bad_alloc&) {
    return fail(GM_ERROR_NO_MEMORY, "no memory to remember a frame with a lasting address");
  }
  const gm_status status = lasting_.give(*frame, &frame->lasting);
  if (status == GM_OK) ++with_lasting_;
  return status;
}

// What is ours to give counts as free. While the thread has a piece in hand nobody knows on which side that is, so it
// is let finish; but not for ever, since its driver may be waiting for somebody.
vendor::error gpu_memory::ask(std::uint64_t* free_bytes, std::uint64_t* total_bytes) noexcept {
  for (int tries = 1;; ++tries) {
    std::unique_lock lock(mutex_);
    has_taken_apart_.wait_for(lock, std::chrono::milliseconds(20), [&] { return !is_in_hand_; });
    const std::uint64_t seen = taken_apart_;
    const std::uint64_t ours = (idle_.size() + idle_lasting_.size()) * frame_bytes + returned_bytes_;
    lock.unlock();
    const vendor::error error = vendor::memory_of(context_, free_bytes, total_bytes);
    if (error != vendor::success) return error;
    lock.lock();
    if (tries < 5 && (is_in_hand_ || taken_apart_ != seen)) continue;
    *free_bytes = std::min(*total_bytes, *free_bytes + ours);
    return error;
  }
}

bool gpu_memory::is_reached_by(int device) const noexcept {
  return !has_window() || std::find(peers_.begin(), peers_.end(), device) != peers_.end();
}

bool gpu_memory::contains(std::uint64_t address) const noexcept {
  if (has_window()) return address - window_base_ < window_bytes_ || lasting_.contains(address);
  const std::scoped_lock lock(mutex_);
  const auto next = ranges_.upper_bound(address);
  return next != ranges_.begin() && address < std::prev(next)->first + std::prev(next)->second;
}

}  // namespace gm::device::gpu
