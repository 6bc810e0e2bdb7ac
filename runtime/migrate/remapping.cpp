// SPDX-License-Identifier: Apache-2.0
#include "migrate/remapping.h"

#include "base/check.h"
#include "device/backend_loader.h"
#include "migrate/host_pages.h"
#include "platform/clock.h"

namespace gm {
namespace {

constexpr unsigned failures_max = 3;

remapping* begin_locked(vm_object& vm, access_map& map, block_index index, block& b, page_mask pages) {
  GM_DCHECK((b.busy.load(std::memory_order_relaxed) & pages) == no_pages);
  remapping* r = map.take_remapping();
  if (r == nullptr) return nullptr;
  r->map = &map;
  r->vm = &vm;
  r->index = index;
  r->destination = map.device().node;
  r->pages = pages;
  r->exclusive = no_pages;
  r->api = map.device().api;
  r->fence = {};
  r->failures = 0;
  r->plan.count = 0;
  list_transition_locked(b, *r);
  vm.own_work.fetch_add(1);
  vm.moves_in_flight.fetch_add(1, std::memory_order_relaxed);
  return r;
}

// The CPU gets the pages that kernels have lost. Returns a move to be submitted, if one is needed.
move* give_to_cpu_locked(remapping& r, block& b, planned_copies& plan) {
  vm_object& vm = *r.vm;
  const page_mask pages = r.pages & b.allocated;
  const page_mask here = pages & b.host().valid;
  const bool writes = r.wish == cpu_wish::write;
  if (here != no_pages) {
    if (writes) make_exclusive_locked(vm, r.index, b, host_node, here);
    (void)grant_cpu_locked(vm, r.index, b, here, here & ~valid_elsewhere(b, vm.nodes, host_node));
  }
  for (unsigned n = 1; n < vm.nodes; ++n) {
    const page_mask from = pages & ~here & b.node(n).valid;
    if (from == no_pages) continue;
    move* m = r.moves->take(true);
    if (m == nullptr) return nullptr;
    const move_request request{
        .destination = host_node, .source = n, .pages = from, .exclusive = writes ? from : no_pages, .grant = from};
    if (begin_move_locked(vm, r.index, b, request, *m, plan) == status::ok) return m;
    r.moves->give_back(m);  // without host memory: the access is repeated, and finds some or an error
    return nullptr;
  }
  return nullptr;
}

// The next device whose kernels hold what the CPU wants, from whom it is taken as well.
remapping* go_on_locked(remapping& r, block& b) {
  for (unsigned n = 1; n < r.vm->nodes; ++n) {
    access_map* map = r.vm->map(n);
    if (map == nullptr) continue;
    const page_mask reached = r.wish == cpu_wish::write ? r.pages : r.pages & map->at(r.index).writable;
    const page_mask held = map->held_locked(r.index, reached);
    if (held != no_pages)
      return begin_taking_locked(*r.vm, *map, *r.moves, r.index, b,
                                 {.pages = held, .wish = r.wish, .done = nullptr, .owner = nullptr});
  }
  return nullptr;
}

enum class ending : std::uint8_t { shown, gone, failed };

void finish(remapping* r, ending how) {
  vm_object& vm = *r->vm;
  block& b = vm.table.at(r->index);
  remapping* next = nullptr;
  move* homeward = nullptr;
  move_pool* moves = r->moves;
  homeward_copy_plan copies;
  {
    block_guard guard(b.lock);
    access_map::block_entries& entries = r->map->at(r->index);
    if (how == ending::shown) r->map->shown_locked(r->index, r->pages, r->writable);
    const page_mask idle = unlist_transition_locked(b, *r);
    if (how == ending::gone && r->wish != cpu_wish::none) {
      entries.hold_until_ns = now_ns() + hold_ns;
      next = go_on_locked(*r, b);
      if (next == nullptr) homeward = give_to_cpu_locked(*r, b, copies);
    }
    const page_mask still = b.busy.load(std::memory_order_relaxed);
    const page_mask woken = idle & ~still & b.parked;
    b.parked &= ~woken;
    for_each_run(woken, [&](unsigned first, unsigned count) { vm.cpu->wake(vm.bytes_of(r->index, first, count)); });
  }
  b.busy.notify_all();
  if (next != nullptr) (void)submit_remapping(next);
  if (homeward != nullptr) (void)submit_move(*moves, homeward, copies, nullptr);
  vm.submissions.happened();
  if (vm.deferred_frees.load(std::memory_order_acquire) != 0) vm.retry_deferred_frees(vm);
  vm.own_work_ended();
  if (r->takes && r->done != nullptr) r->done(r->owner, how == ending::gone);
  if (!r->takes && how == ending::failed && r->failed != nullptr) r->failed(r->owner, *r, status::device);
  r->map->give_back(r);
  vm.moves_in_flight.fetch_sub(1, std::memory_order_release);
}

status write_words(remapping& r, device::callback done) {
  const device::backend_table& api = *r.api;
  return device::check_device(api,
                              api.transfer_and_write(r.map->device().to_map, nullptr, 0, nullptr, 0, r.plan.words,
                                                     r.plan.count, done, &r, nullptr),
                              "writing an access map");
}

void words_written(void* argument, gm_status result) {
  auto* r = static_cast<remapping*>(argument);
  finish(r, result == GM_OK ? ending::shown : ending::failed);
}

// Kernels find the pages again. A refusal leaves them hidden, which is allowed: they are asked for again.
void put_back(remapping* r) {
  {
    block& b = r->vm->table.at(r->index);
    block_guard guard(b.lock);
    r->plan.count = 0;
    r->map->show_locked(r->index, r->pages, r->writable, r->plan);
  }
  if (write_words(*r, words_written) != status::ok) finish(r, ending::failed);
}

status read_pins(remapping& r);

void pins_read(void* argument, gm_status result) {
  auto* r = static_cast<remapping*>(argument);
  bool held = false;
  if (result == GM_OK) {
    r->failures = 0;
    for (unsigned page = 0; page < pages_per_block; ++page)
      held = held || ((r->pages & one_page(page)) != 0 && r->pins[page] != 0);
  } else {
    held = ++r->failures < failures_max;
  }
  if (!held) {
    finish(r, ending::gone);
  } else if (now_ns() > r->give_up_at_ns || read_pins(*r) != status::ok) {
    put_back(r);
  }
}

status read_pins(remapping& r) {
  const device::backend_table& api = *r.api;
  const device::copy_run run{reinterpret_cast<std::uint64_t>(r.pins), r.map->pins_address(r.index),
                             pages_per_block * sizeof(std::uint32_t), device::direction::device_to_host};
  return device::check_device(api, api.transfer(r.map->device().to_map, nullptr, 0, &run, 1, pins_read, &r, nullptr),
                              "reading an access map");
}

}  // namespace

remapping* begin_showing_locked(vm_object& vm, access_map& map, block_index index, block& b,
                                const showing_request& request) {
  remapping* r = begin_locked(vm, map, index, b, request.pages);
  if (r == nullptr) return nullptr;
  r->takes = false;
  r->writable = request.writable;
  r->wish = cpu_wish::none;
  r->failed = request.failed;
  r->owner = request.owner;
  map.show_locked(index, request.pages, request.writable, r->plan);
  return r;
}

remapping* begin_taking_locked(vm_object& vm, access_map& map, move_pool& moves, block_index index, block& b,
                               const taking_request& request) {
  remapping* r = begin_locked(vm, map, index, b, request.pages);
  if (r == nullptr) return nullptr;
  access_map::block_entries& entries = map.at(index);
  r->takes = true;
  r->moves = &moves;
  r->writable = entries.writable & request.pages;
  r->wish = request.wish;
  r->done = request.done;
  r->owner = request.owner;
  r->give_up_at_ns = now_ns() + patience_ns;
  map.hide_locked(index, request.pages, r->plan);
  entries.present &= ~request.pages;
  entries.writable &= ~request.pages;
  return r;
}

status submit_remapping(remapping* r) {
  if (!r->takes) {
    const status s = write_words(*r, words_written);
    if (s != status::ok) finish(r, ending::failed);
    return s;
  }
  status s = write_words(*r, nullptr);
  if (s == status::ok) {
    s = read_pins(*r);
    if (s != status::ok) put_back(r);
    return s;
  }
  // Kernels never lost the pages.
  {
    block& b = r->vm->table.at(r->index);
    block_guard guard(b.lock);
    access_map::block_entries& entries = r->map->at(r->index);
    entries.present |= r->pages;
    entries.writable |= r->writable;
  }
  finish(r, ending::failed);
  return s;
}

}  // namespace gm
