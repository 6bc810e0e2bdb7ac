// SPDX-License-Identifier: Apache-2.0
// gpu_stream_thread.cpp - the side of the stream's thread: waits, host steps, callbacks, completion.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <numeric>
#include <vector>

#include "device/gpu/gpu_error.h"
#include "device/gpu/gpu_stream.h"
#include "device/gpu/on_device.h"
#include "device/gpu/staged_copies.h"
#include "device/parts/running_units.h"

namespace gm::device {

using gpu::event_ref;
using gpu::unit;
using gpu::unit_kind;
namespace vendor = gpu::vendor;

namespace {

constexpr std::uint64_t between_bytes = std::uint64_t{1} << 20;

// A copy between the host and that device, done when it returns.
vendor::error copy_at_once(device* of, const copy_run& run) noexcept {
  const gpu::on_device there(of->context);
  if (there.error() != vendor::success) return there.error();
  vendor::stream on = vendor::no_stream;
  vendor::error error = vendor::create_stream(&on, false);
  if (error != vendor::success) return error;
  error = vendor::copy(run, on);
  const vendor::error at_end = gpu::wait_for_all(on);
  if (at_end != vendor::success) of->wait_failed(at_end, "waiting for a copy");
  gpu::ignore(vendor::destroy_stream(on));
  return error != vendor::success ? error : at_end;
}

std::uint64_t bytes_of(const std::vector<copy_run>& copies) noexcept {
  return std::accumulate(copies.begin(), copies.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const copy_run& run) { return sum + run.bytes; });
}

}  // namespace

void stream::thread_main() noexcept {
  while (unit* const u = queue_.next()) {
    const std::uint64_t position = u->position;
    run(u);
    completed_.complete(position);
    queue_.done(u);
  }
}

void stream::run(unit* u) noexcept {
  gm_status result = run_work(u);
  if (u->kind == unit_kind::wait) return;
  if (u->status != GM_OK) result = fail(u->status, "%s", u->words.c_str());
  if (!is_independent_) {
    // The first failure is everybody's; this unit's own becomes the first where there is none.
    failure_.set(result, error_text());
    result = failure_.current();
  }
  if (u->done != nullptr) u->done(u->argument, result);
}

gm_status stream::run_work(unit* u) noexcept {
  switch (u->kind) {
    case unit_kind::transfer:
    case unit_kind::fence: {
      gm_status result = happened(u->end);
      if (result == GM_OK && u->status == GM_OK && u->ready != nullptr) result = ask(u);
      return result;
    }
    case unit_kind::wait:
      u->awaited.stream->wait_complete(u->awaited.position);
      return GM_OK;
    case unit_kind::call:
    case unit_kind::host_transfer:
      break;
  }
  if (u->gate == 0) return happened(u->end);  // skipped when it was enqueued
  gm_status result = happened(u->reached);
  if (result == GM_OK && !is_independent_) result = failure_.current();
  if (result == GM_OK && u->ready != nullptr) result = ask(u);
  if (result == GM_OK) result = u->kind == unit_kind::call ? run_call(u) : carry_out(u);
  open_gate(u->gate);
  return result;
}

// A stream that has failed has nothing to ask.
gm_status stream::ask(const unit* u) noexcept {
  if (!is_independent_ && failure_.is_set()) return failure_.current();
  const gm_status why_not = u->ready(u->argument);
  return why_not == GM_OK ? GM_OK : fail(why_not, "what a copy was to read did not arrive");
}

gm_status stream::run_call(const unit* u) noexcept {
  try {
    const running_mark mark({this, u->position});
    u->function(u->argument);
    return GM_OK;
  } catch (...) {
    return fail(GM_ERROR_DEVICE, "a function called in stream order threw an exception");
  }
}

// Done when it returns, whatever it returns.
gm_status stream::carry_out(const unit* u) noexcept {
  vendor::error error = vendor::success;
  if (helper_ == vendor::no_stream) {
    error = vendor::create_stream(&helper_, is_independent_);
    if (error != vendor::success) return device_->failed(error, "making a stream for host copies");
  }
  error = carry_out_runs(u);
  if (error == vendor::success && u->status == GM_OK && !u->writes.empty()) error = write_words(u);
  if (error == vendor::success) return GM_OK;
  const gm_status status = device_->failed(error, "copying");
  // Some of it may be on its way yet, where the API has said no to the end.
  const vendor::error at_end = gpu::wait_for_all(helper_);
  return at_end == vendor::success ? status : device_->wait_failed(at_end, "waiting for host copies");
}

// The runs of a host transfer, up to the one that is made to fail.
vendor::error stream::carry_out_runs(const unit* u) noexcept {
  vendor::error error = vendor::success;
  backend& owner = *device_->owner;
  gpu::staged_copies staged(owner.chunks, owner.copiers, device_->events, helper_, bytes_of(u->copies));
  run_path before = run_path::by_stream;
  for (std::size_t i = 0; i < u->runs_max && error == vendor::success; ++i) {
    if (i < u->fills.size()) {
      error = fill_one(u->fills[i], !u->writes.empty(), helper_);
      continue;
    }
    const copy_run& run = u->copies[i - u->fills.size()];
    const run_path path = path_of(run);
    // It may read what runs of another path have written. Fills are on the stream already, ahead of all copies.
    const bool is_first = i == u->fills.size();
    if (path == run_path::out_of_reach || (path != before && !is_first)) error = staged.settle();
    before = path;
    if (error == vendor::success) error = carry_out_run(run, path, &staged);
  }
  return staged.settle(error);
}

// Where the device has no operation for it, a copy of eight bytes that lie as a word does is taken to be one.
vendor::error stream::write_words(const unit* u) noexcept {
  vendor::error error = vendor::success;
  if (device_->facts.writes_values) {
    error = vendor::write_values(u->writes.data(), u->writes.size(), helper_);
  } else {
    for (const word_write& word : u->writes) {
      const auto value = reinterpret_cast<std::uint64_t>(&word.value);
      error = vendor::copy({word.destination, value, sizeof word.value, direction::host_to_device}, helper_);
      if (error != vendor::success) break;
    }
  }
  const vendor::error at_end = gpu::wait_for_all(helper_);
  return error != vendor::success ? error : at_end;
}

vendor::error stream::carry_out_run(const copy_run& run, run_path path, gpu::staged_copies* staged) noexcept {
  switch (path) {
    case run_path::by_stream:
      return copy_one(run, helper_);
    case run_path::staged_to_device:
    case run_path::staged_to_host:
      return staged->add(run);
    case run_path::out_of_reach:
      break;
  }
  return carry_out_of_reach(run);
}

// Everything before it is done, and it is done when it returns.
vendor::error stream::carry_out_of_reach(const copy_run& run) noexcept {
  const auto device_of = [&](std::uint64_t address) {
    device* const other = out_of_reach(address);
    return other != nullptr ? other : device_;
  };
  if (between_ == nullptr) between_.reset(new (std::nothrow) std::uint8_t[between_bytes]);
  if (between_ == nullptr) return vendor::host_out_of_memory;
  const auto between = reinterpret_cast<std::uint64_t>(between_.get());
  vendor::error error = vendor::success;
  for (std::uint64_t at = 0; at < run.bytes && error == vendor::success; at += between_bytes) {
    const std::uint64_t bytes = std::min(between_bytes, run.bytes - at);
    const std::uint64_t source = run.source + at;
    const std::uint64_t destination = run.destination + at;
    if (run.direction == direction::host_to_device) {
      std::memcpy(between_.get(), reinterpret_cast<const void*>(source), bytes);
    } else {
      error = copy_at_once(device_of(source), {between, source, bytes, direction::device_to_host});
    }
    if (error != vendor::success) break;
    if (run.direction == direction::device_to_host) {
      std::memcpy(reinterpret_cast<void*>(destination), between_.get(), bytes);
    } else {
      error = copy_at_once(device_of(destination), {destination, between, bytes, direction::host_to_device});
    }
  }
  return error;
}

// Waits until the event has. No event: it could not be recorded, and there is nothing to wait for.
gm_status stream::happened(const event_ref& event) noexcept {
  if (const gm_status lost = device_->loss.current(); lost != GM_OK) return lost;
  if (!event) return GM_OK;
  const vendor::error error = gpu::wait_for(event);
  if (error == vendor::success) return GM_OK;
  return device_->wait_failed(error, "work on a stream failed");
}

void stream::open_gate(std::uint64_t value) noexcept {
  const std::atomic_ref<std::uint64_t> flag(*flag_.host);
  flag.store(value, std::memory_order_release);
  flag.notify_all();
}

}  // namespace gm::device
