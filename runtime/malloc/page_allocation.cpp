// SPDX-License-Identifier: Apache-2.0
#include "malloc/page_allocation.h"

#include "evict/reclaim.h"
#include "fault/condemned.h"

namespace gm {
namespace {

// Sets or clears the allocated bit of the extent's pages. Clearing wakes whoever is parked there, to be told.
void mark_pages(vm_object& vm, const extent& e, bool allocated) {
  for (std::uint64_t i = 0; i < e.blocks(); ++i) {
    const block_index index{e.first_block().value + i};
    block& b = vm.table.at(index);
    const page_mask pages = pages_touched(e.bytes(), index);
    block_guard guard(b.lock);
    if (allocated) {
      b.allocated |= pages;
      if (index == e.first_block()) b.starts |= one_page(page_in_block(e.first));
      continue;
    }
    b.allocated &= ~pages;
    b.starts &= ~pages;
    b.willneed &= ~pages;
    for (unsigned n = 0; n < vm.nodes; ++n) b.node(n).pinned &= ~pages;
    for_each_run(b.parked & pages,
                 [&](unsigned first, unsigned count) { vm.cpu->wake(vm.bytes_of(index, first, count)); });
    b.parked &= ~pages;
  }
}

}  // namespace

void* allocate_pages(runtime& rt, std::uint64_t bytes, std::uint64_t alignment) {
  if (bytes > rt.vm.memory.bytes()) {
    (void)fail(status::no_memory, "%llu bytes are more than the arena of %llu (GM_ARENA_SIZE)",
               static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(rt.vm.memory.bytes()));
    return nullptr;
  }
  extent* e = rt.vm.extents.allocate(bytes, alignment);
  if (e == nullptr) {
    (void)fail(status::no_memory,
               "the arena of %llu bytes has no room for %llu more (GM_ARENA_SIZE), or there is no memory to record it",
               static_cast<unsigned long long>(rt.vm.memory.bytes()), static_cast<unsigned long long>(bytes));
    return nullptr;
  }
  if (rt.vm.table.ensure(e->first_block(), e->blocks()) != status::ok) {
    // Nothing of it was ever used.
    (void)rt.vm.extents.retire(e->bytes().begin);
    (void)rt.vm.extents.drop_reference(*e);
    if (rt.vm.extents.drop_reference(*e)) rt.vm.extents.release(*e);
    return nullptr;
  }
  rt.offenders.heal(e->bytes());
  void* pointer = rt.vm.memory.user(e->bytes().begin);
  mark_pages(rt.vm, *e, true);
  if (rt.vm.extents.drop_reference(*e)) reclaim(rt.vm, *e);
  return pointer;
}

bool free_pages(runtime& rt, std::uint64_t offset) {
  extent* e = rt.vm.extents.retire(offset);
  if (e == nullptr) return false;
  mark_pages(rt.vm, *e, false);
  if (rt.vm.extents.drop_reference(*e)) reclaim(rt.vm, *e);
  return true;
}

}  // namespace gm
