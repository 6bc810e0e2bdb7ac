// SPDX-License-Identifier: Apache-2.0
#include "evict/reclaim.h"

#include <new>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "evict/room.h"
#include "migrate/host_pages.h"

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

bool anything_busy(vm_object& vm, const extent& e) {
  for (std::uint64_t i = 0; i < e.blocks(); ++i) {
    const block_index index{e.first_block().value + i};
    block& b = vm.table.at(index);
    block_guard guard(b.lock);
    if ((b.busy.load(std::memory_order_relaxed) & pages_touched(e.bytes(), index)) != 0) return true;
  }
  return false;
}

// The table forgets the pages. The memfd has lost them already.
void forget_pages(vm_object& vm, const extent& e, block_index index) {
  block& b = vm.table.at(index);
  const page_mask pages = pages_touched(e.bytes(), index);
  block_guard guard(b.lock);
  vm.host.uncharge(count_pages(b.backed & pages));
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
  if (anything_busy(vm, e)) return false;
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

std::uint64_t reclaim_host_pages(vm_object& vm, std::uint64_t wanted) {
  std::uint64_t freed = 0;
  for (const bool also_copies : {false, true}) {
    for (block_index index; index.value < vm.table.blocks() && freed < wanted; ++index) {
      block* b = vm.table.find(index);
      if (b == nullptr) {
        index.value += page_table::blocks_per_chunk - 1 - index.value % page_table::blocks_per_chunk;
        continue;
      }
      block_guard guard(b->lock);
      if (b->host().leases != 0) continue;
      page_mask pages = b->backed & ~b->host().pinned & ~b->busy.load(std::memory_order_relaxed);
      pages &= also_copies ? valid_elsewhere(*b, vm.nodes, host_node) : ~b->host().valid;
      if (pages == no_pages) continue;
      const page_mask were_valid = pages & b->host().valid;
      const unsigned before = count_pages(b->backed);
      if (drop_host_pages_locked(vm, index, *b, pages) != status::ok) continue;
      freed += before - count_pages(b->backed);
      // A device's copy of them is now newer than what the host has, which is nothing.
      page_mask orphans = were_valid & ~b->backed;
      for (unsigned n = 1; n < vm.nodes; ++n) {
        b->node(n).dirty |= orphans & b->node(n).valid;
        orphans &= ~b->node(n).valid;
      }
    }
    if (freed >= wanted) break;
  }
  return freed;
}

}  // namespace gm
