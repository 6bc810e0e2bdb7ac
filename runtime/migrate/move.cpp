// SPDX-License-Identifier: Apache-2.0
#include "migrate/move.h"

#include <new>

#include "base/check.h"
#include "base/inject.h"
#include "device/backend_loader.h"
#include "migrate/host_pages.h"

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
                 page_mask pages, copy_plan& plan) {
  for_each_run(pages, [&](unsigned first, unsigned count) {
    plan.copies[plan.copy_count++] = {address_of(vm, index, b, destination, first),
                                      address_of(vm, index, b, source, first), count * page_bytes,
                                      direction_between(source, destination)};
  });
}

// What was copied from where: the sources are valid still, since busy pages do not change.
void count_locked(const move& m, const block& b) {
  vm_object& vm = *m.vm;
  page_mask left = m.pages & ~m.filled;
  vm.stats.node[m.destination].pages_in.add(count_pages(left));
  if (m.destination == host_node) {
    vm.stats.node[m.source].pages_out.add(count_pages(left));
    return;
  }
  for (unsigned n = 0; n < vm.nodes && left != no_pages; ++n) {
    if (n == m.destination || (n != host_node && !vm.device(m.destination).reaches(vm.device(n)))) continue;
    vm.stats.node[n].pages_out.add(count_pages(left & b.node(n).valid));
    left &= ~b.node(n).valid;
  }
}

void record_locked(move& m, block& b) {
  vm_object& vm = *m.vm;
  count_locked(m, b);
  node_pages& to = b.node(m.destination);
  to.valid |= m.pages;
  if (m.destination == host_node) {
    for (unsigned n = 1; n < vm.nodes; ++n) b.node(n).dirty &= ~m.pages;
  } else {
    to.dirty |= m.inherited;
  }
  make_exclusive_locked(vm, b, m.destination, m.exclusive);
  b.willneed &= ~m.pages;
}

// Ends the move: recorded when result is ok, as before otherwise.
void finish(move_pool& pool, move* m, status result) {
  vm_object& vm = *m->vm;
  block& b = vm.table.at(m->index);
  {
    block_guard guard(b.lock);
    if (result == status::ok) record_locked(*m, b);
    b.busy.fetch_and(~m->pages, std::memory_order_release);
    if (result == status::ok && m->grant != no_pages) {
      const page_mask alone = m->grant & ~valid_elsewhere(b, vm.nodes, host_node);
      // Not mapping is no loss: the access faults again and gets the error itself.
      (void)grant_cpu_locked(vm, m->index, b, m->grant & b.allocated, alone);
    }
    // Mapping woke those it mapped. A wake-up too many is a repeated access; one too few would be a hang.
    const page_mask woken = m->pages & b.parked;
    b.parked &= ~m->pages;
    for_each_run(woken, [&](unsigned first, unsigned count) { vm.cpu->wake(vm.bytes_of(m->index, first, count)); });
  }
  b.busy.notify_all();
  vm.room_changes.happened();
  if (m->done != nullptr) m->done(m->owner, *m, result);
  pool.give_back(m);
  if (vm.deferred_frees.load(std::memory_order_acquire) != 0) vm.retry_deferred_frees(vm);
  vm.moves_in_flight.fetch_sub(1, std::memory_order_release);
}

void copies_done(void* argument, gm_status result) {
  auto* m = static_cast<pooled_move*>(static_cast<move*>(argument));
  finish(*m->pool, m, static_cast<status>(result));
}

}  // namespace

void make_exclusive_locked(vm_object& vm, block& b, unsigned node, page_mask pages) {
  if (pages == no_pages) return;
  for (unsigned n = 0; n < vm.nodes; ++n) {
    if (n == node) continue;
    node_pages& other = b.node(n);
    const bool had = other.valid != 0;
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

status begin_move_locked(vm_object& vm, block_index index, block& b, const move_request& request, move& m,
                         copy_plan& plan) {
  GM_DCHECK((b.busy.load(std::memory_order_relaxed) & request.pages) == 0);
  GM_DCHECK((b.node(request.destination).valid & request.pages) == 0);
  m.vm = &vm;
  m.index = index;
  m.destination = request.destination;
  m.source = request.source;
  m.pages = request.pages;
  m.exclusive = request.exclusive & request.pages;
  m.grant = request.grant & request.pages;
  m.done = request.done;
  m.owner = request.owner;
  m.stream = request.stream;
  m.filled = m.inherited = no_pages;
  m.fence = {};
  plan.copy_count = plan.fill_count = 0;

  if (request.destination == host_node) {
    if (const status s = back_host_pages_locked(vm, index, b, request.pages); s != status::ok) return s;
    plan_copies(vm, index, b, request.source, host_node, request.pages, plan);
    if (m.stream == nullptr) m.stream = vm.device(request.source).to_host;
    // The source stops writing before the copy: what is left of its permission is a scope's, and none is in the way.
    for (unsigned n = 1; n < vm.nodes; ++n) b.node(n).writable &= ~request.pages;
  } else {
    const page_mask from_host = request.pages & b.host().valid;
    const page_mask lost_by_cpu = request.keep_cpu_mapping ? from_host & m.exclusive : from_host;
    if (const status s = revoke_cpu_locked(vm, index, b, lost_by_cpu); s != status::ok) return s;
    if (const status s = write_protect_cpu_locked(vm, index, b, from_host); s != status::ok) return s;
    plan_copies(vm, index, b, host_node, request.destination, from_host, plan);
    page_mask left = request.pages & ~from_host;
    for (unsigned n = 1; n < vm.nodes && left != no_pages; ++n) {
      if (n == request.destination || !vm.device(request.destination).reaches(vm.device(n))) continue;
      const page_mask from_peer = left & b.node(n).valid;
      plan_copies(vm, index, b, n, request.destination, from_peer, plan);
      m.inherited |= from_peer & b.node(n).dirty;
      b.node(n).writable &= ~from_peer;
      left &= ~from_peer;
    }
    GM_DCHECK((left & valid_anywhere(b, vm.nodes)) == 0);
    m.filled = left;
    for_each_run(left, [&](unsigned first, unsigned count) {
      plan.fills[plan.fill_count++] = {address_of(vm, index, b, request.destination, first), count * page_bytes, 0};
    });
    if (m.stream == nullptr) m.stream = vm.device(request.destination).to_device;
  }
  b.busy.fetch_or(request.pages, std::memory_order_relaxed);
  vm.moves_in_flight.fetch_add(1, std::memory_order_relaxed);
  return status::ok;
}

status submit_move(move_pool& pool, move* m, const copy_plan& plan, device::fence* fence) {
  vm_object& vm = *m->vm;
  const device_node& device = vm.device(m->destination != host_node ? m->destination : m->source);
  // The record may be gone as soon as the backend has it.
  device::fence completion;
  const gm_status result = device.api->transfer(m->stream, plan.fills, plan.fill_count, plan.copies, plan.copy_count,
                                                copies_done, static_cast<move*>(m), &completion);
  if (result != GM_OK) {
    const status s = device::check_device(*device.api, result, "copying pages");
    finish(pool, m, s);
    return s;
  }
  if (fence != nullptr) *fence = completion;
  return status::ok;
}

}  // namespace gm
