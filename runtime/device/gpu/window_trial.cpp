// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/window_trial.h"

#include <algorithm>
#include <array>

#include "device/gpu/gpu_error.h"
#include "device/gpu/gpu_event.h"

namespace gm::device::gpu {
namespace {

constexpr std::uint64_t part_bytes = 4096;
constexpr std::uint8_t of_first = 0x5a;
constexpr std::uint8_t of_last = 0xc3;
constexpr std::uint8_t of_plain = 0x96;
constexpr std::uint8_t of_host = 0x3c;

class trial {
 public:
  trial(std::uint64_t frame, std::uint64_t frame_bytes) noexcept
      : first_(frame), last_(frame + frame_bytes - part_bytes) {}

  vendor::error of_window() noexcept {
    begin();
    by_device();
    by_host();
    return end();
  }

  vendor::error of_alias(std::uint64_t alias) noexcept {
    begin();
    const std::uint64_t last_alias = alias + (last_ - first_);
    fill(first_, of_first);
    fill(last_alias, of_last);
    expect(alias, of_first);
    expect(last_, of_last);
    carry(plain_, last_, direction::device_to_device);
    expect(plain_, of_last);
    fill(plain_, of_plain);
    carry(alias, plain_, direction::device_to_device);
    expect(first_, of_plain);
    return end();
  }

  bool is_same() const noexcept { return is_same_; }

 private:
  void begin() noexcept {
    error_ = vendor::create_stream(&on_, false);
    if (error_ == vendor::success) error_ = vendor::allocate(2 * part_bytes, &plain_);
  }

  vendor::error end() noexcept {
    if (plain_ != 0) ignore(vendor::free_memory(plain_));
    if (on_ != vendor::no_stream) ignore(vendor::destroy_stream(on_));
    return error_;
  }

  void fill(std::uint64_t where, std::uint8_t value) noexcept {
    if (error_ == vendor::success) error_ = vendor::fill(where, value, part_bytes, on_);
  }

  void carry(std::uint64_t destination, std::uint64_t source, direction way) noexcept {
    if (error_ == vendor::success) error_ = vendor::copy({destination, source, part_bytes, way}, on_);
  }

  // What stands there now, by a copy to the host.
  void expect(std::uint64_t where, std::uint8_t value) noexcept {
    host_.fill(static_cast<std::uint8_t>(~value));
    carry(reinterpret_cast<std::uint64_t>(host_.data()), where, direction::device_to_host);
    if (error_ == vendor::success) error_ = wait_for_all(on_);
    is_same_ = is_same_ && std::all_of(host_.begin(), host_.end(), [=](std::uint8_t each) { return each == value; });
  }

  void by_device() noexcept {
    const std::uint64_t second = plain_ + part_bytes;
    fill(first_, of_first);
    fill(last_, of_last);
    carry(plain_, first_, direction::device_to_device);
    carry(second, last_, direction::device_to_device);
    expect(plain_, of_first);
    expect(second, of_last);
    fill(plain_, of_plain);
    carry(last_, plain_, direction::device_to_device);
    carry(second, last_, direction::device_to_device);
    expect(second, of_plain);
  }

  void by_host() noexcept {
    expect(first_, of_first);
    expect(last_, of_plain);
    host_.fill(of_host);
    carry(first_, reinterpret_cast<std::uint64_t>(host_.data()), direction::host_to_device);
    carry(plain_, first_, direction::device_to_device);
    expect(plain_, of_host);
  }

  const std::uint64_t first_;
  const std::uint64_t last_;
  vendor::stream on_ = vendor::no_stream;
  std::uint64_t plain_ = 0;
  vendor::error error_ = vendor::success;
  bool is_same_ = true;
  std::array<std::uint8_t, part_bytes> host_{};
};

}  // namespace

vendor::error try_window(std::uint64_t frame, std::uint64_t frame_bytes, bool* works) noexcept {
  trial window(frame, frame_bytes);
  const vendor::error error = window.of_window();
  *works = error == vendor::success && window.is_same();
  return error;
}

vendor::error try_alias(std::uint64_t frame, std::uint64_t alias, std::uint64_t frame_bytes, bool* works) noexcept {
  trial both(frame, frame_bytes);
  const vendor::error error = both.of_alias(alias);
  *works = error == vendor::success && both.is_same();
  return error;
}

}  // namespace gm::device::gpu
