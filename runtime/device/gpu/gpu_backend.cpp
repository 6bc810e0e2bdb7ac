// SPDX-License-Identifier: Apache-2.0
// gpu_backend.cpp - the table of a GPU backend: checks arguments, counts injected failures, and hands over to
// gpu_memory and gpu_stream.
//
// Locking: backend::mutex covers the lists of devices and streams; starting and ending a stream is done outside it.
// Threads: as backend.h says. The calling thread's current device is the same afterwards.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "device/backend.h"
#include "device/gpu/gpu_device.h"
#include "device/gpu/gpu_error.h"
#include "device/gpu/gpu_stream.h"
#include "device/gpu/on_device.h"
#include "device/gpu/registering_probe.h"
#include "device/parts/running_units.h"

namespace gm::device {

namespace vendor = gpu::vendor;

namespace {

constexpr std::uint32_t devices_max = 32;

gm_status refuse(operation what, const char* name) {
  return fail(what == operation::piece_create ? GM_ERROR_NO_MEMORY : GM_ERROR_DEVICE, "%s was made to fail", name);
}

gm_status null_argument(const char* function) {
  return fail(GM_ERROR_INVALID_ARGUMENT, "%s: an argument is null", function);
}

// The driver keeps threads and pointers into its own libraries, so this object stays.
void stay_loaded() {
  static const char here = 0;
  Dl_info info{};
  if (dladdr(&here, &info) != 0) dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

// ---- Backend and devices -------------------------------------------------------------------------------------------

gm_status open(const backend_options* options, backend** result, std::uint32_t* device_count) {
  if (options == nullptr || result == nullptr || device_count == nullptr) return null_argument("open");
  stay_loaded();
  int count = 0;
  const vendor::error error = vendor::start(&count);
  if (error != vendor::success) return gpu::fail_api(error, "starting the driver");
  if (count <= 0) return fail(GM_ERROR_UNSUPPORTED, "the driver has no device");
  try {
    auto made = std::make_unique<backend>(*options);
    made->devices.resize(std::min(static_cast<std::uint32_t>(count), devices_max));
    *device_count = static_cast<std::uint32_t>(made->devices.size());
    *result = made.release();
    return GM_OK;
  } catch (const std::bad_alloc&) {
    return fail(GM_ERROR_NO_MEMORY, "no memory for a list of devices");
  }
}

void shut(device& open) {
  const gpu::on_device here(open.context);
  for (const auto& each : open.owner->streams) each->forget(open);
  open.mailboxes.close();
  open.tables.close();
  open.zero.close();
  open.memory.close();
  open.events.destroy_all();
}

void device_close(device* which) {
  if (which == nullptr) return;
  backend& owner = *which->owner;
  std::unique_ptr<device> closing;
  {
    const std::scoped_lock lock(owner.mutex);
    closing = std::move(owner.devices[static_cast<std::size_t>(which->index)]);
    const bool is_last =
        std::all_of(owner.devices.begin(), owner.devices.end(), [](const auto& each) { return each == nullptr; });
    if (is_last) {
      const gpu::on_device here(closing->context);
      owner.registrations.unlock_all();
      owner.chunks.close();
    }
  }
  shut(*closing);
  gpu::ignore(vendor::close_context(closing->context));
}

void close(backend* which) {
  if (which == nullptr) return;
  for (const auto& each : which->streams) {
    if (each->owner() != nullptr) each->retire();  // idle ones belong to no device
  }
  for (std::size_t i = 0; i < which->devices.size(); ++i) device_close(which->devices[i].get());
  delete which;
}

// Itself first, then those that can be given access to its memory.
vendor::error list_peers(const device& which, std::size_t count, std::vector<int>* peers) {
  peers->assign(1, which.index);
  for (int other = 0; other < static_cast<int>(count); ++other) {
    if (other == which.index) continue;
    bool can = false;
    if (const vendor::error error = vendor::reaches(other, which.index, &can); error != vendor::success) return error;
    if (can) peers->push_back(other);
  }
  return vendor::success;
}

// What kernels need that fetch their own pages. Where it is not to be had, the rest works as it does without.
void open_for_demand(device& made) {
  made.zero.open();
  gm_status status = made.mailboxes.open(made.owner->registrations);
  if (status == GM_OK) {
    const vendor::error error = made.tables.open(made.memory, made.zero);
    if (error != vendor::success) status = gpu::fail_api(error, "making a stream for tables");
  }
  made.serves_demand = status == GM_OK;
  if (!made.serves_demand) {
    std::fprintf(stderr, "gmem %s: device %d: kernels cannot fetch their own pages: %s\n", vendor::name, made.index,
                 error_text());
  }
}

gm_status open_parts(device& made, std::size_t device_count) {
  const gpu::on_device here(made.context);
  vendor::error error = here.error();
  std::vector<int> peers;
  if (error == vendor::success) error = list_peers(made, device_count, &peers);
  if (error != vendor::success) return gpu::fail_api(error, "opening a device");
  const gm_status status =
      made.memory.open(made.context, made.facts.maps_memory, made.owner->options.arena_bytes, std::move(peers));
  if (status != GM_OK) return status;
  made.owner->chunks.open();
  if (made.memory.has_lasting_addresses()) open_for_demand(made);
  made.registers_beside_work = gpu::registers_beside_work(made);
  return GM_OK;
}

gm_status open_on_device(device& made, std::size_t device_count) {
  vendor::error error = vendor::ask_device(made.index, &made.facts);
  if (error == vendor::success) error = vendor::open_context(made.index, &made.context);
  if (error != vendor::success) return gpu::fail_api(error, "opening a device");
  const gm_status status = open_parts(made, device_count);
  if (status != GM_OK) gpu::ignore(vendor::close_context(made.context));
  return status;
}

gm_status device_open(backend* owner, std::uint32_t index, device** result) {
  if (owner == nullptr || result == nullptr) return null_argument("device_open");
  if (index >= owner->devices.size()) {
    return fail(GM_ERROR_INVALID_ARGUMENT, "device %u: there are %zu", index, owner->devices.size());
  }
  try {
    auto made = std::make_unique<device>();
    made->owner = owner;
    made->index = static_cast<int>(index);
    const std::scoped_lock lock(owner->mutex);
    if (owner->devices[index] != nullptr) return fail(GM_ERROR_BUSY, "device %u is open already", index);
    if (const gm_status status = open_on_device(*made, owner->devices.size()); status != GM_OK) return status;
    *result = made.get();
    owner->devices[index] = std::move(made);
    return GM_OK;
  } catch (const std::bad_alloc&) {
    return fail(GM_ERROR_NO_MEMORY, "no memory for device %u", index);
  }
}

gm_status device_info_get(device* which, device_info* result) {
  if (which == nullptr || result == nullptr) return null_argument("device_info_get");
  *result = {};
  std::snprintf(result->name, sizeof result->name, "%s", which->facts.name);
  const gpu::on_device here(which->context);
  vendor::error error = here.error();
  if (error == vendor::success) error = which->memory.ask(&result->free_bytes, &result->total_bytes);
  if (error != vendor::success) return which->failed(error, "asking for a device's memory");
  result->capabilities =
      has_native_streams | has_peer_copies | (which->memory.has_window() ? has_window | may_share_addresses : 0u) |
      (which->registers_beside_work ? registers_host_memory : 0u) | (which->serves_demand ? has_access_maps : 0u);
  result->window_base = which->memory.window_base();
  result->pool_base = which->serves_demand ? which->memory.lasting_base() : 0;
  return GM_OK;
}

// ---- Memory --------------------------------------------------------------------------------------------------------

gm_status piece_create(device* where, std::uint64_t offset, std::uint32_t frames, std::uint64_t* address) {
  if (where == nullptr || address == nullptr) return null_argument("piece_create");
  if (where->owner->failures.is_due(operation::piece_create)) return refuse(operation::piece_create, "piece_create");
  if (const gm_status lost = where->loss.current(); lost != GM_OK) return lost;
  const gpu::on_device here(where->context);
  if (here.error() != vendor::success) return where->failed(here.error(), "making a piece of device memory");
  return where->memory.piece_create(offset, frames, address);
}

void piece_destroy(device* where, std::uint64_t offset, std::uint32_t frames, std::uint64_t address) {
  const gpu::on_device here(where->context);
  where->memory.piece_destroy(offset, frames, address);
}

// Any device's context will do: registered memory is for all of them.
// One that is lost only where there is no other.
device* first_open_device(backend& owner) {
  const std::scoped_lock lock(owner.mutex);
  device* lost = nullptr;
  for (const auto& each : owner.devices) {
    if (each == nullptr) continue;
    if (!each->loss.is_set()) return each.get();
    lost = each.get();
  }
  return lost;
}

gm_status host_register(backend* owner, void* memory, std::size_t bytes) {
  if (owner == nullptr) return null_argument("host_register");
  device* const any = first_open_device(*owner);
  if (any == nullptr) return fail(GM_ERROR_INVALID_ARGUMENT, "host_register: no device is open");
  const gpu::on_device here(any->context);
  if (here.error() != vendor::success) return any->failed(here.error(), "locking host memory");
  return owner->registrations.lock(memory, bytes);
}

void host_retire(backend* owner, void* memory) {
  if (owner != nullptr) owner->registrations.retire(memory);
}

void host_unregister(backend* owner, void* memory, std::size_t bytes) {
  if (owner == nullptr) return;
  const device* const any = first_open_device(*owner);
  if (any == nullptr) return;
  const gpu::on_device here(any->context);
  owner->registrations.unlock(memory, bytes);
}

// ---- Demand --------------------------------------------------------------------------------------------------------

// The status of work(), on the device, unless that is lost or cannot be got to.
template <class Work>
gm_status work_on(device& where, Work work) {
  if (const gm_status lost = where.loss.current(); lost != GM_OK) return lost;
  const gpu::on_device here(where.context);
  return here.error() == vendor::success ? work() : where.failed(here.error(), "working on a device");
}

gm_status lasting_address(device* where, std::uint64_t address, std::uint64_t* lasting) {
  if (where == nullptr || lasting == nullptr) return null_argument("lasting_address");
  // Before anybody knows of it.
  where->owner->lasting_frames.fetch_add(1, std::memory_order_release);
  return work_on(*where, [&] { return where->memory.lasting_address(address, lasting); });
}

gm_status table_reserve(device* where, std::uint64_t bytes, std::uint64_t* address) {
  if (where == nullptr || address == nullptr || bytes == 0) return null_argument("table_reserve");
  return work_on(*where, [&] { return where->tables.reserve(bytes, address); });
}

gm_status table_extend(device* where, std::uint64_t address, std::uint64_t bytes) {
  if (where == nullptr || address == 0) return null_argument("table_extend");
  return work_on(*where, [&] { return where->tables.extend(address, bytes); });
}

gm_status mailbox_create(device* where, std::uint64_t bytes, void** host, std::uint64_t* device_address) {
  if (where == nullptr || host == nullptr || device_address == nullptr || bytes == 0) {
    return null_argument("mailbox_create");
  }
  return work_on(*where, [&] { return where->mailboxes.create(bytes, host, device_address); });
}

void mailbox_destroy(device* where, void* host) {
  if (where != nullptr) where->mailboxes.destroy(host);
}

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

template <class Start>
gm_status start_stream(backend& owner, stream** result, Start start) {
  stream* const idle = take_idle_stream(owner);
  if (idle == nullptr) return fail(GM_ERROR_NO_MEMORY, "no memory for a stream");
  const gm_status status = start(*idle);
  if (status != GM_OK) {
    give_back_idle_stream(owner, idle);
    return status;
  }
  *result = idle;
  return GM_OK;
}

gm_status stream_create(device* where, std::uint32_t flags, stream** result) {
  if (where == nullptr || result == nullptr) return null_argument("stream_create");
  if ((flags & ~std::uint32_t{stream_independent}) != 0) {
    return fail(GM_ERROR_INVALID_ARGUMENT, "stream flags %#x are not known", flags);
  }
  if (where->owner->failures.is_due(operation::stream_create)) {
    return refuse(operation::stream_create, "stream_create");
  }
  if (const gm_status lost = where->loss.current(); lost != GM_OK) return lost;
  return start_stream(*where->owner, result, [&](stream& idle) { return idle.start(where, flags); });
}

gm_status stream_from_native(device* where, void* native, stream** result) {
  if (where == nullptr || result == nullptr) return null_argument("stream_from_native");
  if (const gm_status lost = where->loss.current(); lost != GM_OK) return lost;
  return start_stream(*where->owner, result,
                      [&](stream& idle) { return idle.start_from(where, reinterpret_cast<vendor::stream>(native)); });
}

void stream_destroy(stream* which) {
  if (which == nullptr) return;
  backend& owner = *which->owner()->owner;
  which->retire();
  give_back_idle_stream(owner, which);
}

gm_status stream_native(stream* which, native_stream* result) {
  if (which == nullptr || result == nullptr) return null_argument("stream_native");
  *result = {reinterpret_cast<void*>(which->native()), which->owner()->index, which->has_failed()};
  return GM_OK;
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

gm_status push_transfer(stream* on, readiness ready, const transfer_work& what, callback done, void* argument,
                        fence* completion) {
  if (on == nullptr || (what.fills == nullptr && what.fill_count != 0) ||
      (what.copies == nullptr && what.copy_count != 0) || (what.words == nullptr && what.word_count != 0)) {
    return null_argument("transfer");
  }
  counted_failures& failures = on->owner()->owner->failures;
  if (what.fill_count != 0 && failures.is_due(operation::fill_submit)) return refuse(operation::fill_submit, "a fill");
  if (what.copy_count != 0 && failures.is_due(operation::copy_submit)) return refuse(operation::copy_submit, "a copy");
  return on->transfer(ready, what, done, argument, completion);
}

gm_status transfer_if(stream* on, readiness ready, const fill_run* fills, std::size_t fill_count,
                      const copy_run* copies, std::size_t copy_count, callback done, void* argument,
                      fence* completion) {
  return push_transfer(on, ready, {fills, fill_count, copies, copy_count, nullptr, 0}, done, argument, completion);
}

gm_status transfer_and_write(stream* on, const fill_run* fills, std::size_t fill_count, const copy_run* copies,
                             std::size_t copy_count, const word_write* words, std::size_t word_count, callback done,
                             void* argument, fence* completion) {
  for (std::size_t i = 0; words != nullptr && i < word_count; ++i) {
    if (words[i].destination % sizeof(std::uint64_t) == 0) continue;
    return fail(GM_ERROR_INVALID_ARGUMENT, "a word at %#llx does not lie as words do",
                static_cast<unsigned long long>(words[i].destination));
  }
  return push_transfer(on, nullptr, {fills, fill_count, copies, copy_count, words, word_count}, done, argument,
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
  if (on->owner()->owner->failures.is_due(operation::wait_submit)) {
    return refuse(operation::wait_submit, "stream_wait");
  }
  // What is behind the fence in its own stream is behind it anyway.
  if (awaited.stream == on || fence_done(awaited)) return GM_OK;
  return on->wait_for(awaited);
}

gm_status fence_record(stream* on, callback done, void* argument, fence* completion) {
  if (on == nullptr) return null_argument("fence_record");
  if (on->owner()->owner->failures.is_due(operation::fence_record)) {
    return refuse(operation::fence_record, "fence_record");
  }
  return on->record(done, argument, completion);
}

gm_status call(stream* on, void (*function)(void*), void* argument) {
  if (on == nullptr || function == nullptr) return null_argument("call");
  if (on->owner()->owner->failures.is_due(operation::call_submit)) return refuse(operation::call_submit, "call");
  return on->call(function, argument);
}

void fail_nth(backend* which, operation what, std::uint64_t n) {
  if (which != nullptr) which->failures.arm(what, n);
}

constexpr backend_table table = {
    .abi = backend_abi,
    .name = vendor::name,
    .open = open,
    .close = close,
    .device_open = device_open,
    .device_close = device_close,
    .device_info_get = device_info_get,
    .piece_create = piece_create,
    .piece_destroy = piece_destroy,
    .stream_create = stream_create,
    .stream_from_native = stream_from_native,
    .stream_destroy = stream_destroy,
    .stream_native = stream_native,
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
    .launch = nullptr,
    .running_unit = running_unit,
    .host_register = host_register,
    .host_retire = host_retire,
    .host_unregister = host_unregister,
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
