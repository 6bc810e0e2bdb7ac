// SPDX-License-Identifier: Apache-2.0
// transfer.cpp - entry points: gm_memcpy and gm_memset. Each is a scope over the managed sides, with the work queued in
// it: a copy or fill on a device's stream, or the CPU's own through the alias mapping.
#include <atomic>
#include <cstring>
#include <memory>
#include <new>

#include "api/entry.h"
#include "device/backend_loader.h"

using namespace gm;

namespace {

// One side of a copy. Ordinary memory has no range.
struct side {
  const void* pointer = nullptr;
  bool managed = false;
  byte_range range;
};

status side_of(runtime& rt, const void* pointer, std::size_t bytes, side& result) {
  result.pointer = pointer;
  if (pointer == nullptr) return fail(status::invalid_argument, "the pointer is null");
  result.managed = rt.vm.memory.contains(pointer);
  if (result.managed) return managed_range(rt, pointer, bytes, result.range);
  const auto begin = reinterpret_cast<std::uintptr_t>(pointer);
  const std::uintptr_t base = rt.vm.memory.user_base();
  if (begin + bytes < begin || (begin < base && begin + bytes > base))
    return fail(status::not_managed, "%zu bytes of ordinary memory at %p reach into gmem's arena", bytes, pointer);
  return status::ok;
}

// The CPU's own work, at once or in stream order.
struct host_work {
  void* destination;
  const void* source;  // null: memset
  int value;
  std::size_t bytes;

  void run() const {
    if (source != nullptr)
      std::memcpy(destination, source, bytes);
    else
      std::memset(destination, value, bytes);
  }
  static void run_queued(void* self) { static_cast<const host_work*>(self)->run(); }
};

// Waits for one unit on a copy stream.
struct unit_waiter {
  std::atomic<int> result{-1};

  static void done(void* self, gm_status result) {
    auto* waiter = static_cast<unit_waiter*>(self);
    waiter->result.store(result, std::memory_order_release);
    waiter->result.notify_one();  // the waiter may be gone by now: only the address is used
  }
  gm_status wait() {
    result.wait(-1, std::memory_order_acquire);
    return static_cast<gm_status>(result.load(std::memory_order_acquire));
  }
};

void* host_address(const runtime& rt, const side& s) {
  return s.managed ? rt.vm.memory.alias(s.range.begin) : const_cast<void*>(s.pointer);
}

std::uint64_t device_address(const runtime& rt, const side& s, unsigned node) {
  if (!s.managed) return reinterpret_cast<std::uintptr_t>(s.pointer);
  return reinterpret_cast<std::uintptr_t>(gm_device_pointer(rt.vm.memory.user(s.range.begin), static_cast<int>(node)));
}

status queue_host_work(scope_record& held, const host_work& work) {
  if (held.stream() == nullptr) {
    work.run();
    return status::ok;
  }
  const auto queued = std::make_shared<host_work>(work);
  held.keep(queued);
  const device::backend_table& api = *held.stream()->device->api;
  return device::check_device(api, api.call(held.stream()->handle, host_work::run_queued, queued.get()),
                              "queueing a copy");
}

// In order of the scope's stream; without one, on the device's copy stream, and waited for: the scope has waited for
// all that could be in the way.
status queue_device_work(const runtime& rt, const scope_record& held, const side& to, const side* from, int value,
                         std::size_t bytes) {
  const device_node& device = rt.vm.device(held.node());
  const device::fill_run fill{device_address(rt, to, held.node()), bytes, static_cast<std::uint8_t>(value)};
  device::copy_run copy{};
  if (from != nullptr)
    copy = {fill.destination, device_address(rt, *from, held.node()), bytes,
            !from->managed ? device::direction::host_to_device
            : !to.managed  ? device::direction::device_to_host
                           : device::direction::device_to_device};
  const bool queued = held.stream() != nullptr;
  unit_waiter waiter;
  const gm_status submitted =
      device.api->transfer(queued ? held.stream()->handle : device.to_device, &fill, from == nullptr ? 1 : 0, &copy,
                           from != nullptr ? 1 : 0, queued ? nullptr : unit_waiter::done, &waiter, nullptr);
  if (const status s = device::check_device(*device.api, submitted, "copying memory"); s != status::ok || queued)
    return s;
  const gm_status result = waiter.wait();
  return result == GM_OK ? status::ok
                         : fail(static_cast<status>(result), "copying memory on node %u failed", held.node());
}

// from null: memset.
status transfer(runtime& rt, void* destination, const void* source, int value, std::size_t bytes, bool is_copy,
                int node, gm_stream stream) {
  if (const status s = check_node(rt, node, true); s != status::ok) return s;
  if (bytes == 0) return status::ok;
  const auto n = static_cast<unsigned>(node);
  side to;
  side from;
  if (const status s = side_of(rt, destination, bytes, to); s != status::ok) return s;
  if (is_copy)
    if (const status s = side_of(rt, source, bytes, from); s != status::ok) return s;
  if (!to.managed && !from.managed)
    return fail(status::not_managed, "neither side is memory that gm_malloc handed out");
  const auto a = reinterpret_cast<std::uintptr_t>(destination);
  const auto b = reinterpret_cast<std::uintptr_t>(source);
  if (is_copy && a < b + bytes && b < a + bytes)
    return fail(status::invalid_argument, "source and destination overlap");
  if (stream != nullptr && n != host_node && stream->node != n)
    return fail(status::invalid_argument, "the stream is of node %u, not of node %u", stream->node, n);

  scope_request request;
  request.node = n;
  request.stream = stream;
  request.revoke_cpu = n == host_node && stream != nullptr;
  request.own_late = true;  // a copy that is refused leaves the destination as it was
  if (to.managed) request.ranges.push_back({to.range, GM_WRITE});
  if (from.managed) request.ranges.push_back({from.range, GM_READ});
  return within_scope(rt, std::move(request), [&](scope_record& held) {
    if (n == host_node)
      return queue_host_work(held, {host_address(rt, to), is_copy ? host_address(rt, from) : nullptr, value, bytes});
    return queue_device_work(rt, held, to, is_copy ? &from : nullptr, value, bytes);
  });
}

}  // namespace

gm_status gm_memcpy(void* destination, const void* source, size_t bytes, int node, gm_stream stream) try {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  return to_c(transfer(*rt, destination, source, 0, bytes, true, node, stream));
} catch (const std::bad_alloc&) {
  return to_c(fail(status::no_memory, "no memory for a copy"));
}

gm_status gm_memset(void* destination, int value, size_t bytes, int node, gm_stream stream) try {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  return to_c(transfer(*rt, destination, nullptr, value, bytes, false, node, stream));
} catch (const std::bad_alloc&) {
  return to_c(fail(status::no_memory, "no memory for a fill"));
}
