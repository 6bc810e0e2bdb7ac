// SPDX-License-Identifier: Apache-2.0
#include "fault/device_faults.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <thread>

#include "base/log.h"
#include "device/backend_loader.h"
#include "evict/reclaim.h"
#include "evict/room.h"
#include "migrate/host_pages.h"
#include "migrate/remapping.h"
#include "platform/clock.h"

namespace gm {
namespace {

constexpr unsigned requests_at_once = 512;
// A round that finds nothing costs a processor's time: from so many in a row on the thread sleeps between them, for a
// part of the time that nothing has been asked for: kernels that have all they need are not slowed down.
constexpr unsigned rounds_awake = 2000;
constexpr std::uint64_t nap_ns = 20'000;
constexpr std::uint64_t longest_nap_ns = 200'000;
constexpr std::uint64_t naps_of_idle_time = 16;

}  // namespace

// What serving a block has begun under its lock, to be submitted without it.
struct device_faults::begun_work {
  remapping* showing = nullptr;
  remapping* taking = nullptr;
  move* moving = nullptr;
  move* homeward = nullptr;
  page_mask homeless = no_pages;  // the host has no memory for these, on their way here
  shown_copy_plan copies;
  homeward_copy_plan home_copies;
};

device_faults::device_faults(vm_object& vm, move_pool& moves, device_node& device, bounces& thrash)
    : vm_(vm),
      moves_(moves),
      device_(device),
      thrash_(thrash),
      map_(vm, device),
      answers_(map_),
      reclaimer_(vm, moves, device) {}

status device_faults::start() try {
  waiting_.reserve(access_map::ring_slots * 2);
  unanswered_.reserve(access_map::ring_slots / 2);
  status s = map_.create();
  if (s == status::ok)
    s = thread_.start(
        "gmem-demand", any_cpu, [](void* self) { static_cast<device_faults*>(self)->work(); }, this);
  // Last: it may wait for a lock that the caller holds, and so could not be stopped.
  if (s == status::ok) s = reclaimer_.start();
  if (s == status::ok)
    vm_.maps[device_.node].store(&map_, std::memory_order_release);
  else
    stop();
  return s;
} catch (const std::bad_alloc&) {
  return fail(status::no_memory, "no memory to serve kernels' faults");
}

void device_faults::stop() {
  if (thread_.running()) {
    stopping_.store(true);
    work_.happened();
    thread_.join();
  }
  reclaimer_.stop();
}

// ---- Scopes --------------------------------------------------------------------------------------------------------

void device_faults::begin_scope(unsigned scope, std::span<const leased_range> ranges, const device::stream* stream,
                                demand_failure told) {
  {
    lock_guard guard(scopes_lock_);
    scopes_[scope] = {ranges, stream, told};
  }
  work_.happened();
  reclaimer_.look();
}

void device_faults::end_scope(unsigned scope) {
  lock_guard guard(scopes_lock_);
  scopes_[scope] = {};
  unheard_.fetch_and(~(std::uint64_t{1} << scope));
}

std::uint64_t device_faults::scopes_over(block_index index, page_mask pages) {
  std::uint64_t over = 0;
  lock_guard guard(scopes_lock_);
  for (unsigned i = 0; i < scopes_.size(); ++i)
    for (const leased_range& range : scopes_[i].ranges)
      if (range.on_demand && (pages_touched(range.bytes, index) & pages) != no_pages) over |= std::uint64_t{1} << i;
  return over;
}

// Where the device does not take the word it is written again, until the scope's end.
void device_faults::give_up_on(std::uint64_t scopes, status result, const char* why) {
  for (; scopes != 0; scopes &= scopes - 1) {
    const auto scope = static_cast<unsigned>(std::countr_zero(scopes));
    demand_failure told;
    {
      lock_guard guard(scopes_lock_);
      std::swap(told, scopes_[scope].told);
      // Under the lock: the scope cannot end meanwhile.
      if (told.failed != nullptr) told.failed(told.owner, result, why);
      if (told.failed != nullptr && map_.give_up(scope) != status::ok) unheard_.fetch_or(std::uint64_t{1} << scope);
    }
  }
}

void device_faults::give_up_again() {
  lock_guard guard(scopes_lock_);
  for (std::uint64_t left = unheard_.load(); left != 0; left &= left - 1) {
    const auto scope = static_cast<unsigned>(std::countr_zero(left));
    if (map_.give_up(scope) == status::ok) unheard_.fetch_and(~(std::uint64_t{1} << scope));
  }
}

void device_faults::move_ended(void* self, const move& m, status result) {
  if (result == status::ok) return;
  auto& faults = *static_cast<device_faults*>(self);
  faults.give_up_pages(m.index, m.shown != no_pages ? m.shown : m.pages, result, "copying");
  faults.ask_again(m.index, m.shown, m.exclusive);
}

void device_faults::entries_failed(void* self, const remapping& r, status result) {
  auto& faults = *static_cast<device_faults*>(self);
  faults.give_up_pages(r.index, r.pages, result, "showing");
  faults.ask_again(r.index, r.pages, r.writable);
}

// Nobody posts these again, since their words stand: they are waiting still, for whoever has not been told.
void device_faults::ask_again(block_index index, page_mask pages, page_mask to_write) {
  lock_guard guard(scopes_lock_);
  for (; pages != no_pages && unanswered_.size() < unanswered_.capacity(); pages &= pages - 1) {
    const auto page = static_cast<unsigned>(std::countr_zero(pages));
    unanswered_.push_back({.page = first_page(index).value + page,
                           .scopes = 0,
                           .since_ns = now_ns(),
                           .write = (to_write & one_page(page)) != no_pages,
                           .planned = true,
                           .streamed = false});
  }
}

// Something that kernels wait for has failed, which the thread's last error tells.
void device_faults::give_up_pages(block_index index, page_mask pages, status result, const char* what) {
  const std::uint64_t first = offset_of(index) + static_cast<unsigned>(std::countr_zero(pages)) * page_bytes;
  char why[256];
  std::snprintf(why, sizeof why, "a kernel on node %u (%s) waits for %u pages from %p on, and %s them failed: %.100s",
                device_.node, device_.info.name, count_pages(pages), static_cast<void*>(vm_.memory.user(first)), what,
                last_error());
  give_up_on(scopes_over(index, pages), result, why);
}

// ---- The thread ----------------------------------------------------------------------------------------------------

void device_faults::work() {
  unsigned idle_rounds = 0;
  std::uint64_t idle_since = now_ns();
  for (;;) {
    const std::uint32_t seen = work_.now();
    if (stopping_.load()) return;
    if (!map_.in_use() && waiting_.empty()) {
      asleep_.store(true);
      work_.wait_past(seen);
      asleep_.store(false);
      idle_since = now_ns();
      continue;
    }
    const std::uint64_t start = now_ns();
    if (answers_.are_overdue(start)) report_silence(start);
    if (unheard_.load() != 0) give_up_again();
    bool busy = take_requests();
    busy = serve() || busy;
    if (busy) {
      vm_.stats.fault_time_ns.add(now_ns() - start);
      idle_rounds = 0;
      idle_since = start;
    } else if (++idle_rounds < rounds_awake || may_be_served_soon_) {
      std::this_thread::yield();
    } else {
      const std::uint64_t nap = std::clamp((start - idle_since) / naps_of_idle_time, nap_ns, longest_nap_ns);
      std::this_thread::sleep_for(std::chrono::nanoseconds(nap));
    }
  }
}

bool device_faults::take_requests() {
  const std::size_t before = waiting_.size();
  const auto room = static_cast<unsigned>(std::min<std::size_t>(requests_at_once, waiting_.capacity() - before));
  const std::uint64_t now = now_ns();
  const unsigned came = map_.take_requests(room, [&](std::uint64_t request) {
    const std::uint64_t scope = request >> GM_REQUEST_SCOPE_SHIFT & GM_REQUEST_SCOPE_MASK;
    waiting_.push_back({.page = request & 0xffffffffu,
                        .scopes = std::uint64_t{1} << scope,
                        .since_ns = now,
                        .write = (request >> GM_REQUEST_WRITE_SHIFT & 1) != 0,
                        .planned = false,
                        .streamed = false});
  });
  {
    lock_guard guard(scopes_lock_);
    while (!unanswered_.empty() && waiting_.size() < waiting_.capacity()) {
      waiting_.push_back(unanswered_.back());
      unanswered_.pop_back();
    }
  }
  if (waiting_.size() == before) return false;
  vm_.stats.node[device_.node].faults.add(came);
  std::stable_sort(waiting_.begin(), waiting_.end(),
                   [](const posted_page& a, const posted_page& b) { return a.page < b.page; });
  std::size_t kept = 0;
  for (const posted_page& r : waiting_) {
    if (kept != 0 && waiting_[kept - 1].page == r.page) {
      waiting_[kept - 1].scopes |= r.scopes;
      waiting_[kept - 1].write = waiting_[kept - 1].write || r.write;
      waiting_[kept - 1].planned = waiting_[kept - 1].planned && r.planned;
      waiting_[kept - 1].streamed = waiting_[kept - 1].streamed || r.streamed;
    } else {
      waiting_[kept++] = r;
    }
  }
  waiting_.resize(kept);
  return true;
}

// One round. True: something went on.
bool device_faults::serve() {
  may_be_served_soon_ = false;
  if (waiting_.empty()) return false;
  starved_ = false;
  std::size_t kept = 0;
  for (std::size_t first = 0; first < waiting_.size();) {
    const block_index index = block_of(page_index{waiting_[first].page});
    wanted_pages wanted;
    wanted_pages fresh;
    std::size_t end = first;
    bool first_asked_for = true;
    streamed_ = false;
    for (; end < waiting_.size() && block_of(page_index{waiting_[end].page}) == index; ++end) {
      const page_mask page = one_page(page_in_block({waiting_[end].page}));
      wanted.pages |= page;
      first_asked_for = first_asked_for && !waiting_[end].planned;
      streamed_ = streamed_ || waiting_[end].streamed;
      if (!waiting_[end].planned) fresh.pages |= page;
      waiting_[end].planned = true;
      if (waiting_[end].write) wanted.to_write |= page;
    }
    if (block* b = vm_.table.find(index); b != nullptr && fresh.pages != no_pages) {
      fresh.to_write = wanted.to_write & fresh.pages;
      plan(index, *b, fresh, first_asked_for);
      wanted.along = fresh.along;
      wanted.along_to_write = fresh.along_to_write;
      wanted.fresh = fresh.pages;
    }
    const page_mask served = serve_block(index, wanted);
    bring_ahead();
    for (std::size_t i = first; i < end; ++i) {
      if ((served & one_page(page_in_block({waiting_[i].page}))) != no_pages) continue;
      waiting_[i].streamed = streamed_;
      waiting_[kept++] = waiting_[i];
    }
    first = end;
  }
  const bool progress = kept != waiting_.size();
  waiting_.resize(kept);
  give_up_stuck(now_ns());
  return progress;
}

void device_faults::report_silence(std::uint64_t now) {
  std::uint64_t pages = waiting_.size();
  page_index first{waiting_.empty() ? 0 : waiting_[0].page};
  // Those that are being brought or shown.
  byte_range ranges[GM_MAP_SCOPES];
  const std::size_t count = std::min(vm_.leases.ranges_on_demand(device_.node, ranges), std::size(ranges));
  each_block_of({ranges, count}, [&](block_index index) {
    const block* b = vm_.table.find(index);
    page_mask busy = b == nullptr ? no_pages : b->busy.load(std::memory_order_relaxed);
    if (busy != no_pages) busy &= vm_.leases.on_demand(device_.node, index);
    for (; busy != no_pages; busy &= busy - 1) {
      const page_index page{first_page(index).value + static_cast<unsigned>(std::countr_zero(busy))};
      const auto at = std::lower_bound(waiting_.begin(), waiting_.end(), page.value,
                                       [](const posted_page& r, std::uint64_t value) { return r.page < value; });
      if (at != waiting_.end() && at->page == page.value) continue;
      if (pages++ == 0) first = page;
    }
    return true;
  });
  char why[256];
  const double seconds = static_cast<double>(answers_.silent_for_ns(now)) * 1e-9;
  if (pages != 0)
    std::snprintf(
        why, sizeof why,
        "node %u (%s) has not answered for %.1f s: %llu pages that kernels wait for, one of them at %p, do not come",
        device_.node, device_.info.name, seconds, static_cast<unsigned long long>(pages),
        static_cast<void*>(vm_.memory.user(offset_of(first))));
  else
    std::snprintf(why, sizeof why, "node %u (%s) has not answered for %.1f s; no page is waiting", device_.node,
                  device_.info.name, seconds);
  std::uint64_t all = 0;
  {
    lock_guard guard(scopes_lock_);
    for (unsigned i = 0; i < scopes_.size(); ++i)
      if (scopes_[i].told.failed != nullptr) all |= std::uint64_t{1} << i;
  }
  if (all != 0) log_line(log_level::error, "%s", why);
  give_up_on(all, status::device, why);
}

// Frames have been asked for, for long, and none has come free.
void device_faults::give_up_stuck(std::uint64_t now) {
  const std::uint64_t evictions = vm_.stats.node[device_.node].evictions.get();
  if (!starved_ || evictions != evictions_seen_ || starved_since_ns_ == 0) {
    evictions_seen_ = evictions;
    starved_since_ns_ = starved_ ? now : 0;
    return;
  }
  if (now - starved_since_ns_ < stuck_ns) return;
  starved_since_ns_ = now;
  // Who has asked; and when they have been told already, whoever may be waiting for the same pages.
  std::uint64_t asked = 0;
  std::uint64_t over = 0;
  for (const posted_page& r : waiting_) {
    const std::uint64_t here = scopes_over(block_of(page_index{r.page}), one_page(page_in_block({r.page})));
    asked |= r.scopes & here;
    over |= here;
  }
  const device::stream* streams[GM_MAP_SCOPES] = {};
  std::size_t count = 0;
  std::uint64_t stuck = 0;
  {
    lock_guard guard(scopes_lock_);
    for (const std::uint64_t among : {asked, over}) {
      if (stuck != 0) break;
      count = 0;
      for (std::uint64_t left = among; left != 0; left &= left - 1) {
        const auto scope = static_cast<unsigned>(std::countr_zero(left));
        streams[count++] = scopes_[scope].stream;
        if (scopes_[scope].told.failed != nullptr) stuck |= left & -left;
      }
    }
  }
  if (stuck == 0 || vm_.leases.frames_held_elsewhere(device_.node, {streams, count})) return;
  char why[256];
  std::snprintf(why, sizeof why,
                "%zu pages, the first at %p, wait for room on node %u (%s), and none of its %u frames has come free: "
                "kernels hold pages (spans, or this scope's declared ranges) in all of them",
                waiting_.size(), static_cast<void*>(vm_.memory.user(waiting_[0].page * page_bytes)), device_.node,
                device_.info.name, device_.pool.capacity());
  give_up_on(stuck, status::no_memory, why);
}

// ---- One block -----------------------------------------------------------------------------------------------------

// The frame, and the address by which kernels read it. False: not yet.
bool device_faults::has_place(block_index index, block& b, bool asked_for) {
  bool has_frame = false;
  {
    block_guard guard(b.lock);
    has_frame = b.node(device_.node).has_frame();
    if (has_frame && map_.at(index).place_plus_one != 0) return true;
  }
  if (!has_frame) {
    const victim_class which = victim_class_of(vm_.advices.at(first_page(index)), device_.node);
    reclaimer_.look();
    const bool had_frames = device_.pool.free_for_faults() != 0;
    const status s = acquire_piece(vm_, moves_, device_, {index, 1}, which, false);
    if (s != status::ok) {
      const block_guard guard(b.lock);
      const bool others_make_it = b.node(device_.node).address == piece_being_made;
      if (asked_for) reclaimer_.starved(had_frames && s == status::no_memory && !others_make_it);
      return false;
    }
  }
  lock_guard no_frame_changes(device_.pieces);
  std::uint64_t address = 0;
  {
    block_guard guard(b.lock);
    if (b.node(device_.node).has_frame()) address = b.node(device_.node).address;
  }
  std::uint64_t lasting = 0;
  if (address == 0 || device_.api->lasting_address(device_.handle, address, &lasting) != GM_OK) return false;
  block_guard guard(b.lock);
  map_.at(index).place_plus_one = static_cast<std::uint32_t>((lasting - device_.info.pool_base) / page_bytes + 1);
  return true;
}

// Nobody waits for pages that are not on demand: their scope is over. (Freed ones are, until it is.) Their words say
// that they have been asked for: the next scope gets others.
page_mask device_faults::drop_gone_locked(block_index index, const block& b, page_mask wanted) {
  const page_mask idle = wanted & ~b.busy.load(std::memory_order_relaxed);
  const page_mask gone = idle & ~vm_.leases.on_demand(device_.node, index);
  if (gone != no_pages) map_.renew_locked(index, gone);
  return gone;
}

// Work of a scope that has declared pages comes before the kernels that may ask for them. A request is ahead of that
// scope's release only by a little, or is an old one: posted twice, by threads that did not see each other's page come.
page_mask device_faults::declared_locked(block_index index, const block& b) const {
  return b.leases == 0 ? no_pages : vm_.leases.declared(device_.node, index);
}

// The pages that are served or on their way.
page_mask device_faults::serve_block(block_index index, wanted_pages wanted) {
  block* b = vm_.table.find(index);
  if (b == nullptr) return wanted.pages;
  page_mask gone = no_pages;
  {
    block_guard guard(b->lock);
    gone = drop_gone_locked(index, *b, wanted.pages);
    wanted.pages &= ~(gone | declared_locked(index, *b));
  }
  may_be_served_soon_ = may_be_served_soon_ || wanted.pages != no_pages;
  wanted.to_write &= wanted.pages;
  if ((wanted.pages | wanted.along) == no_pages) return gone;
  if (!has_place(index, *b, wanted.pages != no_pages)) {
    starved_ = starved_ || wanted.pages != no_pages;
    return gone;
  }
  begun_work begun;
  page_mask served = no_pages;
  {
    block_guard guard(b->lock);
    gone |= drop_gone_locked(index, *b, wanted.pages);
    wanted.pages &= ~(gone | declared_locked(index, *b));
    wanted.to_write &= wanted.pages;
    served = gone | serve_block_locked(index, *b, wanted, begun);
    if (begun.showing != nullptr || begun.moving != nullptr)
      device_.pool.used_on_demand(b->node(device_.node).frame(), streamed_);
  }
  // The frame was asked for in vain, and perhaps for memory that is nobody's any more.
  if (wanted.pages == no_pages && begun.moving == nullptr) release_unused_frame(vm_, device_, index);
  if (begun.taking != nullptr) (void)submit_remapping(begun.taking);
  if (begun.showing != nullptr) (void)submit_remapping(begun.showing);  // refused: entries_failed() has been called
  if (begun.homeless != no_pages && reclaim_host_pages(vm_, pages_per_block) == 0 && !host_memory_is_coming(vm_, true))
    give_up_pages(index, begun.homeless, status::no_memory, "bringing");
  if (begun.homeward != nullptr) (void)submit_move(moves_, begun.homeward, begun.home_copies, nullptr);
  if (begun.moving != nullptr) (void)submit_move(moves_, begun.moving, begun.copies, nullptr);
  return served;
}

// What kernels of other devices use, and this one may not have beside them, is taken from one of them. Returns it.
page_mask device_faults::take_from_others_locked(block_index index, block& b, wanted_pages wanted, begun_work& begun) {
  page_mask in_use = no_pages;
  for (unsigned n = 1; n < vm_.nodes; ++n) {
    access_map* other = n == device_.node ? nullptr : vm_.map(n);
    if (other == nullptr) continue;
    const page_mask excluding = (wanted.pages & other->at(index).writable) | wanted.to_write;
    const page_mask held = other->held_locked(index, excluding);
    in_use |= held;
    if (held == no_pages || begun.taking != nullptr) continue;
    begun.taking = begin_taking_locked(vm_, *other, moves_, index, b, {.pages = held});
    if (begun.taking != nullptr) other->at(index).hold_until_ns = now_ns() + hold_ns;
  }
  return in_use;
}

// Of pages that nobody has asked for, those that can be had here and are in nobody's way.
page_mask device_faults::unneeded_elsewhere_locked(block_index index, const block& b, page_mask pages,
                                                   bool to_write) const {
  const unsigned node = device_.node;
  if (b.leases != 0 || pages == no_pages) return no_pages;
  pages &= ~b.busy.load(std::memory_order_relaxed) & b.allocated;
  pages &= to_write ? vm_.leases.written_on_demand(node, index) : vm_.leases.on_demand(node, index);
  pages &= b.node(node).valid | ~unreachable_locked(vm_, b, node, pages & ~b.node(node).valid);
  return pages & ~held_by_kernels_locked(vm_, index, pages, node, !to_write);
}

// What policy would bring with a request that has just come.
void device_faults::plan(block_index index, block& b, wanted_pages& wanted, bool first_asked_for) {
  const page_index page{first_page(index).value + static_cast<unsigned>(std::countr_zero(wanted.pages))};
  const page_range range = vm_.leases.on_demand_around(device_.node, page);
  device_fault fault{.node = device_.node,
                     .page = page,
                     .to_write = no_pages,
                     .writable = no_pages,
                     .first = range.begin,
                     .last = range.end,
                     .block = {},
                     .told = vm_.advices.at(page),
                     .comes_back = false};
  {
    block_guard guard(b.lock);
    const page_mask own = pages_touched({offset_of(range.begin), offset_of(range.end)}, index);
    fault.block = {.present = b.node(device_.node).valid | b.busy.load(std::memory_order_relaxed),
                   .requested = wanted.pages & own,
                   .allocated = own & b.allocated,
                   .elsewhere = valid_elsewhere(b, vm_.nodes, device_.node)};
    if (first_asked_for && !b.node(device_.node).has_frame())
      fault.comes_back = returning_.comes_back(map_.evictions_since_locked(index), device_.pool.capacity());
    fault.to_write = wanted.to_write & own;
    fault.writable = map_.at(index).writable & own;
  }
  if ((fault.block.requested & ~fault.block.present) == no_pages && fault.to_write == no_pages) return;
  fault.most_blocks_ahead = std::min(device_.pool.free_for_faults() / 2, most_units_ahead);
  ahead_ = plan_fault(streams_, fault);
  streamed_ = streamed_ || ahead_.streamed;
  wanted.along_to_write = ahead_.to_write;
  reclaimer_.streams_use(frames_in_use(streams_, device_.pool.capacity()));
  if (ahead_.count != 0 && ahead_.entries[0].block == index) wanted.along = ahead_.entries[0].pages;
}

void device_faults::bring_ahead() {
  for (unsigned i = 1; i < ahead_.count && device_.pool.free_for_faults() != 0; ++i) {
    const page_mask pages = ahead_.entries[i].pages;
    (void)serve_block(ahead_.entries[i].block,
                      {.along = pages, .along_to_write = ahead_.ahead_to_write ? pages : no_pages});
  }
  ahead_.count = 0;
}

page_mask device_faults::serve_block_locked(block_index index, block& b, wanted_pages wanted, begun_work& begun) {
  const unsigned node = device_.node;
  node_pages& here = b.node(node);
  access_map::block_entries& entries = map_.at(index);
  if (entries.place_plus_one == 0 || now_ns() < entries.hold_until_ns) return no_pages;
  const page_mask busy = b.busy.load(std::memory_order_relaxed);
  wanted.pages &= ~busy;
  wanted.to_write &= wanted.pages;
  // A request that still waits is no second movement.
  const page_mask moving =
      wanted.fresh & wanted.pages & valid_elsewhere(b, vm_.nodes, node) & (wanted.to_write | ~here.valid);
  if (moving != no_pages) {
    const movement m{.block = index, .to = node, .write = (moving & wanted.to_write) != no_pages, .now_ns = now_ns()};
    if (const thrash_answer answer = thrash_.wanted(m, vm_.nodes); bounces::keeps_from(answer, node)) {
      entries.hold_until_ns = answer.until_ns;
      return no_pages;
    }
  }
  const page_mask in_use = take_from_others_locked(index, b, wanted, begun);
  wanted.pages &= ~in_use;
  wanted.to_write &= ~in_use;
  page_mask served = no_pages;

  // Here already. An entry that says so, and was not believed, is written again.
  const page_mask along = unneeded_elsewhere_locked(index, b, wanted.along & ~wanted.pages & ~here.valid, false);
  const page_mask reached = wanted.pages | along | (here.valid & ~entries.writable);
  page_mask own = unneeded_elsewhere_locked(index, b, wanted.along_to_write & reached & ~wanted.to_write, true);
  // Of a block that is only ahead, pages that nobody has come as zeroes, which cost nothing when they stay so.
  if (wanted.pages == no_pages) own &= valid_anywhere(b, vm_.nodes);
  const page_mask upgraded = here.valid & ((wanted.pages & wanted.to_write) | own);
  page_mask present = here.valid & (wanted.pages | own);
  if (revoke_cpu_locked(vm_, index, b, upgraded) != status::ok) present = no_pages;
  if (present != no_pages) {
    make_exclusive_locked(vm_, index, b, node, upgraded);
    const page_mask writable = present & here.writable & ~valid_elsewhere(b, vm_.nodes, node);
    begun.showing = begin_showing_locked(vm_, map_, index, b, {present, writable, entries_failed, this});
    if (begun.showing != nullptr) served |= present;
  }

  const page_mask absent = wanted.pages & ~here.valid;
  if ((absent | along) == no_pages) return served;
  if (const page_mask far = unreachable_locked(vm_, b, node, absent); far != no_pages) {
    unsigned source = 1;
    while ((b.node(source).valid & far) == no_pages) ++source;
    begun.homeward = moves_.take(true);
    if (begun.homeward == nullptr) return served;
    const move_request home{.destination = host_node,
                            .source = source,
                            .pages = far & b.node(source).valid,
                            .done = move_ended,
                            .owner = this};
    if (begin_move_locked(vm_, index, b, home, *begun.homeward, begun.home_copies) != status::ok) {
      moves_.give_back(begun.homeward);
      begun.homeward = nullptr;
      begun.homeless = far;
    }
    return served;
  }
  const page_mask pages = absent | along;
  begun.moving = moves_.take(true);
  if (begun.moving == nullptr) return served;
  const move_request request{.destination = node,
                             .pages = pages,
                             .exclusive = (absent & wanted.to_write) | (pages & own),
                             .shown = pages,
                             .keep_cpu_mapping = true,
                             .done = move_ended,
                             .owner = this};
  if (begin_move_locked(vm_, index, b, request, *begun.moving, begun.copies) != status::ok) {
    moves_.give_back(begun.moving);
    begun.moving = nullptr;
    return served;
  }
  return served | absent;
}

}  // namespace gm
