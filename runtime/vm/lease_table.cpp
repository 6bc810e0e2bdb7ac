// SPDX-License-Identifier: Apache-2.0
#include "vm/lease_table.h"

#include <algorithm>
#include <new>

#include "base/check.h"

namespace gm {
namespace {

bool share_page(const leased_range& a, const leased_range& b) {
  const page_range pa = a.pages();
  const page_range pb = b.pages();
  return pa.begin < pb.end && pb.begin < pa.end;
}

bool covers_page(const lease& l, page_index page, bool writes_only) {
  if (l.state == lease_state::released) return false;
  for (const leased_range& range : l.ranges) {
    if (range.on_demand) continue;
    const page_range pages = range.pages();
    if (pages.begin <= page && page < pages.end && (!writes_only || range.writes())) return true;
  }
  return false;
}

}  // namespace

bool lease_table::conflict(const lease& active, std::span<const leased_range> wanted, byte_range* shared) {
  if (active.state == lease_state::released) return false;
  for (const leased_range& a : active.ranges)
    for (const leased_range& w : wanted)
      if ((a.on_demand != w.on_demand || (!a.on_demand && (a.writes() || w.writes()))) && share_page(a, w)) {
        if (shared != nullptr) *shared = a.bytes;
        return true;
      }
  return false;
}

namespace {

// Whether ranges of it on demand are wanted otherwise.
bool changes_until_released(const lease& active, std::span<const leased_range> wanted) {
  for (const leased_range& a : active.ranges)
    for (const leased_range& w : wanted)
      if (a.on_demand && !w.on_demand && share_page(a, w)) return true;
  return false;
}

}  // namespace

bool lease_table::would_circle_locked(thread_id self, thread_id blocker) const {
  // Follow who waits for whom; a circle that this thread is not in has no more steps than there are leases.
  for (std::size_t step = 0; step <= active_; ++step) {
    const lease* next = awaited_by_locked(blocker);
    if (next == nullptr) return false;
    blocker = next->owner;
    if (blocker == self) return true;
  }
  return false;
}

// The open lease that the thread waits for in begin_or_wait(), or sleeps for in a fault.
const lease* lease_table::awaited_by_locked(thread_id thread) const {
  for (const waiter* w = waiters_; w != nullptr; w = w->next)
    if (w->thread == thread && w->waits_on != nullptr) return w->waits_on;
  if (parked_ == 0) return nullptr;
  for (const lease* l = first_; l != nullptr; l = l->next)
    if (l->owner == thread && l->owner_parked_on != nullptr) return l->owner_parked_on;
  return nullptr;
}

// In one of the thread's open leases, if it has any. Null: the thread is not parked.
void lease_table::set_parked_locked(thread_id thread, const lease* on) {
  if (on == nullptr && parked_ == 0) return;
  for (lease* l = first_; l != nullptr; l = l->next) {
    if (l->owner != thread) continue;
    if (l->owner_parked_on != nullptr) --parked_;
    l->owner_parked_on = nullptr;
    if (on == nullptr || l->state != lease_state::open) continue;
    l->owner_parked_on = on;
    on = nullptr;
    ++parked_;
  }
}

status lease_table::begin_or_wait(lease& wanted, conflicts how, lease_order& order) try {
  const thread_id self = this_thread();
  waiter me{self, nullptr, nullptr};
  auto stop_waiting_locked = [&] {
    for (waiter** w = &waiters_; *w != nullptr; w = &(*w)->next)
      if (*w == &me) {
        *w = me.next;
        break;
      }
  };
  for (;;) {
    const std::uint32_t seen = changes_.now();
    order.fences.clear();
    order.ranges.clear();
    {
      lock_guard guard(lock_);
      stop_waiting_locked();
      set_parked_locked(self, nullptr);
      const lease* blocker = nullptr;
      bool must_wait = false;
      for (const lease* l = first_; l != nullptr; l = l->next) {
        byte_range shared;
        if (!conflict(*l, wanted.ranges, &shared)) continue;
        if (how == conflicts::never) return fail(status::busy, "a scope covers the same memory");
        if (l->state == lease_state::open) {
          if (l->owner == self)
            return fail(status::busy,
                        "this thread has a scope open over the same memory (one of the two writes it): end it first");
          if (would_circle_locked(self, l->owner))
            return fail(
                status::busy,
                "the open scope of thread %d is in the way, and that thread waits for a scope that this one has "
                "open (to begin one, or in a touch of its memory): end that first",
                l->owner);
          blocker = l;
          must_wait = true;
          break;
        }
        if (how == conflicts::wait || changes_until_released(*l, wanted.ranges)) {
          must_wait = true;
          break;
        }
        for (const leased_range& r : l->ranges) order.ranges.push_back(r.bytes);
        order.fences.push_back(l->fence);
      }
      if (!must_wait) {
        wanted.owner = self;
        wanted.state = lease_state::open;
        wanted.gathered = wanted.resident = false;
        wanted.owner_parked_on = nullptr;
        wanted.previous = last_;
        wanted.next = nullptr;
        (last_ != nullptr ? last_->next : first_) = &wanted;
        last_ = &wanted;
        ++active_;
        return status::ok;
      }
      if (blocker != nullptr) {
        me.waits_on = blocker;
        me.next = waiters_;
        waiters_ = &me;
      }
    }
    changes_.wait_past(seen);
  }
} catch (const std::bad_alloc&) {
  return fail(status::no_memory, "no memory to order a scope behind others");
}

void lease_table::end(lease& l, work_fence fence) {
  lock_guard guard(lock_);
  GM_CHECK(l.state == lease_state::open);
  l.state = lease_state::ended;
  forget_waits_locked(l);
  l.fence = fence;
  changes_.happened();
}

void lease_table::release(lease& l) {
  lock_guard guard(lock_);
  l.state = lease_state::released;
  forget_waits_locked(l);
  changes_.happened();
}

void lease_table::remove(lease& l) {
  lock_guard guard(lock_);
  GM_CHECK(l.state != lease_state::none);
  forget_waits_locked(l);
  (l.previous != nullptr ? l.previous->next : first_) = l.next;
  (l.next != nullptr ? l.next->previous : last_) = l.previous;
  l.state = lease_state::none;
  --active_;
  // Under the lock, as in the others: who sees that the lease is gone sees that something has changed.
  changes_.happened();
}

void lease_table::set_gathered(lease& l) {
  lock_guard guard(lock_);
  l.gathered = true;
}

void lease_table::set_resident(lease& l) {
  lock_guard guard(lock_);
  l.resident = true;
}

lease_table::verdict lease_table::judge_locked(page_index page, cpu_access access, thread_id thread,
                                               device::fence running, const lease*& in_the_way) const {
  verdict result = verdict::free;
  for (const lease* l = first_; l != nullptr; l = l->next) {
    if (!covers_page(*l, page, access == cpu_access::read)) continue;
    const bool open = l->state == lease_state::open;
    if (open && l->owner == thread) return verdict::own;
    if (running.stream != nullptr && l->stream == running.stream && (open || l->fence.at.position >= running.position))
      return verdict::own_stream;
    if (result == verdict::free) result = verdict::wait;
    if (!open || thread == 0) continue;
    if (in_the_way == nullptr) in_the_way = l;
    if (would_circle_locked(thread, l->owner)) result = verdict::circle;
  }
  return result;
}

lease_table::verdict lease_table::cpu_verdict(page_index page, cpu_access access, thread_id thread,
                                              device::fence running) const {
  lock_guard guard(lock_);
  const lease* in_the_way = nullptr;
  return judge_locked(page, access, thread, running, in_the_way);
}

lease_table::verdict lease_table::admit_cpu(page_index page, cpu_access access, thread_id thread,
                                            device::fence running) {
  lock_guard guard(lock_);
  const lease* in_the_way = nullptr;
  const verdict result = judge_locked(page, access, thread, running, in_the_way);
  set_parked_locked(thread, result == verdict::wait ? in_the_way : nullptr);
  return result;
}

bool lease_table::covers(page_index page) const {
  lock_guard guard(lock_);
  for (const lease* l = first_; l != nullptr; l = l->next)
    if (covers_page(*l, page, false)) return true;
  return false;
}

lease_table::room lease_table::room_on(unsigned node, thread_id thread) const {
  lock_guard guard(lock_);
  bool others_open = false;
  bool own_open = false;
  bool ended = false;
  for (const lease* l = first_; l != nullptr; l = l->next) {
    if (!l->gathered) continue;
    if (l->state == lease_state::open && l->owner == thread) own_open = true;
    if (l->node != node && l->node != host_node) continue;
    if (l->state == lease_state::ended || l->state == lease_state::released) ended = true;
    if (l->state == lease_state::open && l->owner != thread) others_open = true;
  }
  if (ended || (others_open && !own_open)) return room::wait;
  return own_open ? room::own : room::none;
}

bool lease_table::covers(page_index page, unsigned node) const {
  lock_guard guard(lock_);
  for (const lease* l = first_; l != nullptr; l = l->next)
    if (l->node == node && covers_page(*l, page, false)) return true;
  return false;
}

// The lease is open no longer: nobody waits for its owner because of it, and its owner is awake.
void lease_table::forget_waits_locked(const lease& over) {
  for (lease* l = first_; l != nullptr && parked_ != 0; l = l->next)
    if (l->owner_parked_on != nullptr && (l == &over || l->owner_parked_on == &over)) {
      l->owner_parked_on = nullptr;
      --parked_;
    }
  for (waiter* w = waiters_; w != nullptr; w = w->next)
    if (w->waits_on == &over) w->waits_on = nullptr;
}

page_mask lease_table::on_demand(unsigned node, block_index index, bool only_resident) const {
  page_mask pages = no_pages;
  lock_guard guard(lock_);
  for (const lease* l = first_; l != nullptr; l = l->next) {
    if (l->node != node || l->state == lease_state::released || (only_resident && !l->resident)) continue;
    for (const leased_range& range : l->ranges)
      if (range.on_demand) pages |= pages_touched(range.bytes, index);
  }
  return pages;
}

page_mask lease_table::written_on_demand(unsigned node, block_index index) const {
  page_mask pages = no_pages;
  lock_guard guard(lock_);
  for (const lease* l = first_; l != nullptr; l = l->next) {
    if (l->node != node || l->state == lease_state::released) continue;
    for (const leased_range& range : l->ranges)
      if (range.on_demand && range.writes()) pages |= pages_touched(range.bytes, index);
  }
  return pages;
}

std::size_t lease_table::ranges_on_demand(unsigned node, std::span<byte_range> ranges) const {
  std::size_t count = 0;
  lock_guard guard(lock_);
  for (const lease* l = first_; l != nullptr; l = l->next) {
    if (l->node != node || l->state == lease_state::released) continue;
    for (const leased_range& range : l->ranges) {
      if (!range.on_demand) continue;
      if (count < ranges.size()) ranges[count] = range.bytes;
      ++count;
    }
  }
  return count;
}

page_mask lease_table::declared(unsigned node, block_index index) const {
  page_mask pages = no_pages;
  lock_guard guard(lock_);
  for (const lease* l = first_; l != nullptr; l = l->next) {
    if (l->state == lease_state::released) continue;
    page_mask declared = no_pages;
    page_mask fetched = no_pages;
    for (const leased_range& range : l->ranges)
      (range.on_demand ? fetched : declared) |= pages_touched(range.bytes, index);
    pages |= l->node == node ? declared & ~fetched : declared;
  }
  return pages;
}

page_range lease_table::on_demand_around(unsigned node, page_index page) const {
  lock_guard guard(lock_);
  for (const lease* l = first_; l != nullptr; l = l->next) {
    if (l->node != node || l->state == lease_state::released) continue;
    for (const leased_range& range : l->ranges)
      if (range.on_demand && range.pages().begin <= page && page < range.pages().end) return range.pages();
  }
  return {page, page};
}

bool lease_table::frames_held_elsewhere(unsigned node, std::span<const device::stream* const> streams) const {
  lock_guard guard(lock_);
  for (const lease* l = first_; l != nullptr; l = l->next) {
    l->behind = l->stream != nullptr && std::find(streams.begin(), streams.end(), l->stream) != streams.end();
    for (const lease* e = first_; e != l && !l->behind; e = e->next)
      l->behind = e->behind && ((l->stream != nullptr && e->stream == l->stream) || conflict(*e, l->ranges, nullptr));
    if (l->node == node && l->gathered && !l->behind) return true;
  }
  return false;
}

bool lease_table::open_over(byte_range range) const {
  const leased_range whole{range, GM_WRITE};
  lock_guard guard(lock_);
  for (const lease* l = first_; l != nullptr; l = l->next)
    if (l->state == lease_state::open && conflict(*l, {&whole, 1}, nullptr)) return true;
  return false;
}

std::size_t lease_table::active() const {
  lock_guard guard(lock_);
  return active_;
}

}  // namespace gm
