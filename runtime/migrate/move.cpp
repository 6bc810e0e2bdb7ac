// SPDX-License-Identifier: Apache-2.0
#include "migrate/move.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/check.h"
#include "base/inject.h"
#include "device/backend_loader.h"
#include "migrate/host_pages.h"
#include "migrate/registrar.h"

namespace gm {
namespace {

// What the callback needs; lives in the pool's record.
struct pooled_move : move {
  move_pool* pool = nullptr;
};

std::uint64_t address_of(const vm_object& vm, block_index index, const block& b, unsigned node, unsigned page) {
  const std::uint64_t in_block = std::uint64_t{page} * page_bytes;
  if (node == host_node) return vm.memory.alias_base() + offset_of(index) + in_block;
  return b.node(node).address + in_block;
}

device::direction direction_between(unsigned source, unsigned destination) {
  if (source == host_node) return device::direction::host_to_device;
  return destination == host_node ? device::direction::device_to_host : device::direction::device_to_device;
}

void plan_copies(const vm_object& vm, block_index index, const block& b, unsigned source, unsigned destination,
                 page_mask pages, planned_copies& plan) {
  for_each_run(pages, [&](unsigned first, unsigned count) {
    plan.copies[plan.copy_count++] = {address_of(vm, index, b, destination, first),
                                      address_of(vm, index, b, source, first), count * page_bytes,
                                      direction_between(source, destination)};
  });
}

// What was copied from where: the sources are valid still, since busy pages do not change.
void count_locked(const move& m, block& b) {
  vm_object& vm = *m.vm;
  page_mask left = m.pages & ~m.filled & ~m.overwritten;
  if (m.follows && m.source == m.destination) return;
  if (vm.registered != nullptr) {
    const bool by_host = m.destination == host_node || (m.follows && m.source == host_node);
    const page_mask host_side = by_host ? left : m.follows ? no_pages : left & b.host().valid;
    if (host_side != no_pages) vm.registered->copied_locked(m.index, b, count_pages(host_side));
  }
  vm.stats.node[m.destination].pages_in.add(count_pages(left));
  if (m.follows || m.destination == host_node) {
    vm.stats.node[m.source].pages_out.add(count_pages(left));
    return;
  }
  for (unsigned n = 0; n < vm.nodes && left != no_pages; ++n) {
    if (n == m.destination || (n != host_node && !vm.device(m.destination).reaches(vm.device(n)))) continue;
    vm.stats.node[n].pages_out.add(count_pages(left & b.node(n).valid));
    left &= ~b.node(n).valid;
  }
}

// The device may no longer write the pages. No kernel of it can be doing so now.
void lose_write_locked(const vm_object& vm, block_index index, block& b, unsigned node, page_mask pages) {
  b.node(node).writable &= ~pages;
  if (const access_map* map = vm.map(node); map != nullptr) map->forget_locked(index, pages & map->at(index).writable);
}

void record_locked(move& m, block& b) {
  vm_object& vm = *m.vm;
  count_locked(m, b);
  // A copy of what a device holds newer than the host is as new.
  page_mask newer = no_pages;
  for (unsigned n = 1; n < vm.nodes; ++n) newer |= b.node(n).dirty & b.node(n).valid;
  node_pages& to = b.node(m.destination);
  to.valid |= m.pages;
  for (unsigned n = 1; n < vm.nodes; ++n) lose_write_locked(vm, m.index, b, n, m.pages);
  if (m.destination == host_node) {
    for (unsigned n = 1; n < vm.nodes; ++n) b.node(n).dirty &= ~m.pages;
  } else {
    to.dirty |= m.pages & ~m.filled & newer;
  }
  make_exclusive_locked(vm, m.index, b, m.destination, m.exclusive);
  b.willneed &= ~m.pages;
}

// A scope that began meanwhile has taken these from the CPU, to overwrite them.
page_mask written_by_scopes_locked(const vm_object& vm, block_index index, const block& b, page_mask pages) {
  page_mask written = no_pages;
  if (b.leases == 0) return written;
  for_each_run(pages, [&](unsigned first, unsigned count) {
    for (unsigned page = first; page < first + count; ++page)
      if (vm.leases.cpu_verdict({first_page(index).value + page}, cpu_access::read, 0) != lease_table::verdict::free)
        written |= one_page(page);
  });
  return written;
}

// Ends the move: recorded when result is ok, as before otherwise.
void finish(move_pool& pool, move* m, status result) {
  vm_object& vm = *m->vm;
  block& b = vm.table.at(m->index);
  {
    block_guard guard(b.lock);
    if (result == status::ok) {
      record_locked(*m, b);
      if (m->shown != no_pages) vm.map(m->destination)->shown_locked(m->index, m->shown, m->exclusive);
    }
    const page_mask idle = unlist_transition_locked(b, *m);
    const page_mask granted = m->grant & idle & b.allocated & ~written_by_scopes_locked(vm, m->index, b, m->grant);
    if (result == status::ok && granted != no_pages) {
      // Not mapping is no loss: the access faults again and gets the error itself.
      (void)grant_cpu_locked(vm, m->index, b, granted, granted & ~valid_elsewhere(b, vm.nodes, host_node));
    }
    // Mapping woke those it mapped. A wake-up too many is a repeated access; one too few would be a hang.
    const page_mask woken = idle & b.parked;
    b.parked &= ~idle;
    for_each_run(woken, [&](unsigned first, unsigned count) { vm.cpu->wake(vm.bytes_of(m->index, first, count)); });
  }
  b.busy.notify_all();
  vm.submissions.happened();
  // What frees give back was waited for as part of the copy.
  if (vm.deferred_frees.load(std::memory_order_acquire) != 0) vm.retry_deferred_frees(vm);
  if (m->own_stream)
    vm.own_work_ended();
  else
    vm.room_changes.happened();
  if (m->done != nullptr) m->done(m->owner, *m, result);
  pool.give_back(m);
  vm.moves_in_flight.fetch_sub(1, std::memory_order_release);
}

void copies_done(void* argument, gm_status result) {
  auto* m = static_cast<pooled_move*>(static_cast<move*>(argument));
  finish(*m->pool, m, static_cast<status>(result));
}

// Asked before a follower's first copy: the moves ahead of it have ended, one way or the other.
gm_status source_is_there(void* argument) {
  const move& m = *static_cast<const move*>(argument);
  block& b = m.vm->table.at(m.index);
  block_guard guard(b.lock);
  return (m.pages & ~m.overwritten & ~b.node(m.source).valid) == 0 ? GM_OK : GM_ERROR_DEVICE;
}

// A follower's copies, from a source that will be valid.
void plan_follower_locked(const vm_object& vm, block_index index, const block& b, const move& m, planned_copies& plan) {
  for_each_newest_locked(b, m.pages, [&](const transition& t) { plan.ahead[plan.ahead_count++] = t.fence; });
  if (m.source != m.destination) plan_copies(vm, index, b, m.source, m.destination, m.pages & ~m.overwritten, plan);
}

// From the host, from peers, or from nowhere.
void plan_to_device_locked(const vm_object& vm, block_index index, block& b, move& m, planned_copies& plan) {
  const page_mask from_host = m.pages & b.host().valid;
  plan_copies(vm, index, b, host_node, m.destination, from_host, plan);
  page_mask left = m.pages & ~from_host;
  for (unsigned n = 1; n < vm.nodes && left != no_pages; ++n) {
    if (n == m.destination || !vm.device(m.destination).reaches(vm.device(n))) continue;
    const page_mask from_peer = left & b.node(n).valid;
    plan_copies(vm, index, b, n, m.destination, from_peer, plan);
    lose_write_locked(vm, index, b, n, from_peer);
    left &= ~from_peer;
  }
  GM_DCHECK((left & valid_anywhere(b, vm.nodes)) == 0);
  m.filled = left;
  for_each_run(left, [&](unsigned first, unsigned count) {
    plan.fills[plan.fill_count++] = {address_of(vm, index, b, m.destination, first), count * page_bytes, 0};
  });
}

void set_copy_stream(move& m, const device_node& device, device::stream* stream) {
  m.api = device.api;
  m.stream = stream;
}

// Others may plan on the move from now on, unless it has ended already and its record is somebody else's.
void publish_fence(vm_object& vm, block& b, const move* m, std::uint64_t serial, device::fence fence) {
  {
    block_guard guard(b.lock);
    for (transition* t = b.transitions; t != nullptr; t = t->older)
      if (t == m && t->serial == serial) t->fence = fence;
  }
  vm.submissions.happened();
}

}  // namespace

void make_exclusive_locked(vm_object& vm, block_index index, block& b, unsigned node, page_mask pages) {
  if (pages == no_pages) return;
  for (unsigned n = 0; n < vm.nodes; ++n) {
    if (n == node) continue;
    node_pages& other = b.node(n);
    const bool had = other.valid != 0;
    if (n != host_node) forget_mappings_locked(vm, n, index, pages);
    other.valid &= ~pages;
    other.writable &= ~pages;
    other.dirty &= ~pages;
    if (n != host_node && had && other.valid == 0) vm.device(n).pool.make_cold(other.frame());
  }
  b.node(node).valid |= pages;
  b.willneed &= ~pages;
  if (node == host_node) return;  // the host may write what is mapped writable: host_pages.h grants that
  b.node(node).writable |= pages;
  b.node(node).dirty |= pages;
}

move_pool::~move_pool() {
  while (free_ != nullptr) {
    move* gone = free_;
    free_ = gone->next;
    delete static_cast<pooled_move*>(gone);
  }
}

status move_pool::create(counter& metadata_bytes) {
  metadata_bytes_ = &metadata_bytes;
  for (unsigned i = 0; i < reserve; ++i) {
    auto* made = new (std::nothrow) pooled_move;
    if (made == nullptr) return fail(status::no_memory, "no memory for move records");
    made->pool = this;
    give_back(made);
    metadata_bytes.add(sizeof(pooled_move));
  }
  return status::ok;
}

move* move_pool::take(bool for_fault) {
  {
    lock_guard guard(lock_);
    if (free_count_ > (for_fault ? 0 : reserve)) {
      move* taken = free_;
      free_ = taken->next;
      --free_count_;
      return taken;
    }
  }
  if (for_fault || inject::fails(inject::point::record_memory)) return nullptr;
  auto* made = new (std::nothrow) pooled_move;
  if (made == nullptr) return nullptr;
  made->pool = this;
  metadata_bytes_->add(sizeof(pooled_move));
  return made;
}

void move_pool::give_back(move* m) {
  lock_guard guard(lock_);
  m->next = free_;
  free_ = m;
  ++free_count_;
}

page_mask unreachable_locked(const vm_object& vm, const block& b, unsigned destination, page_mask pages) {
  if (destination == host_node) return no_pages;
  page_mask reached = b.node(host_node).valid;
  page_mask valid = reached;
  for (unsigned n = 1; n < vm.nodes; ++n) {
    if (n == destination) continue;
    valid |= b.node(n).valid;
    if (vm.device(destination).reaches(vm.device(n))) reached |= b.node(n).valid;
  }
  return pages & valid & ~reached;
}

following may_follow_locked(const block& b, page_mask pages, const device::backend_table& api) {
  following result = following::possible;
  for_each_newest_locked(b, pages, [&](const transition& t) {
    if (t.api != &api)
      result = following::impossible;
    else if (t.fence.stream == nullptr && result == following::possible)
      result = following::not_submitted;
  });
  return result;
}

status begin_move_locked(vm_object& vm, block_index index, block& b, const move_request& request, move& m,
                         planned_copies& plan) {
  GM_DCHECK(request.follows || (b.busy.load(std::memory_order_relaxed) & request.pages) == no_pages);
  GM_DCHECK(request.follows || (b.node(request.destination).valid & request.pages) == 0);
  GM_DCHECK((request.stream == nullptr) == (request.api == nullptr) && (!request.follows || request.stream != nullptr));
  m.vm = &vm;
  m.index = index;
  m.destination = request.destination;
  m.source = request.source;
  m.pages = request.pages;
  m.exclusive = request.exclusive & request.pages;
  m.grant = request.grant & request.pages;
  m.overwritten = request.overwritten & m.exclusive;
  m.follows = request.follows;
  m.shown = request.shown & request.pages;
  m.done = request.done;
  m.owner = request.owner;
  m.stream = request.stream;
  m.own_stream = request.stream == nullptr;
  m.api = request.api;
  m.filled = no_pages;
  m.fence = {};
  ++m.serial;
  plan.copy_count = plan.fill_count = plan.ahead_count = 0;

  if (request.destination == host_node) {
    if (const status s = back_host_pages_locked(vm, index, b, request.pages); s != status::ok) return s;
    if (request.follows) {
      plan_follower_locked(vm, index, b, m, plan);
    } else {
      plan_copies(vm, index, b, request.source, host_node, request.pages, plan);
      // The source stops writing before the copy: what is left of its permission is a scope's, and none is in the way.
      for (unsigned n = 1; n < vm.nodes; ++n) lose_write_locked(vm, index, b, n, request.pages);
    }
    if (m.stream == nullptr) set_copy_stream(m, vm.device(request.source), vm.device(request.source).to_host);
  } else {
    const page_mask from_host = request.pages & b.host().valid;
    const page_mask lost_by_cpu = request.keep_cpu_mapping ? from_host & m.exclusive : from_host;
    if (const status s = revoke_cpu_locked(vm, index, b, lost_by_cpu); s != status::ok) return s;
    if (const status s = write_protect_cpu_locked(vm, index, b, from_host); s != status::ok) return s;
    if (request.follows)
      plan_follower_locked(vm, index, b, m, plan);
    else
      plan_to_device_locked(vm, index, b, m, plan);
    if (m.stream == nullptr)
      set_copy_stream(m, vm.device(request.destination), vm.device(request.destination).to_device);
  }
  // Now, and not when the move is recorded: an on-demand scope that begins meanwhile finds what is stale.
  for (unsigned n = 1; n < vm.nodes; ++n)
    if (n != m.destination) forget_mappings_locked(vm, n, index, m.exclusive);
  if (m.shown != no_pages) {
    plan.words->count = 0;
    vm.map(m.destination)->show_locked(index, m.shown, m.exclusive, *plan.words);
  }
  list_transition_locked(b, m);
  if (m.own_stream) vm.own_work.fetch_add(1);
  vm.moves_in_flight.fetch_add(1, std::memory_order_relaxed);
  return status::ok;
}

status submit_move(move_pool& pool, move* m, const planned_copies& plan, device::fence* fence) {
  // The record may be gone as soon as the backend has it.
  vm_object& vm = *m->vm;
  block& b = vm.table.at(m->index);
  const std::uint64_t serial = m->serial;
  // None follows a move behind which kernels find the pages: it would take them away unseen.
  const bool may_be_followed = m->shown == no_pages;
  const device::backend_table& api = *m->api;
  gm_status result = GM_OK;
  for (std::size_t i = 0; i < plan.ahead_count && result == GM_OK; ++i)
    result = api.stream_wait(m->stream, plan.ahead[i]);
  device::fence completion;
  if (result == GM_OK && m->shown != no_pages)
    result = api.transfer_and_write(m->stream, plan.fills, plan.fill_count, plan.copies, plan.copy_count,
                                    plan.words->words, plan.words->count, copies_done, m, &completion);
  else if (result == GM_OK)
    result = api.transfer_if(m->stream, m->follows ? source_is_there : nullptr, plan.fills, plan.fill_count,
                             plan.copies, plan.copy_count, copies_done, m, &completion);
  if (result != GM_OK) {
    const status s = device::check_device(api, result, "copying pages");
    finish(pool, m, s);
    return s;
  }
  if (may_be_followed) publish_fence(vm, b, m, serial, completion);
  if (fence != nullptr) *fence = completion;
  return status::ok;
}

void add_fence(std::vector<device::fence>& list, device::fence fence) {
  for (device::fence& last : list)
    if (last.stream == fence.stream) {
      last.position = std::max(last.position, fence.position);
      return;
    }
  list.push_back(fence);
}

// ---- Moves that copy nothing ----

status owning_moves::begin_locked(block_index index, block& b, const move_request& request) {
  GM_DCHECK(request.follows && request.source == request.destination);
  begun_.reserve(begun_.size() + 1);
  ahead_.reserve(ahead_.size() + pages_per_block);
  move* m = pool_.take(false);
  if (m == nullptr) return fail(status::no_memory, "no memory to record a move");
  copy_plan plan;
  if (const status s = begin_move_locked(vm_, index, b, request, *m, plan); s != status::ok) {
    pool_.give_back(m);
    return s;
  }
  m->next = first_;
  first_ = m;
  begun_.push_back({&b, m, m->serial});
  for (std::size_t i = 0; i < plan.ahead_count; ++i) add_fence(ahead_, plan.ahead[i]);
  return status::ok;
}

owning_moves::~owning_moves() {
  if (first_ != nullptr) done(first_, GM_ERROR_NO_MEMORY);
}

gm_status owning_moves::ready(void* first) {
  for (move* m = static_cast<move*>(first); m != nullptr; m = m->next)
    if (const gm_status s = source_is_there(m); s != GM_OK) return s;
  return GM_OK;
}

void owning_moves::done(void* first, gm_status result) {
  for (auto* m = static_cast<move*>(first); m != nullptr;) {
    move* next = m->next;
    copies_done(m, result);
    m = next;
  }
}

status owning_moves::submit() {
  if (first_ == nullptr) return status::ok;
  const device::backend_table& api = *first_->api;
  device::stream* stream = first_->stream;
  move* first = std::exchange(first_, nullptr);
  gm_status result = GM_OK;
  for (std::size_t i = 0; i < ahead_.size() && result == GM_OK; ++i) result = api.stream_wait(stream, ahead_[i]);
  device::fence completion;
  if (result == GM_OK) result = api.transfer_if(stream, ready, nullptr, 0, nullptr, 0, done, first, &completion);
  if (result != GM_OK) {
    const status s = device::check_device(api, result, "changing the owner of pages");
    done(first, result);
    return s;
  }
  for (const begun& each : begun_) publish_fence(vm_, *each.at, each.record, each.serial, completion);
  return status::ok;
}

}  // namespace gm
