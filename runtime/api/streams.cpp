// SPDX-License-Identifier: Apache-2.0
// streams.cpp - entry points: streams and scopes.
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>

#include "api/entry.h"
#include "device/backend_loader.h"

using namespace gm;

namespace {

gm_status make_stream(int node, gm_stream* stream, void* native, bool from_native) {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  if (stream == nullptr) return to_c(fail(status::invalid_argument, "stream is null"));
  if (const status s = check_node(*rt, node, false); s != status::ok) return to_c(s);
  device_node& device = rt->vm.device(static_cast<unsigned>(node));
  if (from_native && (device.info.capabilities & device::has_native_streams) == 0)
    return to_c(fail(status::unsupported, "node %d (%s) has no native streams", node, device.info.name));
  auto* made = new (std::nothrow) stream_record;
  if (made == nullptr) return to_c(fail(status::no_memory, "no memory for a stream"));
  made->node = device.node;
  made->device = &device;
  const gm_status result = from_native
                               ? device.api->stream_from_native(device.handle, native, &made->handle)
                               : device.api->stream_create(device.handle, device::stream_ordinary, &made->handle);
  if (const status s = device::check_device(*device.api, result, "making a stream"); s != status::ok) {
    delete made;
    return to_c(s);
  }
  rt->streams.fetch_add(1);
  *stream = made;
  return GM_OK;
}

gm_status need_stream(gm_stream stream) {
  if (current() == nullptr) return not_running();
  if (stream == nullptr) return to_c(fail(status::invalid_argument, "the stream is null"));
  return GM_OK;
}

}  // namespace

gm_status gm_stream_create(int node, gm_stream* stream) { return make_stream(node, stream, nullptr, false); }

gm_status gm_stream_from_native(int node, void* native, gm_stream* stream) {
  return make_stream(node, stream, native, true);
}

gm_status gm_stream_native(gm_stream stream, gm_native_stream* native) {
  if (const gm_status s = need_stream(stream); s != GM_OK) return s;
  if (native == nullptr) return to_c(fail(status::invalid_argument, "native is null"));
  const device::backend_table& api = *stream->device->api;
  if ((stream->device->info.capabilities & device::has_native_streams) == 0)
    return to_c(fail(status::unsupported, "streams of node %u (%s) are known to no other API: use gm_stream_launch",
                     stream->node, stream->device->info.name));
  device::native_stream found{};
  const gm_status asked = api.stream_native(stream->handle, &found);
  if (const status s = device::check_device(api, asked, "asking for a native stream"); s != status::ok) return to_c(s);
  *native = {};
  std::snprintf(native->backend, sizeof native->backend, "%s", api.name);
  native->stream = found.handle;
  native->device = found.device;
  native->has_failed = found.has_failed ? 1 : 0;
  return GM_OK;
}

gm_status gm_stream_synchronize(gm_stream stream) {
  if (const gm_status s = need_stream(stream); s != GM_OK) return s;
  const device::backend_table& api = *stream->device->api;
  const gm_status result = api.stream_synchronize(stream->handle);
  status told = device::check_device(api, result, "work on a stream failed");
  if (result != GM_OK) {
    const std::scoped_lock guard(stream->words_lock);
    if (stream->words[0] != 0) told = fail(told, "work on a stream failed: %s", stream->words);
    stream->words[0] = 0;
  }
  // What an open scope was to bring may be missing: kernels that are still launched in it must not run.
  if (result != GM_OK && stream->open_scopes.load() != 0) api.stream_fail(stream->handle, result);
  return to_c(told);
}

gm_status gm_stream_destroy(gm_stream stream) {
  if (stream == nullptr) return GM_OK;
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  if (stream->open_scopes.load() != 0)
    return to_c(fail(status::busy, "%u scopes are open on the stream: end them first", stream->open_scopes.load()));
  stream->device->api->stream_destroy(stream->handle);
  delete stream;
  rt->streams.fetch_sub(1);
  return GM_OK;
}

gm_status gm_stream_call(gm_stream stream, void (*function)(void*), void* argument) {
  if (const gm_status s = need_stream(stream); s != GM_OK) return s;
  if (function == nullptr) return to_c(fail(status::invalid_argument, "the function is null"));
  const device::backend_table& api = *stream->device->api;
  return to_c(device::check_device(api, api.call(stream->handle, function, argument), "queueing a call"));
}

gm_status gm_stream_launch(gm_stream stream, size_t count, void (*body)(void*, size_t, size_t), void (*finish)(void*),
                           void* argument) {
  if (const gm_status s = need_stream(stream); s != GM_OK) return s;
  if (body == nullptr) return to_c(fail(status::invalid_argument, "the body is null"));
  const device::backend_table& api = *stream->device->api;
  if ((stream->device->info.capabilities & device::has_host_launch) == 0)
    return to_c(fail(status::unsupported,
                     "kernels of node %u (%s) are not host code: compile the source with its compiler", stream->node,
                     stream->device->info.name));
  return to_c(
      device::check_device(api, api.launch(stream->handle, count, body, finish, argument), "launching a kernel"));
}

int gm_stream_node(gm_stream stream) { return stream != nullptr ? static_cast<int>(stream->node) : GM_HOST; }

gm_status gm_access_begin(gm_stream stream, const gm_access* accesses, size_t count, gm_scope* result) try {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  if (accesses == nullptr || count == 0)
    return to_c(fail(status::invalid_argument, "no ranges: accesses null or count 0"));
  if (result == nullptr) return to_c(fail(status::invalid_argument, "scope is null"));
  if (count > std::numeric_limits<std::ptrdiff_t>::max() / sizeof(leased_range))
    return to_c(fail(status::invalid_argument, "%zu ranges overflow", count));
  scope_request request;
  request.node = stream != nullptr ? stream->node : 1;
  request.stream = stream;
  request.ranges.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const gm_access& a = accesses[i];
    int mode = 0;
    std::memcpy(&mode, &a.mode, sizeof mode);  // C may hand over any number
    const bool on_demand = (mode & GM_ON_DEMAND) != 0;
    mode &= ~GM_ON_DEMAND;
    if ((mode != GM_READ && mode != GM_READ_WRITE && (mode != GM_WRITE || on_demand)))
      return to_c(
          fail(status::invalid_argument,
               "range %zu has mode %d: accepted are GM_READ, GM_WRITE, GM_READ_WRITE, and with GM_ON_DEMAND the "
               "first and the last",
               i, static_cast<int>(mode | (on_demand ? GM_ON_DEMAND : 0))));
    byte_range range;
    if (const status s = managed_range(*rt, a.ptr, a.bytes, range); s != status::ok) return to_c(s);
    const bool fetched = on_demand && rt->vm.device(request.node).has_access_map();
    request.ranges.push_back({range, static_cast<gm_mode>(mode), fetched});
  }
  scope_record* begun = nullptr;
  if (const status s = scope_record::begin(*rt, std::move(request), &begun); s != status::ok) return to_c(s);
  *result = reinterpret_cast<gm_scope>(begun);
  return GM_OK;
} catch (const std::bad_alloc&) {
  return to_c(fail(status::no_memory, "no memory for %zu ranges", count));
}

gm_status gm_view_get(gm_scope scope, const void* pointer, size_t bytes, gm_view_data* view) {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  if (scope == nullptr) return to_c(fail(status::invalid_argument, "the scope is null"));
  if (view == nullptr) return to_c(fail(status::invalid_argument, "view is null"));
  byte_range range;
  if (const status s = managed_range(*rt, pointer, bytes, range); s != status::ok) return to_c(s);
  return to_c(reinterpret_cast<scope_record*>(scope)->view(range, *view));
}

gm_status gm_access_end(gm_scope ended) {
  if (current() == nullptr) return not_running();
  if (ended == nullptr) return to_c(fail(status::invalid_argument, "the scope is null"));
  return to_c(scope_record::end(reinterpret_cast<scope_record*>(ended)));
}
