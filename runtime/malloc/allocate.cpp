// SPDX-License-Identifier: Apache-2.0
// allocate.cpp - entry points: gm_malloc and its kin, on page-granular extents.
#include <algorithm>
#include <bit>
#include <cerrno>

#include "api/entry.h"
#include "base/check.h"
#include "evict/reclaim.h"
#include "fault/condemned.h"

using namespace gm;

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

void* allocate(std::size_t alignment, std::size_t bytes) {
  runtime* rt = current();
  if (rt == nullptr) return nullptr;
  if (bytes > rt->vm.memory.bytes()) {
    (void)fail(status::no_memory, "%zu bytes are more than the arena of %llu (GM_ARENA_SIZE)", bytes,
               static_cast<unsigned long long>(rt->vm.memory.bytes()));
    errno = ENOMEM;
    return nullptr;
  }
  extent* e = rt->vm.extents.allocate(bytes, alignment);
  if (e == nullptr) {
    (void)fail(status::no_memory,
               "the arena of %llu bytes has no room for %zu more (GM_ARENA_SIZE), or there is no "
               "memory to record it",
               static_cast<unsigned long long>(rt->vm.memory.bytes()), bytes);
    errno = ENOMEM;
    return nullptr;
  }
  if (rt->vm.table.ensure(e->first_block(), e->blocks()) != status::ok) {
    // Nothing of it was ever used.
    (void)rt->vm.extents.retire(e->bytes().begin);
    (void)rt->vm.extents.drop_reference(*e);
    if (rt->vm.extents.drop_reference(*e)) rt->vm.extents.release(*e);
    errno = ENOMEM;
    return nullptr;
  }
  rt->offenders.heal(e->bytes());
  void* pointer = rt->vm.memory.user(e->bytes().begin);
  mark_pages(rt->vm, *e, true);
  if (rt->vm.extents.drop_reference(*e)) reclaim(rt->vm, *e);
  return pointer;
}

void free_or_abort(runtime& rt, void* pointer, const char* function) {
  extent* e = rt.vm.memory.contains(pointer) ? rt.vm.extents.retire(rt.vm.memory.offset_of(pointer)) : nullptr;
  if (e == nullptr)
    abort_with("%s(%p): not the start of a live allocation (freed twice, from another allocator, or inside one)",
               function, pointer);
  mark_pages(rt.vm, *e, false);
  if (rt.vm.extents.drop_reference(*e)) reclaim(rt.vm, *e);
}

// Copies what there is; pages that nobody holds stay nobody's in the new place.
status copy_contents(runtime& rt, byte_range from, std::byte* to) {
  status result = status::ok;
  for (block_index index = block_of(from.begin); offset_of(index) < from.end; ++index) {
    page_mask present = no_pages;
    {
      block& b = rt.vm.table.at(index);
      block_guard guard(b.lock);
      present = valid_anywhere(b, rt.vm.nodes) | b.busy.load(std::memory_order_relaxed);
    }
    for_each_run(present & pages_touched(from, index), [&](unsigned first, unsigned count) {
      if (result != status::ok) return;
      const byte_range run = rt.vm.bytes_of(index, first, count);
      const std::uint64_t bytes = std::min(run.end, from.end) - run.begin;
      result = static_cast<status>(
          gm_memcpy(to + (run.begin - from.begin), rt.vm.memory.user(run.begin), bytes, GM_HOST, nullptr));
    });
  }
  return result;
}

}  // namespace

void* gm_malloc(size_t bytes) { return allocate(16, bytes); }

void* gm_calloc(size_t count, size_t bytes) {
  size_t total = 0;
  if (__builtin_mul_overflow(count, bytes, &total)) {
    (void)fail(status::no_memory, "%zu times %zu bytes overflow", count, bytes);
    errno = ENOMEM;
    return nullptr;
  }
  return allocate(16, total);  // fresh extents are NOMAP, which reads as zero
}

void* gm_aligned_alloc(size_t alignment, size_t bytes) {
  if (!std::has_single_bit(alignment)) {
    (void)fail(status::invalid_argument, "an alignment of %zu is not a power of two", alignment);
    errno = EINVAL;
    return nullptr;
  }
  return allocate(alignment, bytes);
}

void* gm_realloc(void* pointer, size_t bytes) {
  if (pointer == nullptr) return gm_malloc(bytes);
  runtime* rt = current();
  if (rt == nullptr) return nullptr;  // a forked child, or shut down: the memory is not here
  if (bytes == 0) {
    free_or_abort(*rt, pointer, "gm_realloc");
    return nullptr;
  }
  extent* old =
      rt->vm.memory.contains(pointer) ? rt->vm.extents.reference_start(rt->vm.memory.offset_of(pointer)) : nullptr;
  if (old == nullptr) abort_with("gm_realloc(%p): not the start of a live allocation", pointer);
  const std::uint64_t old_bytes = old->bytes().bytes();
  void* result = pointer;
  if (bytes > old_bytes || bytes < old_bytes / 2) {
    // Scopes that have ended keep the old memory until they are released; an open one is still going to use it.
    if (rt->vm.leases.open_over(old->bytes())) {
      (void)fail(status::busy, "gm_realloc(%p): a scope is open over the memory: end it first", pointer);
      errno = EBUSY;
      result = nullptr;
    } else {
      result = gm_malloc(bytes);
    }
    if (result != nullptr) {
      const std::uint64_t begin = old->bytes().begin;
      const status s = copy_contents(*rt, {begin, begin + std::min<std::uint64_t>(bytes, old_bytes)},
                                     static_cast<std::byte*>(result));
      if (s != status::ok) {
        gm_free(result);
        result = nullptr;
        errno = ENOMEM;
      }
    }
  }
  const bool moved = result != nullptr && result != pointer;
  if (rt->vm.extents.drop_reference(*old)) reclaim(rt->vm, *old);
  if (moved) free_or_abort(*rt, pointer, "gm_realloc");
  return result;
}

void gm_free(void* pointer) {
  if (pointer == nullptr) return;
  runtime* rt = running();
  if (rt == nullptr && in_forked_child()) return;  // the memory stayed with the parent
  if (rt == nullptr) abort_with("gm_free(%p): gmem does not run (never started, or shut down)", pointer);
  free_or_abort(*rt, pointer, "gm_free");
}

size_t gm_usable_size(const void* pointer) {
  runtime* rt = running();
  if (rt == nullptr || pointer == nullptr || !rt->vm.memory.contains(pointer)) return 0;
  extent* e = rt->vm.extents.reference_start(rt->vm.memory.offset_of(pointer));
  if (e == nullptr) return 0;
  const std::uint64_t bytes = e->bytes().bytes();
  if (rt->vm.extents.drop_reference(*e)) reclaim(rt->vm, *e);
  return bytes;
}
