// SPDX-License-Identifier: Apache-2.0
// object_engine.h - what hands out objects smaller than a page, from chunks that it is given.
//
// An arena takes chunks from its source, cuts them up, and never gives them back one by one; what it does not use of
// them at the moment it says, in units of 4 KiB. A thread allocates from the arena that it uses, through a cache of its
// own; objects may be freed by any thread. All metadata lies outside the chunks: neither allocating nor freeing touches
// the objects' memory. The engine is jemalloc (jemalloc/engine.cpp).
// Threads: any, but use_arena, flush_cache and close_cache are about the calling one. Locks of the engine's own are
// held while it calls the source, so these functions must not be called from there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gm {

struct object_source {
  // chunk_bytes, aligned to that; null: there are none.
  void* (*take_chunk)(void* owner);
  void (*in_use)(void* owner, void* first, std::size_t bytes);
  // Contents are not needed any more.
  void (*unused)(void* owner, void* first, std::size_t bytes);
  void* owner;
};

struct object_engine {
  static constexpr std::size_t chunk_bytes = std::size_t{2} << 20;

  void* (*allocate)(std::size_t bytes);
  void* (*allocate_aligned)(std::size_t alignment, std::size_t bytes);
  void (*release)(void*);
  std::size_t (*usable_bytes)(const void*);
  // Past the thread's cache.
  void* (*allocate_uncached)(unsigned arena, std::size_t alignment, std::size_t bytes);
  void (*release_uncached)(void*);

  // False: no memory.
  bool (*make_arena)(const object_source&, unsigned& arena);
  // No object of it is live, or in any thread's cache. Its chunks are not needed any more. False: threads still use it.
  bool (*destroy_arena)(unsigned arena);
  // What has been free of the arena for a while becomes unused. Threads that use the arena come to that by themselves.
  void (*age_arena)(unsigned arena);
  // What is free of it becomes unused now, unless another thread is just at that.
  void (*trim_arena)(unsigned arena);
  bool (*use_arena)(unsigned arena);
  // Once, before the thread's cache ends with it. What runs in the thread after that is not told of. False: no memory.
  bool (*call_at_thread_end)(void (*function)());
  void (*flush_cache)();
  // The thread has none any more, and uses no arena of ours.
  void (*close_cache)();
  std::size_t (*metadata_bytes)();
};

// "gm_object_engine", in libgmem-jemalloc.so.
using object_engine_entry = const object_engine* (*)();

// The engine, where the process has it; null with the error set.
const object_engine* find_object_engine();

}  // namespace gm
