// SPDX-License-Identifier: Apache-2.0
// scope_copies.cpp - steps 4 to 6 of a scope: what is missing is copied, the stream waits for it, and pages that are
// overwritten change owner.
#include <algorithm>
#include <new>

#include "api/scope_record.h"
#include "base/check.h"
#include "device/backend_loader.h"
#include "evict/reclaim.h"
#include "migrate/host_pages.h"
#include "policy/placement.h"

namespace gm {

// ---- 4 copy ------------------------------------------------------------------------------------------------------

// Locks the entry's block when what others are doing with its pages can be planned on: nothing, or, for a stream, moves
// in flight that its own can follow.
block_lock scope_record::lock_for_planning(const entry& e) {
  block& b = *e.target;
  const page_mask pages = (e.need | e.write) & ~e.moved;
  if (request_.stream == nullptr) return lock_when_idle(b, pages);
  for (;;) {
    const std::uint32_t seen = vm_.submissions.now();
    block_lock lock(b.lock);
    switch (may_follow_locked(b, pages, *request_.stream->device->api)) {
      case following::possible:
        return lock;
      case following::not_submitted:
        lock.unlock();
        vm_.submissions.wait_past(seen);
        break;
      case following::impossible:
        lock.unlock();
        wait_while_busy(b, pages);
        break;
    }
  }
}

// Of these pages, those that others' moves are bringing somewhere.
page_mask scope_record::in_flight_locked(const entry& e, page_mask pages) const {
  return pages & ~e.moved & e.target->busy.load(std::memory_order_relaxed);
}

// Begins the move and lets go of the lock. lock is of the entry's block and held.
status scope_record::start_move(entry& e, move_request wanted, block_lock& lock) {
  wanted.done = move_ended;
  wanted.owner = this;
  wanted.exclusive = e.write & wanted.pages;
  if (wanted.stream != nullptr) wanted.api = request_.stream->device->api;
  move* m = rt_.moves.take(false);
  if (m == nullptr) return fail(status::no_memory, "no memory to record a move");
  copy_plan plan;
  if (const status s = begin_move_locked(vm_, e.index, *e.target, wanted, *m, plan); s != status::ok) {
    rt_.moves.give_back(m);
    return s;
  }
  e.moved |= wanted.pages;
  lock.unlock();
  pending_.fetch_add(1, std::memory_order_relaxed);
  const device::stream* on = m->stream;
  device::fence fence;
  if (const status s = submit_move(rt_.moves, m, plan, &fence); s != status::ok) return s;
  if (request_.stream == nullptr || on != request_.stream->handle) add_fence(copies_, fence);
  return status::ok;
}

// Pages that are overwritten whole need not arrive. But moves of others that read or write them are over first.
void scope_record::come_behind_others_locked(const entry& e) {
  for_each_newest_locked(*e.target, in_flight_locked(e, e.write),
                         [&](const transition& t) { add_fence(copies_, t.fence); });
}

// With the lock held, or dropped and taken again while host memory is reclaimed, and waited for where some will come
// whatever the program does: then the caller looks again.
status scope_record::host_pages_for(entry& e, block_lock& lock, page_mask pages) {
  for (;;) {
    const std::uint32_t seen = vm_.room_changes.now();
    const status s = back_host_pages_locked(vm_, e.index, *e.target, pages);
    if (s != status::no_memory) return s;
    lock.unlock();
    bool try_again = reclaim_host_pages(vm_, pages_per_block) != 0;
    if (!try_again && !request_.detached) {
      try_again = vm_.own_work.load() != 0 || vm_.room_changes.now() != seen;
      if (try_again) vm_.room_changes.wait_past(seen);
    }
    lock = lock_for_planning(e);
    if (!try_again) return s;
  }
}

// The move that takes some of the pages, all in flight, on to the node from where they will be. False: there is no way
// but through the host. No pages in the request: they will be here, and stay.
bool scope_record::plan_follower_locked(const entry& e, page_mask pages, move_request& follower) const {
  const block& b = *e.target;
  const unsigned node = request_.node;
  const expected_pages then = expect_locked(b, vm_.nodes);
  follower = {.destination = node, .follows = true, .stream = request_.stream->handle};
  follower.source = node;
  follower.pages = pages & then.valid[node] & ~(b.node(node).valid & then.staying);
  if (follower.pages != no_pages) return true;
  const page_mask absent = pages & ~then.valid[node];
  for (unsigned n = 0; n < vm_.nodes && follower.pages == no_pages; ++n) {
    if (on_device() && n != host_node && !device().reaches(vm_.device(n))) continue;
    follower.source = n;
    follower.pages = absent & then.valid[n];
  }
  return follower.pages != no_pages || absent == no_pages;
}

// Pages that are only on devices that this one cannot copy from go through the host, one device at a time, and the host
// waits: first for the work that may still write them.
status scope_record::bring_home_first(entry& e, const lease_order& order, page_mask far, block_lock& lock) {
  block& b = *e.target;
  unsigned source = 1;
  while ((b.node(source).valid & far) == 0) ++source;
  lock.unlock();
  for (const work_fence& fence : order.fences)
    if (fence.api != nullptr) fence.api->fence_wait(fence.at);
  lock = lock_for_planning(e);
  const page_mask home = far & b.node(source).valid & ~b.host().valid & ~in_flight_locked(e, far);
  if (home == no_pages) return status::ok;
  if (const status s = host_pages_for(e, lock, home); s != status::ok) return s;
  if ((home & (~b.node(source).valid | b.host().valid | in_flight_locked(e, home))) != 0) return status::ok;
  const page_mask moved = e.moved;
  if (const status s = start_move(e, {.destination = host_node, .source = source, .pages = home}, lock);
      s != status::ok)
    return s;
  wait_while_busy(b, home);
  e.moved = moved;
  return failure();
}

status scope_record::copy_to_device(entry& e, const lease_order& order, device::stream* ordered) {
  block& b = *e.target;
  const unsigned node = request_.node;
  for (;;) {
    block_lock lock = lock_for_planning(e);
    const page_mask in_flight = in_flight_locked(e, e.need);
    const page_mask bring = e.need & ~b.node(node).valid & ~e.moved & ~in_flight;
    if (const page_mask far = unreachable_locked(vm_, b, node, bring); far != no_pages) {
      if (const status s = bring_home_first(e, order, far, lock); s != status::ok) return s;
      continue;
    }
    if (const status s = revoke_cpu_locked(vm_, e.index, b, e.write & ~e.moved); s != status::ok) return s;
    move_request wanted;
    if (bring != no_pages) {
      wanted = {.destination = node, .pages = bring, .stream = ordered};
    } else if (in_flight != no_pages && !plan_follower_locked(e, in_flight, wanted)) {
      lock.unlock();
      wait_while_busy(b, in_flight);
      continue;
    }
    if (wanted.pages == no_pages) {
      come_behind_others_locked(e);
      return status::ok;
    }
    wanted.keep_cpu_mapping = !request_.prefetch || prefetch_keeps_cpu_mapping(vm_.advices.at(first_page(e.index)));
    if (const status s = start_move(e, wanted, lock); s != status::ok) return s;
  }
}

status scope_record::copy_to_host(entry& e, device::stream* ordered) {
  block& b = *e.target;
  for (;;) {
    block_lock lock = lock_for_planning(e);
    const page_mask wanted = (e.need | e.write) & ~e.moved;
    const page_mask in_flight = in_flight_locked(e, wanted);
    const page_mask nomap = wanted & ~in_flight & ~valid_anywhere(b, vm_.nodes);
    const page_mask remote = e.need & wanted & ~b.host().valid & ~nomap;
    const page_mask memory = (remote | e.write | nomap) & wanted & ~b.backed;
    if (memory != no_pages) {
      if (const status s = host_pages_for(e, lock, memory); s != status::ok) return s;
      // Where the lock was dropped meanwhile, pages may have gone other ways.
      if (in_flight_locked(e, wanted) != in_flight) continue;
      const page_mask made = nomap & ~valid_anywhere(b, vm_.nodes) & b.backed;
      b.host().valid |= made;
      b.willneed &= ~made;
    }
    if (request_.revoke_cpu) {
      status s = revoke_cpu_locked(vm_, e.index, b, e.write);
      if (s == status::ok) s = write_protect_cpu_locked(vm_, e.index, b, e.need);
      if (s != status::ok) return s;
    }
    // Not beside another scope: its queued work may be about to read or write the pages, so that the CPU's access must
    // fault, and wait for its turn.
    if (request_.prefetch && b.leases == 1) {
      const page_mask alone = ~valid_elsewhere(b, vm_.nodes, host_node);
      if (const status s = grant_cpu_locked(vm_, e.index, b, e.need & b.host().valid & ~e.moved & ~in_flight, alone);
          s != status::ok)
        return s;
    }
    move_request next;
    if (const page_mask left = e.need & ~e.moved & ~in_flight & ~b.host().valid; left != no_pages) {
      unsigned source = 1;
      while ((b.node(source).valid & left) == 0) ++source;
      next = {.destination = host_node, .source = source, .pages = left & b.node(source).valid};
      // A copy from another backend's device cannot be on this stream, and need not: the host has waited for its work.
      if (ordered != nullptr && vm_.device(source).api == request_.stream->device->api) next.stream = ordered;
    } else if (in_flight != no_pages) {
      (void)plan_follower_locked(e, in_flight & e.need, next);  // the host reaches everybody
    }
    if (next.pages == no_pages) {
      come_behind_others_locked(e);
      return status::ok;
    }
    if (request_.prefetch) next.grant = next.pages;
    if (const status s = start_move(e, next, lock); s != status::ok) return s;
  }
}

status scope_record::copy_blocks(const lease_order& order) try {
  for (entry& e : plan_) {
    if (!e.unfinished || (e.need | e.write) == no_pages) continue;
    const byte_range bytes{offset_of(e.index), offset_of(e.index) + block_bytes};
    // Behind an ended scope's work: on our own stream, which waits for it; the copy streams never wait for users.
    const bool behind =
        std::any_of(order.ranges.begin(), order.ranges.end(), [&](const byte_range& r) { return r.overlaps(bytes); });
    device::stream* ordered = behind ? request_.stream->handle : nullptr;
    if (const status s = on_device() ? copy_to_device(e, order, ordered) : copy_to_host(e, ordered); s != status::ok)
      return s;
  }
  return status::ok;
} catch (const std::bad_alloc&) {
  return fail(status::no_memory, "no memory to order a scope behind copies");
}

// ---- 5 order, 6 own ----------------------------------------------------------------------------------------------

status scope_record::order_stream(const lease_order& order) {
  const device::backend_table& api = *request_.stream->device->api;
  for (const work_fence& fence : order.fences) {
    if (fence.at.stream == request_.stream->handle) continue;
    if (fence.api != &api) {
      if (fence.api != nullptr) fence.api->fence_wait(fence.at);
      continue;
    }
    if (const status s =
            device::check_device(api, api.stream_wait(request_.stream->handle, fence.at), "waiting for a scope");
        s != status::ok)
      return s;
  }
  return status::ok;
}

void scope_record::own_pages() {
  if (request_.stream == nullptr || !own_in_stream_order()) {
    for (entry& e : plan_) {
      const page_mask pages = e.write & ~e.moved;
      if (!e.unfinished || pages == no_pages) continue;
      const block_lock lock = lock_when_idle(*e.target, pages);
      GM_DCHECK(!on_device() || (e.target->readable & pages) == 0);
      make_exclusive_locked(vm_, e.index, *e.target, request_.node, pages);
    }
  }
  vm_.leases.set_resident(lease_);
}

// One unit of the stream: pages change owner when it comes to that. So a stream that fails before leaves them, and what
// is in flight is over by then. Nobody is told how it went: the stream fails with it, and the scope's end comes behind.
// False: refused, nothing has changed.
bool scope_record::own_in_stream_order() try {
  owning_moves moves(vm_, rt_.moves);
  status s = status::ok;
  for (entry& e : plan_) {
    const page_mask pages = e.write & ~e.moved;
    if (!e.unfinished || pages == no_pages || s != status::ok) continue;
    const block_lock lock = lock_for_planning(e);
    s = moves.begin_locked(e.index, *e.target,
                           {.destination = request_.node,
                            .source = request_.node,
                            .pages = pages,
                            .exclusive = pages,
                            .overwritten = pages & ~e.need,
                            .follows = true,
                            .stream = request_.stream->handle,
                            .api = request_.stream->device->api});
  }
  return s == status::ok && moves.submit() == status::ok;
} catch (const std::bad_alloc&) {
  return false;
}

}  // namespace gm
