// SPDX-License-Identifier: Apache-2.0
// hints.cpp - entry points: prefetch, advice, discard, pins.
#include <algorithm>
#include <cstring>
#include <new>

#include "api/entry.h"
#include "evict/reclaim.h"
#include "evict/room.h"
#include "migrate/host_pages.h"
#include "migrate/move.h"
#include "migrate/registrar.h"

using namespace gm;

namespace {

scope_request request_for(byte_range range, gm_mode mode, unsigned node, gm_stream stream) {
  scope_request request;
  request.ranges.push_back({range, mode});
  request.node = node;
  request.stream = stream;
  return request;
}

template <typename F>
void for_each_block_of(runtime& rt, byte_range range, F&& each) {
  for (block_index index = block_of(range.begin); offset_of(index) < range.end; ++index) {
    block& b = rt.vm.table.at(index);
    block_guard guard(b.lock);
    each(index, b, pages_touched(range, index));
  }
}

// Advice and pins are facts of whole pages: a page half in the range is in it.
page_range pages_of(byte_range range) { return {page_of(range.begin), page_of(range.end + page_bytes - 1)}; }

status prefetch(runtime& rt, byte_range range, unsigned node, gm_stream stream, bool detached) {
  scope_request request = request_for(range, GM_READ, node, stream);
  request.prefetch = true;
  request.detached = detached;
  return within_scope(rt, std::move(request), [](scope_record&) { return status::ok; });
}

// As far as free frames go, a block at a time, without waiting for the copies.
void start_fetching(runtime& rt, byte_range range, unsigned node) {
  for (std::uint64_t at = range.begin; at < range.end;) {
    const std::uint64_t end = std::min(range.end, round_down(at, block_bytes) + block_bytes);
    if (prefetch(rt, {at, end}, node, nullptr, true) != status::ok) return;
    at = end;
  }
}

// Frames for the range, as far as there are free ones.
void set_up_frames(runtime& rt, byte_range range, device_node& device) {
  extent* e = rt.vm.extents.reference(range);
  if (e == nullptr) return;
  {
    lock_guard guard(device.admission);
    for (block_index index = block_of(range.begin); offset_of(index) < range.end; ++index) {
      bool missing = false;
      {
        block& b = rt.vm.table.at(index);
        block_guard block_held(b.lock);
        missing = !b.node(device.node).has_frame();
      }
      if (missing && acquire_piece(rt.vm, rt.moves, device, piece_for(device, *e, index), victim_class::normal,
                                   false) != status::ok)
        break;
    }
  }
  if (rt.vm.extents.drop_reference(*e)) reclaim(rt.vm, *e);
}

status set_advice(runtime& rt, byte_range range, gm_advice what, int node) {
  return rt.vm.advices.update(pages_of(range), [&](advice& a) {
    switch (what) {
      case GM_ADVISE_NORMAL:
        a = {};
        break;
      case GM_ADVISE_READ_MOSTLY:
        a.read_mostly = true;
        break;
      case GM_ADVISE_PREFERRED_NODE:
        a.preferred_node = static_cast<std::int8_t>(node);
        a.cold = false;
        break;
      case GM_ADVISE_ACCESSED_BY:
        a.accessed_by |= std::uint64_t{1} << node;
        break;
      case GM_ADVISE_SEQUENTIAL:
        a.pattern = access_pattern::sequential;
        break;
      case GM_ADVISE_RANDOM:
        a.pattern = access_pattern::random;
        break;
      case GM_ADVISE_WILLNEED:
        a.cold = false;
        break;
      case GM_ADVISE_COLD:
        a.cold = true;
        break;
    }
  });
}

void need_no_more(runtime& rt, byte_range range) {
  for_each_block_of(rt, range, [](block_index, block& b, page_mask pages) { b.willneed &= ~pages; });
}

void make_cold(runtime& rt, byte_range range) {
  need_no_more(rt, range);
  for_each_block_of(rt, range, [&](block_index, block& b, page_mask) {
    for (unsigned n = 1; n < rt.vm.nodes; ++n)
      if (b.node(n).has_frame()) rt.vm.device(n).pool.make_cold(b.node(n).frame());
  });
}

void will_need(runtime& rt, byte_range range, unsigned node) {
  for_each_block_of(rt, range,
                    [&](block_index, block& b, page_mask pages) { b.willneed |= pages & ~b.node(node).valid; });
  start_fetching(rt, range, node);
}

status check_stream(gm_stream stream, unsigned node) {
  if (stream != nullptr && node != host_node && stream->node != node)
    return fail(status::invalid_argument, "the stream is of node %u, not of node %u", stream->node, node);
  return status::ok;
}

// Its pages are idle, and its host memory is loose. False: it is registered, and pages that are not ours are in flight,
// behind work that we cannot wait for.
bool lock_when_loose(const vm_object& vm, block_index index, block& b, page_mask pages, block_lock& lock) {
  for (;;) {
    const std::uint32_t seen = vm.room_changes.now();
    lock = lock_when_idle(b, pages);
    if (host_memory_is_loose_locked(vm, index, b)) return true;
    if (b.host_memory == registration::registered) return false;
    lock.unlock();
    vm.room_changes.wait_past(seen);
  }
}

void discard_block(runtime& rt, byte_range range, block_index index, block& b) {
  const page_mask pages = pages_covered(range, index);
  if (pages == no_pages) return;
  block_lock lock;
  page_mask kept = no_pages;
  if (!lock_when_loose(rt.vm, index, b, pages, lock) || drop_host_pages_locked(rt.vm, index, b, pages) != status::ok) {
    // The system does not take the memory back, or not now: then it is zeroed and stays the host's.
    kept = pages & b.backed;
    for_each_run(kept, [&](unsigned first, unsigned count) {
      const byte_range run = rt.vm.bytes_of(index, first, count);
      std::memset(rt.vm.memory.alias(run.begin), 0, run.bytes());
    });
  }
  make_exclusive_locked(rt.vm, index, b, host_node, pages);
  b.host().valid &= ~(pages & ~kept);
}

gm_status pin_range(const void* pointer, size_t bytes, int node, bool pin) {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  if (const status s = check_node(*rt, node, true); s != status::ok) return to_c(s);
  byte_range range;
  if (const status s = managed_range(*rt, pointer, bytes, range); s != status::ok) return to_c(s);
  const auto n = static_cast<unsigned>(node);
  if (!pin) {
    for_each_block_of(*rt, range, [&](block_index, block& b, page_mask pages) { b.node(n).pinned &= ~pages; });
    return GM_OK;
  }
  // On the host the pages are owned and mapped writable; on a device a copy is there and its frame stays.
  scope_request request = request_for(range, n == host_node ? GM_READ_WRITE : GM_READ, n, nullptr);
  request.prefetch = n != host_node;
  request.pins = true;
  const status s = within_scope(*rt, std::move(request), [&](scope_record& held) {
    if (n != host_node) {
      held.for_each_block(
          [&](block_index index, block& b, page_mask) { b.node(n).pinned |= pages_touched(range, index); });
      return status::ok;
    }
    status result = status::ok;
    held.for_each_block([&](block_index index, block& b, page_mask) {
      const page_mask pages = pages_touched(range, index);
      if (result == status::ok) result = grant_cpu_locked(rt->vm, index, b, pages, pages);
    });
    if (result == status::ok)
      held.for_each_block(
          [&](block_index index, block& b, page_mask) { b.host().pinned |= pages_touched(range, index); });
    return result;
  });
  return to_c(s);
}

}  // namespace

gm_status gm_prefetch(const void* pointer, size_t bytes, int node, gm_stream stream) try {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  if (const status s = check_node(*rt, node, true); s != status::ok) return to_c(s);
  byte_range range;
  if (const status s = managed_range(*rt, pointer, bytes, range); s != status::ok) return to_c(s);
  const auto n = static_cast<unsigned>(node);
  if (const status s = check_stream(stream, n); s != status::ok) return to_c(s);
  return to_c(prefetch(*rt, range, n, stream, false));
} catch (const std::bad_alloc&) {
  return to_c(fail(status::no_memory, "no memory for a prefetch"));
}

gm_status gm_advise(const void* pointer, size_t bytes, gm_advice what, int node) try {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  if (what < GM_ADVISE_NORMAL || what > GM_ADVISE_COLD)
    return to_c(fail(status::invalid_argument, "%d is no advice: see gm_advice", static_cast<int>(what)));
  const bool has_node = what == GM_ADVISE_PREFERRED_NODE || what == GM_ADVISE_ACCESSED_BY || what == GM_ADVISE_WILLNEED;
  if (has_node)
    if (const status s = check_node(*rt, node, true); s != status::ok) return to_c(s);
  byte_range range;
  if (const status s = managed_range(*rt, pointer, bytes, range); s != status::ok) return to_c(s);
  if (const status s = set_advice(*rt, range, what, node); s != status::ok) return to_c(s);
  const auto n = static_cast<unsigned>(node);
  if (what == GM_ADVISE_COLD) make_cold(*rt, range);
  if (what == GM_ADVISE_NORMAL) need_no_more(*rt, range);
  if (what == GM_ADVISE_WILLNEED) will_need(*rt, range, n);
  if (what == GM_ADVISE_ACCESSED_BY && n != host_node) set_up_frames(*rt, range, rt->vm.device(n));
  return GM_OK;
} catch (const std::bad_alloc&) {
  return to_c(fail(status::no_memory, "no memory for advice"));
}

gm_status gm_discard(void* pointer, size_t bytes) try {
  runtime* rt = current();
  if (rt == nullptr) return not_running();
  byte_range range;
  if (const status s = managed_range(*rt, pointer, bytes, range); s != status::ok) return to_c(s);
  const byte_range whole{round_up(range.begin, page_bytes), round_down(range.end, page_bytes)};
  if (whole.begin >= whole.end) return GM_OK;
  page_mask pinned = no_pages;
  for_each_block_of(*rt, whole, [&](block_index, block& b, page_mask pages) {
    for (unsigned n = 0; n < rt->vm.nodes; ++n) pinned |= b.node(n).pinned & pages;
  });
  if (pinned != no_pages) return to_c(fail(status::busy, "pages of the range are pinned: gm_unpin them first"));
  // A writer's place in the order of scopes, without bringing anything anywhere.
  lease writer;
  const leased_range leased[] = {{whole, GM_WRITE}};
  writer.ranges = leased;
  lease_order order;
  extent* e = rt->vm.extents.reference(whole);
  if (e == nullptr) return to_c(fail(status::not_managed, "the range was freed meanwhile"));
  const status s = rt->vm.leases.begin_or_wait(writer, conflicts::wait, order);
  if (s == status::ok) {
    // All of it first: that takes time, and not this thread's.
    for_each_block_of(*rt, whole, [&](block_index index, block& b, page_mask) {
      (void)host_memory_is_loose_locked(rt->vm, index, b);
    });
    for (block_index index = block_of(whole.begin); offset_of(index) < whole.end; ++index)
      discard_block(*rt, whole, index, rt->vm.table.at(index));
    rt->vm.leases.remove(writer);
  }
  if (rt->vm.extents.drop_reference(*e)) reclaim(rt->vm, *e);
  return to_c(s);
} catch (const std::bad_alloc&) {
  return to_c(fail(status::no_memory, "no memory to discard"));
}

gm_status gm_pin(const void* pointer, size_t bytes, int node) try {
  return pin_range(pointer, bytes, node, true);
} catch (const std::bad_alloc&) {
  return to_c(fail(status::no_memory, "no memory for a pin"));
}

gm_status gm_unpin(const void* pointer, size_t bytes, int node) { return pin_range(pointer, bytes, node, false); }
