// SPDX-License-Identifier: Apache-2.0
// allocate.cpp - entry points: gm_malloc and its kin. Objects up to 32 KiB share pages (object_heap.h); what is larger
// has pages of its own.
#include <algorithm>
#include <bit>
#include <cerrno>

#include <cstring>

#include "api/entry.h"
#include "base/check.h"
#include "evict/reclaim.h"
#include "malloc/object_heap.h"
#include "malloc/page_allocation.h"

using namespace gm;

namespace {

// Memory of whole pages.
void* allocate(runtime& rt, std::size_t alignment, std::size_t bytes) {
  void* pointer = allocate_pages(rt, bytes, alignment);
  if (pointer == nullptr) errno = ENOMEM;
  return pointer;
}

// For what may be small, past the fast path.
[[gnu::noinline]] void* allocate_any(std::size_t alignment, std::size_t bytes) {
  runtime* rt = current();
  if (rt == nullptr) return nullptr;
  if (bytes > largest_object || alignment > most_aligned_object) return allocate(*rt, alignment, bytes);
  object_heap* heap = object_heap::of(*rt);
  void* object = heap != nullptr ? heap->allocate(alignment, bytes) : nullptr;
  return object != nullptr ? object : allocate(*rt, alignment, bytes);  // without room for a chunk there may be pages
}

bool is_in_open_scope(const runtime& rt, const void* pointer, std::size_t bytes) {
  const std::uint64_t begin = rt.vm.memory.offset_of(pointer);
  return rt.vm.leases.open_over({begin, begin + std::max<std::size_t>(bytes, 1)});
}

// To be written at once: not where an open scope, which may be this thread's own, covers a neighbour.
void* allocate_to_write(runtime& rt, std::size_t bytes) {
  void* pointer = gm_malloc(bytes);
  if (pointer == nullptr || !live_objects.has(pointer) || !is_in_open_scope(rt, pointer, bytes)) return pointer;
  gm_free(pointer);
  return allocate(rt, 16, bytes);
}

void free_pages_or_abort(runtime& rt, void* pointer, const char* function) {
  if (!rt.vm.memory.contains(pointer) || !free_pages(rt, rt.vm.memory.offset_of(pointer)))
    abort_with("%s(%p): not the start of a live allocation (freed twice, from another allocator, or inside one)",
               function, pointer);
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

// Scopes that have ended keep the old memory until they are released; an open one is still going to use it.
bool is_open(runtime& rt, void* pointer, byte_range bytes) {
  if (!rt.vm.leases.open_over(bytes)) return false;
  (void)fail(status::busy, "gm_realloc(%p): a scope is open over the memory: end it first", pointer);
  errno = EBUSY;
  return true;
}

void* resize_object(runtime& rt, void* pointer, std::size_t bytes) {
  const std::size_t old_bytes = live_objects.engine->usable_bytes(pointer);
  if (bytes <= old_bytes && (bytes >= old_bytes / 2 || old_bytes <= 16)) return pointer;
  const std::uint64_t begin = rt.vm.memory.offset_of(pointer);
  if (is_open(rt, pointer, {begin, begin + old_bytes})) return nullptr;
  void* result = allocate_to_write(rt, bytes);
  if (result == nullptr) return nullptr;
  std::memcpy(result, pointer, std::min(bytes, old_bytes));
  gm_free(pointer);
  return result;
}

void* resize_pages(runtime& rt, void* pointer, std::size_t bytes) {
  extent* old =
      rt.vm.memory.contains(pointer) ? rt.vm.extents.reference_start(rt.vm.memory.offset_of(pointer)) : nullptr;
  if (old == nullptr) abort_with("gm_realloc(%p): not the start of a live allocation", pointer);
  const std::uint64_t old_bytes = old->bytes().bytes();
  void* result = pointer;
  if (bytes > old_bytes || bytes < old_bytes / 2) {
    result = is_open(rt, pointer, old->bytes()) ? nullptr : allocate_to_write(rt, bytes);
    if (result != nullptr && live_objects.has(result)) {
      std::memcpy(result, pointer, bytes);
    } else if (result != nullptr) {
      const std::uint64_t begin = old->bytes().begin;
      const status s = copy_contents(rt, {begin, begin + std::min<std::uint64_t>(bytes, old_bytes)},
                                     static_cast<std::byte*>(result));
      if (s != status::ok) {
        gm_free(result);
        result = nullptr;
        errno = ENOMEM;
      }
    }
  }
  const bool moved = result != nullptr && result != pointer;
  if (rt.vm.extents.drop_reference(*old)) reclaim(rt.vm, *old);
  if (moved) free_pages_or_abort(rt, pointer, "gm_realloc");
  return result;
}

[[gnu::noinline]] void free_any(void* pointer) {
  if (pointer == nullptr) return;
  runtime* rt = running();
  if (rt == nullptr && in_forked_child()) return;  // the memory stayed with the parent
  if (rt == nullptr) abort_with("gm_free(%p): gmem does not run (never started, or shut down)", pointer);
  if (live_objects.has(pointer))
    object_heap::of(*rt)->free(pointer);
  else
    free_pages_or_abort(*rt, pointer, "gm_free");
}

}  // namespace

void* gm_malloc(size_t bytes) {
  if (bytes <= largest_object && may_use_objects()) [[likely]]
    if (void* object = allocate_object(bytes); object != nullptr) [[likely]]
      return object;
  return allocate_any(16, bytes);
}

void* gm_calloc(size_t count, size_t bytes) {
  size_t total = 0;
  if (__builtin_mul_overflow(count, bytes, &total)) {
    (void)fail(status::no_memory, "%zu times %zu bytes overflow", count, bytes);
    errno = ENOMEM;
    return nullptr;
  }
  runtime* rt = current();
  if (rt == nullptr) return nullptr;
  void* result = allocate_to_write(*rt, total);
  if (result != nullptr && live_objects.has(result)) std::memset(result, 0, total);
  return result;  // fresh pages are NOMAP, which reads as zero
}

void* gm_aligned_alloc(size_t alignment, size_t bytes) {
  if (!std::has_single_bit(alignment)) {
    (void)fail(status::invalid_argument, "an alignment of %zu is not a power of two", alignment);
    errno = EINVAL;
    return nullptr;
  }
  return allocate_any(alignment, bytes);
}

void* gm_realloc(void* pointer, size_t bytes) {
  if (pointer == nullptr) return gm_malloc(bytes);
  runtime* rt = current();
  if (rt == nullptr) return nullptr;  // a forked child, or shut down: the memory is not here
  const bool is_object = live_objects.has(pointer);
  if (bytes == 0) {
    if (is_object)
      gm_free(pointer);
    else
      free_pages_or_abort(*rt, pointer, "gm_realloc");
    return nullptr;
  }
  return is_object ? resize_object(*rt, pointer, bytes) : resize_pages(*rt, pointer, bytes);
}

void gm_free(void* pointer) {
  if (live_objects.has(pointer) && may_use_objects()) [[likely]]
    return free_object(pointer);
  free_any(pointer);
}

size_t gm_usable_size(const void* pointer) {
  runtime* rt = running();
  if (rt == nullptr || pointer == nullptr || !rt->vm.memory.contains(pointer)) return 0;
  if (live_objects.has(pointer)) return live_objects.engine->usable_bytes(pointer);
  extent* e = rt->vm.extents.reference_start(rt->vm.memory.offset_of(pointer));
  if (e == nullptr) return 0;
  const std::uint64_t bytes = e->bytes().bytes();
  if (rt->vm.extents.drop_reference(*e)) reclaim(rt->vm, *e);
  return bytes;
}
