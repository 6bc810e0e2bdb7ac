// SPDX-License-Identifier: Apache-2.0
#include "api/scope_record.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <new>
#include <thread>

#include "base/check.h"
#include "base/inject.h"
#include "device/backend_loader.h"
#include "evict/reclaim.h"
#include "evict/room.h"
#include "migrate/host_pages.h"
#include "policy/victim_order.h"

namespace gm {
namespace {

constexpr unsigned retry_after_us = 100;
// For the device's answer, which takes some microseconds, before sleeping between looks.
constexpr unsigned looks_awake = 1000;

}  // namespace

status managed_range(runtime& rt, const void* pointer, std::size_t bytes, byte_range& range) {
  if (pointer == nullptr) return fail(status::invalid_argument, "the pointer is null");
  if (bytes == 0) return fail(status::invalid_argument, "the range at %p has 0 bytes", pointer);
  if (!rt.vm.memory.contains(pointer))
    return fail(status::not_managed, "%p is not memory that gm_malloc handed out", pointer);
  const std::uint64_t begin = rt.vm.memory.offset_of(pointer);
  if (bytes > rt.vm.memory.bytes() - begin)
    return fail(status::not_managed, "%zu bytes at %p go past gmem's memory", bytes, pointer);
  range = {begin, begin + bytes};
  extent* e = rt.vm.extents.reference(range);
  if (e == nullptr)
    return fail(status::not_managed, "%zu bytes at %p are not inside one live allocation", bytes, pointer);
  if (rt.vm.extents.drop_reference(*e)) reclaim(rt.vm, *e);
  return status::ok;
}

// ---- 1 plan ------------------------------------------------------------------------------------------------------

void scope_record::add_blocks(byte_range range) {
  block_index index = block_of(range.begin);
  if (!plan_.empty() && index <= plan_.back().index) index = {plan_.back().index.value + 1};
  for (; offset_of(index) < range.end; ++index)
    plan_.push_back({&vm_.table.at(index), index, no_pages, no_pages, no_pages, false, false, false});
}

scope_record::entry& scope_record::entry_of(block_index index) {
  return *std::lower_bound(plan_.begin(), plan_.end(), index,
                           [](const entry& e, block_index wanted) { return e.index < wanted; });
}

status scope_record::make_plan() try {
  std::vector<leased_range>& ranges = request_.ranges;
  std::sort(ranges.begin(), ranges.end(),
            [](const leased_range& a, const leased_range& b) { return a.bytes.begin < b.bytes.begin; });
  for (const leased_range& range : ranges) {
    extents_.push_back(nullptr);
    extent* e = vm_.extents.reference(range.bytes);
    if (e == nullptr) {
      extents_.pop_back();
      return fail(status::not_managed, "a range was freed meanwhile");
    }
    extents_.back() = e;
    if (range.on_demand) continue;
    // Without a window an allocation is one piece, and all of it comes or goes.
    const bool whole = on_device() && !device().windowed();
    add_blocks(whole ? e->bytes() : range.bytes);
    if (whole && (pieces_.empty() || pieces_.back().first != e->first_block()))
      pieces_.push_back(piece_for(device(), *e, e->first_block()));
  }
  // The largest are the hardest to place.
  std::stable_sort(pieces_.begin(), pieces_.end(), [](const piece& a, const piece& b) { return a.blocks > b.blocks; });
  for (const leased_range& range : ranges) {
    if (range.on_demand) continue;
    entry* e = &entry_of(block_of(range.bytes.begin));
    for (; e != plan_.data() + plan_.size() && offset_of(e->index) < range.bytes.end; ++e) {
      const page_mask touched = pages_touched(range.bytes, e->index);
      switch (range.mode) {
        case GM_READ:
          e->need |= touched;
          break;
        case GM_READ_WRITE:
          e->need |= touched;
          e->write |= touched;
          break;
        case GM_WRITE:
          e->need |= touched & ~pages_covered(range.bytes, e->index);
          e->write |= touched;
          break;
        case GM_ON_DEMAND:
          break;  // a flag of the interface, told by on_demand here
      }
    }
  }
  if (on_device() && plan_.size() > device().pool.capacity())
    return fail(status::no_memory,
                "the scope needs %zu frames of 2 MiB on node %u (%s), whose budget is %u (GM_DEVICE_BUDGET): split "
                "it",
                plan_.size(), request_.node, device().info.name, device().pool.capacity());
  copies_.reserve(vm_.nodes * 2);
  return status::ok;
} catch (const std::bad_alloc&) {
  return fail(status::no_memory, "no memory to plan a scope");
}

// ---- 3 gather ----------------------------------------------------------------------------------------------------

// All pages are here already: what is left is to take them from the others. False: steps 4 and 6 must see to it.
bool scope_record::finish_resident_locked(entry& e) {
  block& b = *e.target;
  const page_mask wanted = e.need | e.write;
  if ((wanted & (~b.node(request_.node).valid | b.busy.load(std::memory_order_relaxed))) != 0) return false;
  if (!on_device()) return false;
  if (e.write != no_pages) {
    if (revoke_cpu_locked(vm_, e.index, b, e.write) != status::ok) return false;
    make_exclusive_locked(vm_, e.index, b, request_.node, e.write);
  }
  return true;
}

status scope_record::lease_blocks(std::uint32_t& missing_frames) {
  for (entry& e : plan_) {
    block& b = *e.target;
    block_guard guard(b.lock);
    if (on_device() && (b.host().pinned & (e.need | e.write)) != 0)
      return fail(status::busy, "pages of the range are pinned to the host (gm_unpin releases them)");
    if (request_.pins && !on_device() && (pinned_to_devices(b, vm_.nodes) & (e.need | e.write)) != 0)
      return fail(status::busy, "pages of the range are pinned to a device (gm_unpin releases them)");
    ++b.node(request_.node).leases;
    ++b.leases;
    e.leased = true;
    e.missing = on_device() && !b.node(request_.node).has_frame();
    if (e.missing) ++missing_frames;
    e.unfinished = e.missing || !finish_resident_locked(e);
  }
  return status::ok;
}

// Remembers what would have to happen for there to be room.
status scope_record::no_room(status s) {
  if (s == status::no_memory) short_of_room_ = room::scopes;
  if (s == status::busy) short_of_room_ = room::copies;
  return s;
}

status scope_record::get_piece(const piece& wanted) {
  device_node& d = device();
  const victim_class which = victim_class_of(vm_.advices.at(first_page(wanted.first)), request_.node);
  const status s = acquire_piece(vm_, rt_.moves, d, wanted, which, !request_.detached);
  scattered_ = s == status::no_memory && wanted.blocks > 1 && d.pool.free_frames() >= wanted.blocks;
  return no_room(s);
}

// Kernels that fetch pages of the same blocks may have got frames for them meanwhile.
std::uint32_t scope_record::count_missing() {
  std::uint32_t missing_frames = 0;
  for (entry& e : plan_) {
    if (!e.missing) continue;
    block_guard guard(e.target->lock);
    e.missing = !e.target->node(request_.node).has_frame();
    if (e.missing) ++missing_frames;
  }
  return missing_frames;
}

status scope_record::get_frames(std::uint32_t missing_frames) {
  device_node& d = device();
  // All at once first, so that write-backs overlap.
  if (!request_.detached) {
    while (missing_frames != 0) {
      const status s = make_room(vm_, rt_.moves, d, missing_frames);
      if (s == status::ok) break;
      const std::uint32_t left = count_missing();
      if (left >= missing_frames) return no_room(s);
      missing_frames = left;
    }
  } else if (d.pool.free_frames() < missing_frames) {
    return fail(status::no_memory, "not enough free frames on node %u", request_.node);
  }
  status s = status::ok;
  if (!d.windowed()) {
    for (const piece& wanted : pieces_)
      if (s == status::ok && entry_of(wanted.first).missing) s = get_piece(wanted);
    return s;
  }
  for (const entry& e : plan_)
    if (s == status::ok && e.missing) s = get_piece({e.index, 1});
  return s;
}

status scope_record::lease_and_get_frames() {
  std::uint32_t missing_frames = 0;
  status s = lease_blocks(missing_frames);
  if (!request_.detached) device().pool.keep(missing_frames);
  if (s == status::ok && missing_frames != 0) s = get_frames(missing_frames);
  device().pool.keep(0);
  // Whoever gathers next never sees what is in its way for a moment only.
  if (s != status::ok) drop_leases();
  return s;
}

// Without a window, what the scope has on the device may itself leave no contiguous room for the rest. All else that
// could go has gone by then: so all the scope's pieces go home, and come anew.
status scope_record::gather_anew() {
  std::uint32_t resident = 0;
  for (const entry& e : plan_) {
    block_guard guard(e.target->lock);
    if (e.target->node(request_.node).has_frame()) ++resident;
  }
  if (resident == 0) return status::no_memory;  // it is not the scope's own that is in the way
  short_of_room_ = room::enough;
  device_node& d = device();
  if (const status s = make_room(vm_, rt_.moves, d, d.pool.free_frames() + resident); s != status::ok)
    return no_room(s);
  retry_after_ = vm_.room_changes.now();  // that was our own doing, and nobody else's reason to hope
  return lease_and_get_frames();
}

// Frames that others' scopes hold come free when those are released; but not for one who waits for himself. A frame
// that is being given back is nobody's for a moment: own_work counts whoever does that. What has changed since we
// looked may have been just that. Asked under the admission lock: others' attempts are no change.
bool scope_record::may_find_room_later() const {
  if (short_of_room_ == room::enough || request_.detached) return false;
  return short_of_room_ == room::copies ||
         vm_.leases.room_on(request_.node, this_thread()) == lease_table::room::wait || vm_.own_work.load() != 0 ||
         vm_.room_changes.now() != retry_after_;
}

void scope_record::touch_frames() {
  constexpr std::size_t batch = 128;
  frame_index frames[batch];
  victim_class classes[batch];
  std::size_t count = 0;
  for (const entry& e : plan_) {
    // Leased frames do not change, and this scope wrote or read this one under the block's lock.
    frames[count] = e.target->node(request_.node).frame();
    classes[count++] = victim_class_of(vm_.advices.at(first_page(e.index)), request_.node);
    if (count == batch) {
      device().pool.touch(frames, classes, count);
      count = 0;
    }
  }
  if (count != 0) device().pool.touch(frames, classes, count);
}

status scope_record::gather() {
  if (!on_device()) {
    std::uint32_t no_frames = 0;
    const status s = lease_blocks(no_frames);
    if (s == status::ok) vm_.leases.set_gathered(lease_);
    return s;
  }
  lock_guard guard(device().admission);
  status s = lease_and_get_frames();
  if (s != status::ok && scattered_ && !request_.detached) s = gather_anew();
  try_again_ = s != status::ok && may_find_room_later();
  if (s != status::ok) return s;
  if (plan_.empty()) return status::ok;
  vm_.leases.set_gathered(lease_);
  touch_frames();
  return status::ok;
}

// ---- begin and its undoing ---------------------------------------------------------------------------------------

void scope_record::wait_for_moves() {
  for (std::uint32_t left; (left = pending_.load(std::memory_order_acquire)) > 1;)
    pending_.wait(left, std::memory_order_acquire);
}

status scope_record::failure() const {
  if (const int why = demand_failed_.load(); why != GM_OK) return fail(static_cast<status>(why), "%s", demand_words_);
  const int why = failed_.load();
  if (why == GM_OK) return status::ok;
  return fail(static_cast<status>(why), "copying pages to node %u failed: their old copies stand", request_.node);
}

void scope_record::drop_leases() {
  for (entry& e : plan_) {
    if (!e.leased) continue;
    e.leased = false;
    block& b = *e.target;
    block_guard guard(b.lock);
    --b.node(request_.node).leases;
    --b.leases;
    if (b.parked == no_pages) continue;
    // Those parked on a move are woken too early, look again, and park again.
    for_each_run(b.parked, [&](unsigned first, unsigned count) { vm_.cpu->wake(vm_.bytes_of(e.index, first, count)); });
    b.parked = no_pages;
  }
}

// In this order: whoever is woken by the second step finds no lease in the way, and whoever looks for frames or host
// memory before the third is told to wait for it. That they may be had now is told on either side of the third: who
// finds the lease gone has been told, and who finds it still there will be.
void scope_record::give_up_lease() {
  end_demand();
  const bool held_frames = lease_.gathered;
  const auto tell = [&] {
    if (!on_device()) vm_.starved.changed(*vm_.cpu);
    if (held_frames) vm_.room_changes.happened();
  };
  vm_.leases.release(lease_);
  drop_leases();
  tell();
  vm_.leases.remove(lease_);
  tell();
}

void scope_record::undo() {
  wait_for_moves();
  give_up_lease();
  failed_.store(GM_OK, std::memory_order_relaxed);
  told_.store(false);
  copies_.clear();
  for (entry& e : plan_) e.moved = no_pages;
}

// When it fails nothing is held by us.
status scope_record::try_begin() {
  try_again_ = false;
  lease_order order;
  lease_.ranges = request_.ranges;
  lease_.node = request_.node;
  lease_.stream = request_.stream != nullptr ? request_.stream->handle : nullptr;
  const conflicts how = request_.detached            ? conflicts::never
                        : request_.stream == nullptr ? conflicts::wait
                                                     : conflicts::order;
  if (const status s = vm_.leases.begin_or_wait(lease_, how, order); s != status::ok) return s;
  retry_after_ = vm_.room_changes.now();
  short_of_room_ = room::enough;
  scattered_ = false;
  status s = gather();
  if (s == status::ok && request_.stream != nullptr) s = order_stream(order);
  if (s == status::ok) s = begin_demand();
  if (s == status::ok) s = copy_blocks(order);
  if (s == status::ok && request_.stream != nullptr) {
    const device::backend_table& api = *request_.stream->device->api;
    for (const device::fence& fence : copies_)
      if (s == status::ok)
        s = device::check_device(api, api.stream_wait(request_.stream->handle, fence), "waiting for copies");
  } else if (s == status::ok && !request_.detached) {
    wait_for_moves();
  }
  begun_.store(true);
  if (s == status::ok && failure() != status::ok && !told_.exchange(true)) s = failure();
  if (s != status::ok) {
    begun_.store(false);
    char why[512];
    std::snprintf(why, sizeof why, "%s", last_error());
    undo();
    return fail(s, "%s", why);
  }
  if (!request_.own_late) own_pages();
  return status::ok;
}

status scope_record::begin(runtime& rt, scope_request&& request, scope_record** begun) {
  if (inject::fails(inject::point::record_memory)) return fail(status::no_memory, "no memory for a scope (injected)");
  if (request.stream != nullptr) {
    const device::backend_table& api = *request.stream->device->api;
    if (const status s = device::check_device(api, api.stream_failure(request.stream->handle),
                                              "the stream has failed (gm_stream_synchronize clears that)");
        s != status::ok)
      return s;
  }
  auto* made = new (std::nothrow) scope_record(rt, std::move(request));
  if (made == nullptr) return fail(status::no_memory, "no memory for a scope");
  rt.scopes.fetch_add(1);
  status s = made->make_plan();
  while (s == status::ok) {
    s = made->try_begin();
    if (s == status::ok) {
      if (made->request_.stream != nullptr) made->request_.stream->open_scopes.fetch_add(1);
      *begun = made;
      return status::ok;
    }
    if (!made->try_again_) break;
    rt.vm.room_changes.wait_past(made->retry_after_);
    // Kernels that hold on to pages let go without telling anybody.
    if (made->short_of_room_ == room::copies && rt.vm.map(made->request_.node) != nullptr) usleep(retry_after_us);
    s = status::ok;
  }
  for (extent* e : made->extents_)
    if (rt.vm.extents.drop_reference(*e)) reclaim(rt.vm, *e);
  delete made;
  rt.scopes.fetch_sub(1);
  return s;
}

// ---- On demand -----------------------------------------------------------------------------------------------------

status scope_record::begin_demand() {
  if (std::none_of(request_.ranges.begin(), request_.ranges.end(), [](const leased_range& r) { return r.on_demand; }))
    return status::ok;
  device_faults* faults = nullptr;
  if (const status s = rt_.demand_on(request_.node, faults); s != status::ok) return s;
  access_map& map = faults->map();
  for (const leased_range& range : request_.ranges) {
    if (!range.on_demand) continue;
    if (const status s = map.extend(range.bytes); s != status::ok) return s;
    for (block_index index = block_of(range.bytes.begin); offset_of(index) < range.bytes.end; ++index) {
      block& b = vm_.table.at(index);
      block_guard guard(b.lock);
      if ((b.host().pinned & pages_touched(range.bytes, index)) != no_pages)
        return fail(status::busy, "pages of the range are pinned to the host (gm_unpin releases them)");
    }
  }
  if (const status s = map.take_scope(demand_number_); s != status::ok) return s;
  demand_ = faults;
  device::fence ready;
  status s = map.prepare_kernels(demand_number_, ready);
  // From here on the device is asked whether it still answers.
  if (s == status::ok) demand_->begin_scope(demand_number_, request_.ranges, lease_.stream, {demand_failed, this});
  const device::backend_table& api = *device().api;
  if (s == status::ok && request_.stream == nullptr)
    s = wait_for_map(ready);
  else if (s == status::ok)
    s = device::check_device(api, api.stream_wait(request_.stream->handle, ready), "waiting for an access map");
  return s;  // undo() ends it
}

status scope_record::wait_for_map(const device::fence& ready) const {
  for (unsigned looks = 0; !device().api->fence_done(ready); ++looks) {
    if (const int why = demand_failed_.load(); why != GM_OK) return fail(static_cast<status>(why), "%s", demand_words_);
    if (looks < looks_awake)
      std::this_thread::yield();
    else
      usleep(retry_after_us);
  }
  return status::ok;
}

void scope_record::end_demand() {
  if (demand_ == nullptr) return;
  demand_->end_scope(demand_number_);
  demand_->map().release_scope(demand_number_);
  demand_ = nullptr;
}

// Before the scope's release, which waits for this in end_demand().
void scope_record::demand_failed(void* self, status why, const char* words) {
  auto* s = static_cast<scope_record*>(self);
  stream_record* stream = s->request_.stream;
  if (stream == nullptr) {  // end() says it
    std::snprintf(s->demand_words_, sizeof s->demand_words_, "%s", words);
    s->demand_failed_.store(static_cast<int>(why));
    return;
  }
  {
    const std::scoped_lock guard(stream->words_lock);
    std::snprintf(stream->words, sizeof stream->words, "%s", words);
  }
  stream->device->api->stream_fail(stream->handle, static_cast<gm_status>(why));
}

status scope_record::view(byte_range bytes, gm_view_data& result) const {
  for (const leased_range& range : request_.ranges) {
    if (bytes.begin < range.bytes.begin || bytes.end > range.bytes.end) continue;
    if (range.on_demand) {
      result = demand_->map().view_of(bytes, demand_number_, range.writes());
      return status::ok;
    }
    const block& b = vm_.table.at(block_of(bytes.begin));
    result = {};
    result.bytes = bytes.bytes();
    result.may_write = range.writes() ? 1 : 0;
    // Leased frames stay where they are.
    result.direct = reinterpret_cast<unsigned char*>(
        on_device() ? b.node(request_.node).address + bytes.begin % block_bytes : vm_.memory.user_base() + bytes.begin);
    return status::ok;
  }
  return fail(status::not_managed, "the %llu bytes are not in one of the scope's ranges",
              static_cast<unsigned long long>(bytes.bytes()));
}

// ---- 7 end, 8 release --------------------------------------------------------------------------------------------

void scope_record::move_ended(void* self, const move&, status result) {
  auto* s = static_cast<scope_record*>(self);
  if (result != status::ok) {
    s->failed_.store(static_cast<int>(result));
    // Kernels that would have used the pages must not run.
    if (stream_record* stream = s->request_.stream; stream != nullptr && s->begun_.load() && !s->told_.exchange(true))
      stream->device->api->stream_fail(stream->handle, static_cast<gm_status>(result));
  }
  s->finish_one();
}

void scope_record::end_lease(work_fence fence) {
  vm_.leases.end(lease_, fence);
  // A system call of this thread that met the open scope failed and left its page poisoned; the next one waits instead.
  for (const leased_range& range : request_.ranges) rt_.offenders.heal(range.bytes);
}

void scope_record::work_done(void* self, gm_status) { static_cast<scope_record*>(self)->finish_one(); }

void scope_record::finish_one() {
  const std::uint32_t left = pending_.fetch_sub(1, std::memory_order_acq_rel) - 1;
  if (left == 0) {
    release();
  } else if (left == 1) {
    pending_.notify_all();  // whoever waits may have deleted us by now: only the address is used
  }
}

void scope_record::release() {
  // What it held comes free in two steps, and who looks between them is to wait for the second.
  vm_.own_work.fetch_add(1);
  give_up_lease();
  for (extent* e : extents_)
    if (vm_.extents.drop_reference(*e)) reclaim(vm_, *e);
  vm_.own_work_ended();
  runtime& rt = rt_;
  delete this;
  rt.scopes.fetch_sub(1);
}

status scope_record::end(scope_record* s) {
  stream_record* stream = s->request_.stream;
  if (stream == nullptr) {
    // Moves of a detached one may go on: from here on they are in nobody's way but that of who needs the pages.
    const status result = s->failure();
    s->end_lease({});
    s->finish_one();
    return result;
  }
  const device::backend_table& api = *stream->device->api;
  // The work may be done before the lease is marked: one pending more keeps the scope until it is.
  s->pending_.fetch_add(1, std::memory_order_relaxed);
  device::fence fence;
  status result = device::check_device(api, api.fence_record(stream->handle, work_done, s, &fence), "ending a scope");
  if (result != status::ok) {
    // No fence to be had: wait for the work here, and say how it went.
    result = device::check_device(api, api.stream_synchronize(stream->handle), "work on a stream failed");
    s->pending_.fetch_sub(1, std::memory_order_relaxed);
  }
  s->end_lease({&api, fence});
  stream->open_scopes.fetch_sub(1);
  if (result == status::ok) result = s->failure();
  s->finish_one();
  return result;
}

}  // namespace gm
