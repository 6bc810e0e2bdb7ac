// SPDX-License-Identifier: Apache-2.0
// fake_gpu/vendor.h - the fake driver of machine.h behind the seam of device/gpu/vendor.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "device/backend.h"
#include "device/gpu/error_class.h"
#include "fake_gpu/machine.h"

namespace gm::device::gpu::vendor {

namespace fake = ::gm::fake_gpu;

inline constexpr const char* name = "fakegpu";

using error = fake::code;
inline constexpr error success = fake::code::ok;
inline constexpr error host_out_of_memory = fake::code::out_of_memory;

inline error_class classify(error which) noexcept {
  switch (which) {
    case fake::code::ok:
      return error_class::none;
    case fake::code::not_ready:
      return error_class::not_ready;
    case fake::code::out_of_memory:
      return error_class::no_memory;
    case fake::code::no_driver:
      return error_class::no_device;
    case fake::code::not_supported:
      return error_class::lacking;
    case fake::code::illegal_address:
    case fake::code::device_lost:
      return error_class::lost;
    case fake::code::not_while_capturing:
      return error_class::captured;
    default:
      return error_class::other;
  }
}
inline const char* describe(error which) noexcept { return fake::describe(which); }
inline void forget_error(error) noexcept { fake::forget_error(); }

struct context {
  int index = -1;
};
struct device_facts {
  char name[64];
  bool maps_memory;
  bool waits_for_values;
  bool writes_values;
  bool copies_in_batches;
};

inline error start(int* count) noexcept { return fake::start(count); }
inline error ask_device(int index, device_facts* facts) noexcept {
  if (const error result = fake::ask_device(index); result != success) return result;
  std::snprintf(facts->name, sizeof facts->name, "fake GPU %d", index);
  facts->maps_memory = fake::machine().maps_memory;
  facts->waits_for_values = fake::machine().waits_for_values;
  facts->writes_values = fake::machine().writes_values;
  facts->copies_in_batches = fake::machine().batches;
  return success;
}
inline error open_context(int index, context* result) noexcept {
  result->index = index;
  return fake::open_context(index);
}
error close_context(const context& which) noexcept;

struct outside {
  int device = -1;
  bool is_device_changed = false;
  bool may_spoil_captures = false;
  bool is_mode_changed = false;
};
inline error enter(const context& which, outside* before) noexcept {
  before->device = fake::current_device();
  if (const error result = fake::make_current(which.index); result != success) return result;
  before->is_device_changed = true;
  const error result = fake::exchange_capture_mode(&before->may_spoil_captures);
  before->is_mode_changed = result == success;
  return result;
}
inline error leave(outside* before) noexcept {
  if (before->is_mode_changed) {
    bool may_spoil = before->may_spoil_captures;
    if (const error result = fake::exchange_capture_mode(&may_spoil); result != success) return result;
    before->is_mode_changed = false;
  }
  if (before->is_device_changed) {
    if (const error result = fake::make_current(before->device); result != success) return result;
    before->is_device_changed = false;
  }
  return success;
}

inline error memory_of(const context& which, std::uint64_t* free_bytes, std::uint64_t* total_bytes) noexcept {
  return fake::memory_of(which.index, free_bytes, total_bytes);
}
inline error reaches(int, int, bool* can) noexcept { return fake::reaches(can); }

using stream = fake::stream*;
using event = fake::event*;
inline constexpr stream no_stream = nullptr;
inline constexpr event no_event = nullptr;
inline error create_stream(stream* result, bool) noexcept { return fake::create_stream(result); }
inline error destroy_stream(stream which) noexcept { return fake::destroy_stream(which); }
inline error synchronize_stream(stream which) noexcept { return fake::synchronize_stream(which); }
inline error stream_is_whole(stream which) noexcept {
  const error result = fake::query_stream(which);
  return result == fake::code::not_ready ? success : result;
}
inline error create_event(event* result) noexcept { return fake::create_event(result); }
inline error destroy_event(event which) noexcept {
  fake::destroy_event(which);
  return success;
}
inline error record_event(event which, stream on) noexcept { return fake::record_event(which, on); }
inline error query_event(event which) noexcept { return fake::query_event(which); }
inline error synchronize_event(event which) noexcept { return fake::synchronize_event(which); }
inline error wait_for_event(stream on, event which) noexcept { return fake::wait_for_event(on, which); }

inline error copy(const copy_run& run, stream on) noexcept {
  fake::way where = fake::way::on_device;
  if (run.direction == direction::host_to_device) where = fake::way::to_device;
  if (run.direction == direction::device_to_host) where = fake::way::to_host;
  return fake::copy(run.destination, run.source, run.bytes, where, on);
}
inline error copy_batch(const copy_run* runs, std::size_t count, stream on) noexcept {
  error result = success;
  for (std::size_t i = 0; i < count && result == success; ++i) result = copy(runs[i], on);
  return result;
}
inline error copy_between_devices(const copy_run& run, int, int, stream on) noexcept {
  return fake::copy(run.destination, run.source, run.bytes, fake::way::on_device, on);
}
inline error fill(std::uint64_t destination, std::uint8_t value, std::uint64_t bytes, stream on) noexcept {
  return fake::fill(destination, value, bytes, on);
}

struct flag {
  std::uint64_t* host = nullptr;
};
inline error create_flag(flag* result) noexcept { return fake::create_flag(&result->host); }
inline error destroy_flag(const flag& which) noexcept { return fake::destroy_flag(which.host); }
inline error wait_for_value(stream on, const flag& which, std::uint64_t least) noexcept {
  return fake::wait_for_value(on, which.host, least);
}
inline error write_values(const word_write* words, std::size_t count, stream on) noexcept {
  error result = success;
  for (std::size_t i = 0; i < count && result == success; ++i) {
    result = fake::write_value(words[i].destination, words[i].value, on);
  }
  return result;
}
inline error call_host(stream on, void (*function)(void*) noexcept, void* argument) noexcept {
  return fake::call_host(on, function, argument);
}

inline error allocate(std::uint64_t bytes, std::uint64_t* address) noexcept { return fake::allocate(bytes, address); }
inline error free_memory(std::uint64_t address) noexcept { return fake::free_memory(address); }
inline error reserve(std::uint64_t bytes, std::uint64_t alignment, std::uint64_t* base) noexcept {
  return fake::reserve(bytes, alignment, base);
}
inline error unreserve(std::uint64_t base, std::uint64_t bytes) noexcept { return fake::unreserve(base, bytes); }

using memory = fake::physical*;
inline constexpr memory no_memory = nullptr;
inline error create_memory(const context& where, std::uint64_t bytes, memory* result) noexcept {
  return fake::create_memory(where.index, bytes, result);
}
inline error release_memory(memory which) noexcept { return fake::release_memory(which); }
inline error map(std::uint64_t address, std::uint64_t bytes, memory which) noexcept {
  return fake::map(address, bytes, which);
}
inline error unmap(std::uint64_t address, std::uint64_t bytes) noexcept { return fake::unmap(address, bytes); }
inline error allow_access(std::uint64_t address, std::uint64_t bytes, const int* devices, std::size_t count) noexcept {
  return fake::allow_access(address, bytes, devices, count);
}
inline error lock_host(void* host, std::size_t bytes) noexcept { return fake::lock_host(host, bytes); }
inline error unlock_host(void* host) noexcept { return fake::unlock_host(host); }
inline error allocate_pinned(std::uint64_t bytes, void** result) noexcept {
  return fake::allocate_pinned(bytes, result);
}
inline error allocate_shared(std::uint64_t bytes, void** host, std::uint64_t* device_address) noexcept {
  return fake::allocate_shared(bytes, host, device_address);
}
inline error free_pinned(void* host) noexcept { return fake::free_pinned(host); }

}  // namespace gm::device::gpu::vendor
