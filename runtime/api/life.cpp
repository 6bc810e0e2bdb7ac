// SPDX-License-Identifier: Apache-2.0
// life.cpp - entry points: status, version, start and stop, nodes.
#include <cstdio>
#include <cstring>

#include "api/entry.h"
#include "platform/system_memory.h"

using namespace gm;

namespace gm {

gm_status not_running() { return to_c(start_failure()); }

status check_node(const runtime& rt, int node, bool host) {
  if (node < (host ? 0 : 1) || node >= static_cast<int>(rt.vm.nodes))
    return fail(status::invalid_argument, "there is no %s %d: nodes are 0 (the host) to %u",
                host ? "node" : "device node", node, rt.vm.nodes - 1);
  return status::ok;
}

}  // namespace gm

const char* gm_status_string(gm_status value) { return status_name(static_cast<status>(value)); }
const char* gm_last_error(void) { return last_error(); }

#define GM_STRINGIFY(x) #x
#define GM_VERSION_STRING(a, b, c) GM_STRINGIFY(a) "." GM_STRINGIFY(b) "." GM_STRINGIFY(c)
const char* gm_version(void) { return GM_VERSION_STRING(GM_VERSION_MAJOR, GM_VERSION_MINOR, GM_VERSION_PATCH); }

gm_status gm_init(const gm_options* options) { return to_c(start_runtime(options)); }
gm_status gm_shutdown(void) { return to_c(stop_runtime()); }

int gm_node_count(void) {
  const runtime* rt = current();
  return rt != nullptr ? static_cast<int>(rt->vm.nodes) : 0;
}

gm_status gm_node_info_get(int node, gm_node_info* info) {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  if (info == nullptr) return to_c(fail(status::invalid_argument, "info is null"));
  if (const status s = check_node(*rt, node, true); s != status::ok) return to_c(s);
  gm_node_info result{};
  if (node == GM_HOST) {
    std::snprintf(result.name, sizeof result.name, "host");
    std::snprintf(result.backend, sizeof result.backend, "host");
    result.total_bytes = system_memory_bytes();
    result.budget_bytes = rt->vm.host.limit() * page_bytes;
    result.free_bytes = result.budget_bytes - rt->vm.host.used() * page_bytes;
    result.has_window = 1;
    result.has_access_map = 1;
    result.same_address = 1;
  } else {
    const device_node& d = rt->vm.device(static_cast<unsigned>(node));
    std::memcpy(result.name, d.info.name, sizeof result.name);
    std::snprintf(result.backend, sizeof result.backend, "%s", d.api->name);
    result.total_bytes = d.info.total_bytes;
    result.budget_bytes = d.pool.capacity() * frame_bytes;
    result.free_bytes = d.pool.free_frames() * frame_bytes;
    result.has_window = d.windowed() ? 1 : 0;
    result.has_access_map = d.has_access_map() ? 1 : 0;
    result.same_address = d.same_address(rt->vm.memory.user_base()) ? 1 : 0;
  }
  *info = result;
  return GM_OK;
}

void* gm_device_pointer(const void* pointer, int node) {
  runtime* rt = current();
  if (rt == nullptr || check_node(*rt, node, true) != status::ok) return nullptr;
  if (pointer == nullptr || !rt->vm.memory.contains(pointer)) {
    (void)fail(status::not_managed, "%p is not memory that gm_malloc handed out", pointer);
    return nullptr;
  }
  const std::uint64_t offset = rt->vm.memory.offset_of(pointer);
  const page_mask page = one_page(page_in_block(page_of(offset)));
  block* b = rt->vm.table.find(block_of(offset));
  if (b == nullptr) {
    (void)fail(status::not_managed, "%p is not memory that gm_malloc handed out", pointer);
    return nullptr;
  }
  block_guard guard(b->lock);
  if ((b->allocated & page) == 0) {
    (void)fail(status::not_managed, "%p is not in a live allocation", pointer);
    return nullptr;
  }
  std::uintptr_t address = reinterpret_cast<std::uintptr_t>(pointer);
  if (node != GM_HOST) {
    const device_node& d = rt->vm.device(static_cast<unsigned>(node));
    const node_pages& there = b->node(d.node);
    if (d.windowed()) {
      address = d.info.window_base + offset;
    } else if (there.leases != 0 && there.has_frame() && rt->vm.leases.covers(page_of(offset), d.node)) {
      address = there.address + offset % block_bytes;
    } else {
      (void)fail(status::busy, "node %d has no window: %p has an address there only within a scope", node, pointer);
      return nullptr;
    }
  }
  return reinterpret_cast<void*>(address);
}
