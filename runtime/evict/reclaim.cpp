// SPDX-License-Identifier: Apache-2.0
#include "evict/reclaim.h"

#include "base/log.h"
#include "evict/room.h"
#include "migrate/access_map.h"
#include "migrate/host_pages.h"
#include "migrate/registrar.h"

namespace gm {
namespace {

// What a free has to wait for.
enum class held_by : std::uint8_t { nothing, copies, registrar };

// What is registered and not in use is on its way to being loose when this returns. It becomes so in the order in which
// it was retired: the block that is looked at first is retired last, so that a try before its time ends with the first
// look.
held_by what_holds(vm_object& vm, const extent& e) {
  const auto index_of = [&](std::uint64_t i) { return block_index{e.first_block().value + i}; };
  bool any_registered = false;
  for (std::uint64_t i = 0; i < e.blocks(); ++i) {
    block& b = vm.table.at(index_of(i));
    block_guard guard(b.lock);
    if ((b.busy.load(std::memory_order_relaxed) & pages_touched(e.bytes(), index_of(i))) != 0) return held_by::copies;
    if (b.host_memory == registration::registering || b.host_memory == registration::unregistering)
      return held_by::registrar;
    any_registered |= b.host_memory == registration::registered;
  }
  if (!any_registered) return held_by::nothing;
  // A block that stays registered has copies of its neighbours' in flight.
  held_by result = held_by::registrar;
  for (std::uint64_t i = e.blocks(); i-- > 0;) {
    block& b = vm.table.at(index_of(i));
    block_guard guard(b.lock);
    (void)host_memory_is_loose_locked(vm, index_of(i), b);
    if (b.host_memory == registration::registered) result = held_by::copies;
  }
  return result;
}

// The table forgets the pages. The memfd has lost them already.
void forget_pages(vm_object& vm, const extent& e, block_index index) {
  block& b = vm.table.at(index);
  const page_mask pages = pages_touched(e.bytes(), index);
  block_guard guard(b.lock);
  const unsigned given_back = count_pages(b.backed & pages);
  b.backed &= ~pages;
  b.readable &= ~pages;
  b.willneed &= ~pages;
  b.parked &= ~pages;
  for (unsigned n = 0; n < vm.nodes; ++n) {
    node_pages& node = b.node(n);
    if (n != host_node) forget_mappings_locked(vm, n, index, pages);
    node.valid &= ~pages;
    node.writable &= ~pages;
    node.dirty &= ~pages;
    node.pinned &= ~pages;
  }
  vm.uncharge_host(given_back);
}

void release_frames(vm_object& vm, const extent& e) {
  for (unsigned n = 1; n < vm.nodes; ++n) {
    device_node& device = vm.device(n);
    if (e.whole_blocks() && !device.windowed()) {
      release_piece(vm, device, piece_for(device, e, e.first_block()));
      continue;
    }
    for (std::uint64_t i = 0; i < e.blocks(); ++i) release_unused_frame(vm, device, {e.first_block().value + i});
  }
}

// Anything but nothing: it has not been done, and can be tried again.
held_by try_reclaim(vm_object& vm, extent& e) {
  if (const held_by holder = what_holds(vm, e); holder != held_by::nothing) return holder;
  // Nothing starts on these pages any more: they are not allocated, and nobody refers to them.
  if (vm.memory.punch(e.bytes()) != status::ok) {
    log_line(log_level::warn, "freed memory is not given back yet: %s", last_error());
    return held_by::copies;
  }
  for (std::uint64_t i = 0; i < e.blocks(); ++i) forget_pages(vm, e, {e.first_block().value + i});
  release_frames(vm, e);
  vm.advices.clear({e.first, {e.first.value + e.pages}});
  vm.extents.release(e);
  return held_by::nothing;
}

// With whoever will try it again.
void put_aside(vm_object& vm, extent& e, held_by holder) {
  if (holder == held_by::registrar) {
    vm.registered->free_later(e);
    return;
  }
  lock_guard guard(vm.deferred_lock);
  vm.deferred.push_back(e);
}

extent* next_deferred(vm_object& vm) {
  lock_guard guard(vm.deferred_lock);
  return vm.deferred.pop_front();
}

// Each free that waits for copies once.
void retry_each_once(vm_object& vm) {
  extent_queue again;
  while (extent* e = next_deferred(vm)) {
    const held_by holder = try_reclaim(vm, *e);
    if (holder == held_by::nothing)
      vm.deferred_frees.fetch_sub(1, std::memory_order_release);
    else if (holder == held_by::registrar)
      put_aside(vm, *e, holder);
    else
      again.push_back(*e);
  }
  while (extent* e = again.pop_front()) put_aside(vm, *e, held_by::copies);
}

}  // namespace

void reclaim(vm_object& vm, extent& e) {
  const held_by holder = try_reclaim(vm, e);
  if (holder == held_by::nothing) {
    if (vm.deferred_frees.load(std::memory_order_acquire) != 0) retry_deferred_frees(vm);
    return;
  }
  vm.deferred_frees.fetch_add(1, std::memory_order_release);
  put_aside(vm, e, holder);
  // What was busy may have ended before it was put aside.
  if (holder == held_by::copies) retry_deferred_frees(vm);
}

bool retry_free(vm_object& vm, extent& e) {
  const held_by holder = try_reclaim(vm, e);
  if (holder == held_by::registrar) return false;
  if (holder == held_by::nothing) {
    vm.deferred_frees.fetch_sub(1, std::memory_order_release);
  } else {
    put_aside(vm, e, holder);
    retry_deferred_frees(vm);
  }
  return true;
}

// One thread at a time. A move that ends while an extent is off the queue finds nothing to try: who has it tries again,
// and counts as work that ends until there is no reason left.
void retry_deferred_frees(vm_object& vm) {
  vm.own_work.fetch_add(1);
  vm.deferred_events.fetch_add(1);
  for (;;) {
    if (vm.deferred_retrying.exchange(true)) break;
    const std::uint32_t seen = vm.deferred_events.load();
    retry_each_once(vm);
    vm.deferred_retrying.store(false);
    if (vm.deferred_events.load() == seen) break;
  }
  vm.own_work_ended();
}

namespace {

// Pages of the block that a scope on the host is using.
page_mask leased_by_host(const vm_object& vm, block_index index, const block& b, page_mask pages) {
  page_mask leased = no_pages;
  if (b.host().leases == 0) return leased;
  for (unsigned page = 0; page < pages_per_block; ++page)
    if ((pages & one_page(page)) != 0 && vm.leases.covers({first_page(index).value + page}, host_node))
      leased |= one_page(page);
  return leased;
}

// Host copies that another node can do without.
page_mask spare_copies(const vm_object& vm, const block& b, unsigned evicting) {
  if (evicting == host_node) return valid_elsewhere(b, vm.nodes, host_node);
  const node_pages& victim = b.node(evicting);
  page_mask elsewhere = no_pages;
  for (unsigned n = 1; n < vm.nodes; ++n)
    if (n != evicting || victim.leases != 0 || victim.pinned != no_pages) elsewhere |= b.node(n).valid;
  return elsewhere;
}

struct reclaim_wish {
  bool also_copies;
  unsigned evicting;
};

page_mask reclaimable_locked(const vm_object& vm, block_index index, const block& b, const reclaim_wish& wish) {
  page_mask pages = b.backed & ~b.host().pinned & ~b.busy.load(std::memory_order_relaxed);
  pages &= wish.also_copies ? spare_copies(vm, b, wish.evicting) : ~b.host().valid;
  return pages & ~leased_by_host(vm, index, b, pages);
}

// Returns the pages given back: of memory that is not registered.
unsigned reclaim_block(vm_object& vm, block_index index, block& b, std::uint64_t wanted, const reclaim_wish& wish) {
  block_guard guard(b.lock);
  if (b.host_memory != registration::none) return 0;
  page_mask pages = reclaimable_locked(vm, index, b, wish);
  while (count_pages(pages) > wanted) pages &= pages - 1;
  if (pages == no_pages) return 0;
  const page_mask were_valid = pages & b.host().valid;
  const unsigned before = count_pages(b.backed);
  if (drop_host_pages_locked(vm, index, b, pages) != status::ok) return 0;
  // A device's copy of them is now newer than what the host has, which is nothing.
  page_mask orphans = were_valid & ~b.backed;
  for (unsigned n = 1; n < vm.nodes; ++n) {
    b.node(n).dirty |= orphans & b.node(n).valid;
    orphans &= ~b.node(n).valid;
  }
  return before - count_pages(b.backed);
}

// Calls each(index, block) for the blocks of the table, from the hand on and round once, until it says stop. The hand
// is left behind that one.
template <typename F>
void go_round(vm_object& vm, F&& each) {
  const std::uint64_t blocks = vm.table.blocks();
  const std::uint64_t start = vm.reclaim_hand.load(std::memory_order_relaxed) % blocks;
  const auto go = [&](std::uint64_t first, std::uint64_t end) {
    for (block_index index{first}; index.value < end; ++index) {
      block* b = vm.table.find(index);
      if (b == nullptr) {
        index.value += page_table::blocks_per_chunk - 1 - index.value % page_table::blocks_per_chunk;
      } else if (!each(index, *b)) {
        vm.reclaim_hand.store(index.value + 1, std::memory_order_relaxed);
        return true;
      }
    }
    return false;
  };
  if (!go(start, blocks)) (void)go(0, start);
}

// Host memory that is registered has to be made loose first, a block at a time, so that no more is than has to be.
void make_one_loose(vm_object& vm, unsigned evicting) {
  if (vm.registered == nullptr || vm.registered->registered_bytes() == 0) return;
  for (const bool also_copies : {false, true}) {
    bool done = vm.registered->is_unregistering();
    if (!done)
      go_round(vm, [&](block_index index, block& b) {
        block_guard guard(b.lock);
        done = b.host_memory == registration::registered &&
               reclaimable_locked(vm, index, b, {also_copies, evicting}) != no_pages &&
               vm.registered->retire_locked(index, b);
        return !done;
      });
    if (done) return;
  }
}

}  // namespace

std::uint64_t reclaim_host_pages(vm_object& vm, std::uint64_t wanted, unsigned evicting) {
  std::uint64_t freed = 0;
  for (const bool also_copies : {false, true}) {
    if (freed >= wanted) break;
    go_round(vm, [&](block_index index, block& b) {
      freed += reclaim_block(vm, index, b, wanted - freed, {also_copies, evicting});
      return freed < wanted;
    });
  }
  if (freed < wanted) make_one_loose(vm, evicting);
  return freed;
}

bool host_memory_is_coming(const vm_object& vm, bool beside_streams) {
  if (vm.own_work.load() != 0) return true;
  bool coming = false;
  if (beside_streams)
    vm.leases.for_each([&](const lease& l) {
      coming = coming || (l.node == host_node && (l.state != lease_state::ended || l.fence.api == nullptr));
    });
  return coming;
}

}  // namespace gm
