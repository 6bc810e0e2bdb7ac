// SPDX-License-Identifier: Apache-2.0
// sim_backend.cpp - the table of the simulated device's functions: checks arguments, counts injected failures, and
// hands over to sim_memory and sim_stream.
//
// Locking: backend::mutex covers the lists of devices and streams; starting and ending a stream's thread is done
// outside it. Threads: as backend.h says.
#include <dlfcn.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "device/backend.h"
#include "device/parts/counted_failures.h"
#include "device/parts/error_text.h"
#include "device/parts/running_units.h"
#include "device/sim/sim_device.h"
#include "device/sim/sim_memory.h"
#include "device/sim/sim_stream.h"

namespace gm::device {

struct backend {
  explicit backend(const backend_options& chosen) : options(chosen) {}

  const backend_options options;
  counted_failures failures;
  std::mutex mutex;
  std::vector<std::unique_ptr<device>> devices;  // null: not open
  std::vector<std::unique_ptr<stream>> streams;  // all that ever were
  std::vector<stream*> idle_streams;             // has room for all of them
};

namespace {

using sim::frame_bytes;
using sim::unit_kind;

constexpr std::uint32_t devices_max = 32;
constexpr std::uint64_t memory_bytes_max = std::uint64_t{1} << 46;
constexpr std::uint64_t arena_bytes_max = std::uint64_t{1} << 46;

unsigned long long ull(std::uint64_t value) { return value; }

gm_status refuse(operation what, const char* name) {
  return fail(what == operation::piece_create ? GM_ERROR_NO_MEMORY : GM_ERROR_DEVICE, "%s was made to fail", name);
}

gm_status null_argument(const char* function) {
  return fail(GM_ERROR_INVALID_ARGUMENT, "%s: an argument is null", function);
}

// TBB's threads outlive the last kernel, so neither it nor this object may be unloaded.
void stay_loaded() {
  static const char here = 0;
  Dl_info info{};
  if (dladdr(&here, &info) != 0) dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

gm_status check(const backend_options& options) {
  if (options.sim_devices < 1 || options.sim_devices > devices_max) {
    return fail(GM_ERROR_INVALID_ARGUMENT, "%u simulated devices: 1 to %u are possible", options.sim_devices,
                devices_max);
  }
  if (options.sim_memory_bytes == 0 || options.sim_memory_bytes % frame_bytes != 0 ||
      options.sim_memory_bytes > memory_bytes_max) {
    return fail(GM_ERROR_INVALID_ARGUMENT,
                "%llu bytes of simulated device memory: a multiple of 2 MiB, not 0 and at most 64 TiB, is possible",
                ull(options.sim_memory_bytes));
  }
  if (options.sim_window &&
      (options.arena_bytes == 0 || options.arena_bytes % frame_bytes != 0 || options.arena_bytes > arena_bytes_max)) {
    return fail(GM_ERROR_INVALID_ARGUMENT,
                "a window of %llu bytes: a multiple of 2 MiB, not 0 and at most 64 TiB, is possible",
                ull(options.arena_bytes));
  }
  return GM_OK;
}

// ---- Backend and devices -------------------------------------------------------------------------------------------

gm_status open(const backend_options* options, backend** result, std::uint32_t* device_count) {
  if (options == nullptr || result == nullptr || device_count == nullptr) return null_argument("open");
  const gm_status status = check(*options);
  if (status != GM_OK) return status;
  stay_loaded();
  try {
    auto made = std::make_unique<backend>(*options);
    made->devices.resize(options->sim_devices);
    *device_count = options->sim_devices;
    *result = made.release();
    return GM_OK;
  } catch (const std::bad_alloc&) {
    return fail(GM_ERROR_NO_MEMORY, "no memory for the simulated devices");
  }
}

void close(backend* which) {
  if (which == nullptr) return;
  for (const auto& each : which->streams) each->retire();
  delete which;
}

gm_status device_open(backend* owner, std::uint32_t index, device** result) {
  if (owner == nullptr || result == nullptr) return null_argument("device_open");
  const backend_options& options = owner->options;
  if (index >= options.sim_devices) {
    return fail(GM_ERROR_INVALID_ARGUMENT, "simulated device %u: there are %u", index, options.sim_devices);
  }
  const std::scoped_lock lock(owner->mutex);
  if (owner->devices[index] != nullptr) return fail(GM_ERROR_BUSY, "simulated device %u is open already", index);
  try {
    auto made = std::make_unique<device>();
    made->owner = owner;
    made->index = index;
    made->failures = &owner->failures;
    gm_status status = GM_OK;
    made->memory =
        sim::sim_memory::create(options.sim_memory_bytes, options.sim_window ? options.arena_bytes : 0, &status);
    if (status != GM_OK) return status;
    for (sim::sim_link& link : made->links) {
      link.set_model(options.sim_bandwidth_bytes_per_second, options.sim_latency_ns);
    }
    *result = made.get();
    owner->devices[index] = std::move(made);
    return GM_OK;
  } catch (const std::bad_alloc&) {
    return fail(GM_ERROR_NO_MEMORY, "no memory for simulated device %u", index);
  }
}

void device_close(device* which) {
  if (which == nullptr) return;
  backend& owner = *which->owner;
  const std::scoped_lock lock(owner.mutex);
  owner.devices[which->index].reset();
}

gm_status device_info_get(device* which, device_info* result) {
  if (which == nullptr || result == nullptr) return null_argument("device_info_get");
  *result = {};
  std::snprintf(result->name, sizeof result->name, "gmem simulated device %u", which->index);
  result->total_bytes = which->memory->total_bytes();
  result->free_bytes = which->memory->free_bytes();
  result->capabilities =
      has_host_launch | has_peer_copies | has_access_maps | (which->memory->has_window() ? has_window : 0u);
  result->window_base = which->memory->window_base();
  result->pool_base = which->memory->pool_base();
  return GM_OK;
}

// ---- Pieces --------------------------------------------------------------------------------------------------------

gm_status piece_create(device* where, std::uint64_t offset, std::uint32_t frames, std::uint64_t* address) {
  if (where == nullptr || address == nullptr) return null_argument("piece_create");
  if (where->failures->is_due(operation::piece_create)) return refuse(operation::piece_create, "piece_create");
  return where->memory->piece_create(offset, frames, address);
}

void piece_destroy(device* where, std::uint64_t offset, std::uint32_t frames, std::uint64_t address) {
  where->memory->piece_destroy(offset, frames, address);
}

// ---- Demand --------------------------------------------------------------------------------------------------------

gm_status lasting_address(device* where, std::uint64_t address, std::uint64_t* lasting) {
  if (where == nullptr || lasting == nullptr) return null_argument("lasting_address");
  return where->memory->lasting_address(address, lasting);
}

gm_status table_reserve(device* where, std::uint64_t bytes, std::uint64_t* address) {
  if (where == nullptr || address == nullptr || bytes == 0) return null_argument("table_reserve");
  return where->memory->table_reserve(bytes, address);
}

// Its pages are there when they are touched.
gm_status table_extend(device* where, std::uint64_t address, std::uint64_t) {
  if (where == nullptr || address == 0) return null_argument("table_extend");
  return GM_OK;
}

// A simulated device reaches all of the host's memory: one of its tables does. Few are ever made.
gm_status mailbox_create(device* where, std::uint64_t bytes, void** host, std::uint64_t* device_address) {
  if (where == nullptr || host == nullptr || device_address == nullptr) return null_argument("mailbox_create");
  const gm_status status = table_reserve(where, bytes, device_address);
  if (status == GM_OK) *host = reinterpret_cast<void*>(*device_address);
  return status;
}

void mailbox_destroy(device*, void*) {}  // goes with the device

// ---- Streams -------------------------------------------------------------------------------------------------------

// One that no thread runs: the one that ended last, or a new one. Null when there is no memory.
stream* take_idle_stream(backend& owner) {
  const std::scoped_lock lock(owner.mutex);
  if (!owner.idle_streams.empty()) {
    stream* const idle = owner.idle_streams.back();
    owner.idle_streams.pop_back();
    return idle;
  }
  try {
    auto made = std::make_unique<stream>();
    if (!made->create_storage()) return nullptr;
    owner.streams.reserve(owner.streams.size() + 1);
    owner.idle_streams.reserve(owner.streams.size() + 1);
    owner.streams.push_back(std::move(made));
    return owner.streams.back().get();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void give_back_idle_stream(backend& owner, stream* which) {
  const std::scoped_lock lock(owner.mutex);
  owner.idle_streams.push_back(which);
}

gm_status stream_create(device* where, std::uint32_t flags, stream** result) {
  if (where == nullptr || result == nullptr) return null_argument("stream_create");
  if ((flags & ~std::uint32_t{stream_independent}) != 0) {
    return fail(GM_ERROR_INVALID_ARGUMENT, "stream flags %#x are not known", flags);
  }
  if (where->failures->is_due(operation::stream_create)) return refuse(operation::stream_create, "stream_create");
  backend& owner = *where->owner;
  stream* const idle = take_idle_stream(owner);
  if (idle == nullptr) return fail(GM_ERROR_NO_MEMORY, "no memory for a stream");
  const gm_status status = idle->start(where, flags);
  if (status != GM_OK) {
    give_back_idle_stream(owner, idle);
    return status;
  }
  *result = idle;
  return GM_OK;
}

void stream_destroy(stream* which) {
  if (which == nullptr) return;
  which->retire();
  give_back_idle_stream(*which->owner()->owner, which);
}

gm_status stream_synchronize(stream* which) {
  if (which == nullptr) return null_argument("stream_synchronize");
  return which->synchronize();
}

gm_status stream_failure(stream* which) { return which != nullptr ? which->current_failure() : GM_OK; }

void stream_fail(stream* which, gm_status why) {
  if (which == nullptr) return;
  char text[error_text_bytes];
  std::snprintf(text, sizeof text, "work that the stream depends on failed%s%.300s", *error_text() ? ": " : "",
                error_text());
  which->set_failure(why, text);
}

// ---- Work ----------------------------------------------------------------------------------------------------------

gm_status push_transfer(stream* on, const sim::unit_request& request, fence* completion) {
  if (on == nullptr || (request.fills == nullptr && request.fill_count != 0) ||
      (request.copies == nullptr && request.copy_count != 0) || (request.words == nullptr && request.word_count != 0)) {
    return null_argument("transfer");
  }
  counted_failures& failures = *on->owner()->failures;
  if (request.fill_count != 0 && failures.is_due(operation::fill_submit))
    return refuse(operation::fill_submit, "a fill");
  if (request.copy_count != 0 && failures.is_due(operation::copy_submit))
    return refuse(operation::copy_submit, "a copy");
  if (request.word_count != 0 && failures.is_due(operation::word_submit))
    return refuse(operation::word_submit, "words");
  return on->push(request, completion);
}

gm_status transfer_if(stream* on, readiness ready, const fill_run* fills, std::size_t fill_count,
                      const copy_run* copies, std::size_t copy_count, callback done, void* argument,
                      fence* completion) {
  return push_transfer(on,
                       {.kind = unit_kind::transfer,
                        .done = done,
                        .ready = ready,
                        .argument = argument,
                        .fills = fills,
                        .fill_count = fill_count,
                        .copies = copies,
                        .copy_count = copy_count},
                       completion);
}

gm_status transfer_and_write(stream* on, const fill_run* fills, std::size_t fill_count, const copy_run* copies,
                             std::size_t copy_count, const word_write* words, std::size_t word_count, callback done,
                             void* argument, fence* completion) {
  return push_transfer(on,
                       {.kind = unit_kind::transfer,
                        .done = done,
                        .argument = argument,
                        .fills = fills,
                        .fill_count = fill_count,
                        .copies = copies,
                        .copy_count = copy_count,
                        .words = words,
                        .word_count = word_count},
                       completion);
}

gm_status transfer(stream* on, const fill_run* fills, std::size_t fill_count, const copy_run* copies,
                   std::size_t copy_count, callback done, void* argument, fence* completion) {
  return transfer_if(on, nullptr, fills, fill_count, copies, copy_count, done, argument, completion);
}

bool fence_done(fence which) { return which.stream == nullptr || which.stream->is_complete(which.position); }

void fence_wait(fence which) {
  if (which.stream != nullptr) which.stream->wait_complete(which.position);
}

gm_status stream_wait(stream* on, fence awaited) {
  if (on == nullptr) return null_argument("stream_wait");
  if (on->owner()->failures->is_due(operation::wait_submit)) return refuse(operation::wait_submit, "stream_wait");
  // What is behind the fence in its own stream is behind it anyway.
  if (awaited.stream == on || fence_done(awaited)) return GM_OK;
  return on->push({.kind = unit_kind::wait, .awaited = awaited}, nullptr);
}

gm_status fence_record(stream* on, callback done, void* argument, fence* completion) {
  if (on == nullptr) return null_argument("fence_record");
  if (on->owner()->failures->is_due(operation::fence_record)) return refuse(operation::fence_record, "fence_record");
  if (done == nullptr) {
    if (completion != nullptr) *completion = on->last_enqueued();
    return GM_OK;
  }
  return on->push({.kind = unit_kind::fence, .done = done, .argument = argument}, completion);
}

gm_status call(stream* on, void (*function)(void*), void* argument) {
  if (on == nullptr || function == nullptr) return null_argument("call");
  if (on->owner()->failures->is_due(operation::call_submit)) return refuse(operation::call_submit, "call");
  return on->push({.kind = unit_kind::call, .argument = argument, .function = function}, nullptr);
}

gm_status launch(stream* on, std::size_t count, void (*body)(void*, std::size_t, std::size_t), void (*finish)(void*),
                 void* argument) {
  if (on == nullptr || body == nullptr) return null_argument("launch");
  if (on->owner()->failures->is_due(operation::launch_submit)) return refuse(operation::launch_submit, "launch");
  return on->push({.kind = unit_kind::launch, .argument = argument, .function = finish, .count = count, .body = body},
                  nullptr);
}

void fail_nth(backend* which, operation what, std::uint64_t n) {
  if (which != nullptr) which->failures.arm(what, n);
}

constexpr backend_table table = {
    .abi = backend_abi,
    .name = "sim",
    .open = open,
    .close = close,
    .device_open = device_open,
    .device_close = device_close,
    .device_info_get = device_info_get,
    .piece_create = piece_create,
    .piece_destroy = piece_destroy,
    .stream_create = stream_create,
    .stream_from_native = nullptr,
    .stream_destroy = stream_destroy,
    .stream_native = nullptr,
    .stream_synchronize = stream_synchronize,
    .stream_failure = stream_failure,
    .stream_fail = stream_fail,
    .transfer = transfer,
    .transfer_if = transfer_if,
    .stream_wait = stream_wait,
    .fence_record = fence_record,
    .fence_done = fence_done,
    .fence_wait = fence_wait,
    .call = call,
    .launch = launch,
    .running_unit = running_unit,
    .host_register = nullptr,
    .host_retire = nullptr,
    .host_unregister = nullptr,
    .lasting_address = lasting_address,
    .table_reserve = table_reserve,
    .table_extend = table_extend,
    .mailbox_create = mailbox_create,
    .mailbox_destroy = mailbox_destroy,
    .transfer_and_write = transfer_and_write,
    .fail_nth = fail_nth,
    .error_text = error_text,
};

}  // namespace
}  // namespace gm::device

extern "C" __attribute__((visibility("default"))) const gm::device::backend_table* gm_backend_entry() {
  return &gm::device::table;
}
