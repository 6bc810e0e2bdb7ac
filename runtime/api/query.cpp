// SPDX-License-Identifier: Apache-2.0
// query.cpp - entry points: the page table and the statistics, as programs see them.
#include <algorithm>
#include <cstring>

#include "api/entry.h"

using namespace gm;

namespace {

// Masks of one page, taken together under the block's lock.
void describe_locked(const runtime& rt, const block& b, page_mask page, gm_mapping& m) {
  m.flags = 0;
  m.valid_nodes = 0;
  m.writer = -1;
  page_mask valid = no_pages;
  page_mask dirty = no_pages;
  page_mask pinned = no_pages;
  for (unsigned n = 0; n < rt.vm.nodes; ++n) {
    const node_pages& node = b.node(n);
    if ((node.valid & page) != 0 && n < 32) m.valid_nodes |= 1u << n;
    if ((node.writable & page) != 0) m.writer = static_cast<int>(n);
    dirty |= node.dirty;
    pinned |= node.pinned;
    if (n != host_node) valid |= node.valid;
  }
  if ((b.host().valid & page) != 0) m.flags |= GM_PAGE_CPU;
  if ((valid & page) != 0) m.flags |= GM_PAGE_DEVICE;
  if (m.flags == 0) m.flags = GM_PAGE_NOMAP;
  if ((b.willneed & page) != 0) m.flags |= GM_PAGE_WILLNEED;
  if ((pinned & page) != 0) m.flags |= GM_PAGE_PINNED;
  if ((dirty & page) != 0) m.flags |= GM_PAGE_DIRTY;
}

}  // namespace

gm_status gm_query(const void* pointer, gm_mapping* mapping) {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  if (pointer == nullptr || mapping == nullptr)
    return to_c(fail(status::invalid_argument, "the %s is null", pointer == nullptr ? "pointer" : "mapping"));
  const std::uint64_t offset = rt->vm.memory.offset_of(pointer);
  const page_index page = page_of(offset);
  const page_mask bit = one_page(page_in_block(page));
  block* b = rt->vm.memory.contains(pointer) ? rt->vm.table.find(block_of(page)) : nullptr;
  gm_mapping found{};  // the program's own may lie in managed memory, and is written without a lock
  bool allocated = false;
  if (b != nullptr) {
    block_guard guard(b->lock);
    allocated = (b->allocated & bit) != 0;
    if (allocated) describe_locked(*rt, *b, bit, found);
    if (allocated && b->leases != 0 && rt->vm.leases.covers(page)) found.flags |= GM_PAGE_LEASED;
  }
  if (!allocated) return to_c(fail(status::not_managed, "%p is not in a live allocation", pointer));
  found.page = rt->vm.memory.user(offset_of(page));
  *mapping = found;
  return GM_OK;
}

gm_status gm_residency(const void* pointer, size_t bytes, int node, size_t* resident_bytes) {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  if (resident_bytes == nullptr) return to_c(fail(status::invalid_argument, "resident_bytes is null"));
  if (const status s = check_node(*rt, node, true); s != status::ok) return to_c(s);
  byte_range range;
  if (const status s = managed_range(*rt, pointer, bytes, range); s != status::ok) return to_c(s);
  std::uint64_t total = 0;
  for (block_index index = block_of(range.begin); offset_of(index) < range.end; ++index) {
    page_mask valid = no_pages;
    {
      block& b = rt->vm.table.at(index);
      block_guard guard(b.lock);
      valid = b.node(static_cast<unsigned>(node)).valid & pages_touched(range, index);
    }
    for_each_run(valid, [&](unsigned first, unsigned count) {
      const byte_range run = rt->vm.bytes_of(index, first, count);
      total += std::min(run.end, range.end) - std::max(run.begin, range.begin);
    });
  }
  *resident_bytes = total;
  return GM_OK;
}

gm_status gm_stats_get(gm_stats* stats) {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  if (stats == nullptr) return to_c(fail(status::invalid_argument, "stats is null"));
  constexpr size_t least = offsetof(gm_stats, spurious_faults);
  if (stats->size < least)
    return to_c(fail(status::invalid_argument, "gm_stats.size is %zu: set it to sizeof(gm_stats)", stats->size));
  gm_stats result{};
  const counters& from = rt->vm.stats;
  result.size = std::min(stats->size, sizeof result);
  result.node_count = rt->vm.nodes;
  result.spurious_faults = from.spurious_faults.get();
  result.parked_faults = from.parked_faults.get();
  result.fault_time_ns = from.fault_time_ns.get();
  result.metadata_bytes = rt->metadata_bytes();
  result.allocations = rt->allocations();
  result.allocated_bytes = rt->allocated_bytes();
  result.registered_bytes = rt->registrar.registered_bytes();
  for (unsigned n = 0; n < rt->vm.nodes; ++n) {
    const node_counters& node = from.node[n];
    gm_node_stats& to = result.node[n];
    to.faults = node.faults.get();
    to.pages_in = node.pages_in.get();
    to.pages_out = node.pages_out.get();
    to.bytes_in = to.pages_in * page_bytes;
    to.bytes_out = to.pages_out * page_bytes;
    to.evictions = node.evictions.get();
    to.writebacks = node.writebacks.get();
    to.writebacks_skipped = node.writebacks_skipped.get();
    if (n == host_node) {
      to.frames_used = rt->vm.host.used();
      to.frames_free = rt->vm.host.limit() - to.frames_used;
    } else {
      to.frames_free = rt->vm.device(n).pool.free_frames();
      to.frames_used = rt->vm.device(n).pool.capacity() - to.frames_free;
    }
  }
  std::memcpy(stats, &result, result.size);
  return GM_OK;
}

gm_status gm_stats_reset(void) {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  rt->vm.stats.reset();
  return GM_OK;
}
