// SPDX-License-Identifier: Apache-2.0
#include "evict/reclaim.h"

#include <new>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "evict/room.h"
#include "migrate/host_pages.h"
#include "migrate/registrar.h"

namespace gm {
namespace {

struct deferred {
  mutex<lock_rank::deferred> lock;
  std::vector<std::pair<vm_object*, extent*>> frees;
};
deferred& put_aside() {
  static deferred& only = *new deferred;  // never destroyed: threads may outlive static objects
  return only;
}

// Copies are in flight, or host memory is registered; of that, what is not in use is on its way to being loose. It
// becomes so in the order in which it was retired: the block that is looked at first is retired last, so that a try
// before its time ends with the first look.
bool anything_held(vm_object& vm, const extent& e) {
  const auto index_of = [&](std::uint64_t i) { return block_index{e.first_block().value + i}; };
  bool any_registered = false;
  for (std::uint64_t i = 0; i < e.blocks(); ++i) {
    block& b = vm.table.at(index_of(i));
    block_guard guard(b.lock);
    if ((b.busy.load(std::memory_order_relaxed) & pages_touched(e.bytes(), index_of(i))) != 0) return true;
    if (b.host_memory == registration::registering || b.host_memory == registration::unregistering) return true;
    any_registered |= b.host_memory == registration::registered;
  }
  if (!any_registered) return false;
  for (std::uint64_t i = e.blocks(); i-- > 0;) {
    block& b = vm.table.at(index_of(i));
    block_guard guard(b.lock);
    (void)host_memory_is_loose_locked(vm, index_of(i), b);
  }
  return true;
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

bool try_reclaim(vm_object& vm, extent& e) {
  if (anything_held(vm, e)) return false;
  // Nothing starts on these pages any more: they are not allocated, and nobody refers to them.
  if (vm.memory.punch(e.bytes()) != status::ok) {
    log_line(log_level::warn, "freed memory is not given back yet: %s", last_error());
    return false;
  }
  for (std::uint64_t i = 0; i < e.blocks(); ++i) forget_pages(vm, e, {e.first_block().value + i});
  release_frames(vm, e);
  vm.advices.clear({e.first, {e.first.value + e.pages}});
  vm.extents.release(e);
  return true;
}

}  // namespace

void reclaim(vm_object& vm, extent& e) {
  if (!try_reclaim(vm, e)) {
    deferred& aside = put_aside();
    try {
      lock_guard guard(aside.lock);
      // Room for those that a retry has off the list at the moment too: putting back never allocates.
      aside.frees.reserve(vm.deferred_frees.load(std::memory_order_relaxed) + 1);
      aside.frees.emplace_back(&vm, &e);
      vm.deferred_frees.fetch_add(1, std::memory_order_release);
    } catch (const std::bad_alloc&) {
      log_line(log_level::warn, "no memory to remember a free: its addresses are lost");
      return;
    }
    // What was busy may have ended before it was put aside.
    retry_deferred_frees(vm);
    return;
  }
  if (vm.deferred_frees.load(std::memory_order_acquire) != 0) retry_deferred_frees(vm);
}

namespace {

// Each free that was put aside once. True if some had to go back.
bool retry_each_once(vm_object& vm) {
  deferred& aside = put_aside();
  bool some_left = false;
  for (std::uint64_t left = vm.deferred_frees.load(std::memory_order_acquire); left > 0; --left) {
    extent* e = nullptr;
    {
      lock_guard guard(aside.lock);
      for (auto it = aside.frees.begin(); it != aside.frees.end(); ++it)
        if (it->first == &vm) {
          e = it->second;
          aside.frees.erase(it);
          break;
        }
    }
    if (e == nullptr) break;
    if (try_reclaim(vm, *e)) {
      vm.deferred_frees.fetch_sub(1, std::memory_order_release);
    } else {
      some_left = true;
      lock_guard guard(aside.lock);
      aside.frees.emplace_back(&vm, e);
    }
  }
  return some_left;
}

}  // namespace

void retry_deferred_frees(vm_object& vm) {
  // A move that ends while its extent is off the list finds nothing to retry: we do it in its place.
  for (;;) {
    const std::uint32_t seen = vm.room_changes.now();
    if (!retry_each_once(vm) || vm.room_changes.now() == seen) return;
  }
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
  std::uint64_t pages;
  bool also_copies;
  bool registered;  // of blocks whose host memory is registered, and of no others: which only makes it loose
  unsigned evicting;
};

// Returns the pages given back.
unsigned reclaim_block(vm_object& vm, block_index index, block& b, std::uint64_t wanted, const reclaim_wish& wish) {
  block_guard guard(b.lock);
  if ((b.host_memory != registration::none) != wish.registered) return 0;
  page_mask pages = b.backed & ~b.host().pinned & ~b.busy.load(std::memory_order_relaxed);
  pages &= wish.also_copies ? spare_copies(vm, b, wish.evicting) : ~b.host().valid;
  pages &= ~leased_by_host(vm, index, b, pages);
  while (count_pages(pages) > wanted) pages &= pages - 1;
  if (pages == no_pages) return 0;
  if (!host_memory_is_loose_locked(vm, index, b)) return 0;
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

// Goes through blocks [index, end) until enough has been given back; index becomes the one to go on with.
std::uint64_t reclaim_blocks(vm_object& vm, block_index& index, std::uint64_t end, const reclaim_wish& wish) {
  std::uint64_t freed = 0;
  for (; index.value < end && freed < wish.pages; ++index) {
    if (wish.registered && vm.registered->is_unregistering()) break;
    block* b = vm.table.find(index);
    if (b != nullptr)
      freed += reclaim_block(vm, index, *b, wish.pages - freed, wish);
    else
      index.value += page_table::blocks_per_chunk - 1 - index.value % page_table::blocks_per_chunk;
  }
  return freed;
}

}  // namespace

std::uint64_t reclaim_host_pages(vm_object& vm, std::uint64_t wanted, unsigned evicting) {
  std::uint64_t freed = 0;
  const std::uint64_t blocks = vm.table.blocks();
  const auto go_round = [&](bool also_copies, bool registered) {
    const std::uint64_t start = vm.reclaim_hand.load(std::memory_order_relaxed) % blocks;
    block_index hand{start};
    freed += reclaim_blocks(vm, hand, blocks, {wanted - freed, also_copies, registered, evicting});
    if (freed < wanted) {
      hand = {0};
      freed += reclaim_blocks(vm, hand, start, {wanted - freed, also_copies, registered, evicting});
    }
    vm.reclaim_hand.store(hand.value, std::memory_order_relaxed);
  };
  for (const bool also_copies : {false, true})
    if (freed < wanted) go_round(also_copies, false);
  // Last what is registered, which comes later: a block at a time, so that no more is unregistered than has to be.
  if (vm.registered == nullptr || vm.registered->registered_bytes() == 0) return freed;
  for (const bool also_copies : {false, true})
    if (freed < wanted) go_round(also_copies, true);
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
