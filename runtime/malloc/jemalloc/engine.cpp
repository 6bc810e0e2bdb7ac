// SPDX-License-Identifier: Apache-2.0
// engine.cpp - object_engine.h over jemalloc, whose names have got a prefix (cmake/jemalloc.cmake).
//
// Plain malloc and free of a thread that has been given an arena of ours go through jemalloc's fast paths: a third of
// the time that mallocx takes with an explicit cache. jemalloc's own needs come from its arena 0, which is given to
// nobody.
#include <jemalloc/jemalloc.h>
#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <utility>

#include "malloc/object_engine.h"

extern "C" {
void* gmem_jemalloc_malloc(std::size_t);
void gmem_jemalloc_free(void*);
void* gmem_jemalloc_aligned_alloc(std::size_t, std::size_t);
std::size_t gmem_jemalloc_malloc_usable_size(void*);
void* gmem_jemalloc_mallocx(std::size_t, int);
void gmem_jemalloc_dallocx(void*, int);
int gmem_jemalloc_mallctl(const char*, void*, std::size_t*, void*, std::size_t);

// What the user's MALLOC_CONF and /etc/malloc.conf say is for a jemalloc of the program's own.
char* gmem_jemalloc_setting(const char*) { return nullptr; }
long gmem_jemalloc_link(const char*, char*, std::size_t) { return -1; }
// A forked child has no objects and never comes here: nothing needs to be locked for it.
int gmem_jemalloc_atfork(void (*)(), void (*)(), void (*)()) { return 0; }

// One automatic arena. What is free for a second is unused. Chunks are kept.
extern const char* gmem_jemalloc_malloc_conf;
const char* gmem_jemalloc_malloc_conf = "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0,retain:true,dss:disabled";
}

namespace gm {
namespace {

// Destructors of keys run in the order in which the keys were made, and jemalloc's has to be the later one: it makes
// its own in a constructor without a priority.
pthread_key_t thread_key;
[[gnu::constructor(101)]] void make_thread_key() {
  if (pthread_key_create(&thread_key, [](void* function) { reinterpret_cast<void (*)()>(function)(); }) != 0)
    std::abort();
}

bool call_at_thread_end(void (*function)()) {
  return pthread_setspecific(thread_key, reinterpret_cast<void*>(function)) == 0;
}

// Of jemalloc 5.3, for "experimental.arenas_create_ext"; its public header lacks it.
struct arena_config {
  extent_hooks_t* hooks;
  bool metadata_by_hooks;
};

// jemalloc's until the arena is destroyed.
struct arena_record {
  extent_hooks_t hooks;  // first: jemalloc hands out its address
  object_source source;
};

constexpr unsigned arenas_max = 4096;  // jemalloc has fewer
arena_record* records[arenas_max];     // by arena; each is one thread's at a time

arena_record& record_of(extent_hooks_t* hooks) { return *reinterpret_cast<arena_record*>(hooks); }

void* take(extent_hooks_t* hooks, void* wanted, std::size_t bytes, std::size_t alignment, bool* zero, bool* commit,
           unsigned) {
  if (wanted != nullptr || bytes > object_engine::chunk_bytes || alignment > object_engine::chunk_bytes) return nullptr;
  const object_source& source = record_of(hooks).source;
  void* chunk = source.take_chunk(source.owner);
  if (chunk != nullptr && *commit) source.in_use(source.owner, chunk, bytes);
  *zero = false;
  return chunk;
}

bool commit(extent_hooks_t* hooks, void* extent, std::size_t, std::size_t offset, std::size_t bytes, unsigned) {
  const object_source& source = record_of(hooks).source;
  source.in_use(source.owner, static_cast<std::byte*>(extent) + offset, bytes);
  return false;
}

bool decommit(extent_hooks_t* hooks, void* extent, std::size_t, std::size_t offset, std::size_t bytes, unsigned) {
  const object_source& source = record_of(hooks).source;
  source.unused(source.owner, static_cast<std::byte*>(extent) + offset, bytes);
  return false;
}

bool split(extent_hooks_t*, void*, std::size_t, std::size_t, std::size_t, bool, unsigned) { return false; }

// Chunks stay apart: each is an allocation of the arena's.
bool merge(extent_hooks_t*, void* first, std::size_t, void* second, std::size_t, bool, unsigned) {
  const auto chunk = [](void* p) { return reinterpret_cast<std::uintptr_t>(p) / object_engine::chunk_bytes; };
  return chunk(first) != chunk(second);
}

bool control(const char* name, void* old, std::size_t* old_bytes, void* given, std::size_t given_bytes) {
  return gmem_jemalloc_mallctl(name, old, old_bytes, given, given_bytes) == 0;
}

bool control_arena(unsigned arena, const char* what, void* given, std::size_t given_bytes) {
  char name[64];
  std::snprintf(name, sizeof name, "arena.%u.%s", arena, what);
  return control(name, nullptr, nullptr, given, given_bytes);
}

bool destroy_arena(unsigned arena) {
  arena_record* record = std::exchange(records[arena], nullptr);  // first: the number may be another's behind it
  if (control_arena(arena, "destroy", nullptr, 0)) {
    delete record;
    return true;
  }
  records[arena] = record;
  return false;
}

bool make_arena(const object_source& source, unsigned& arena) {
  auto* made = new (std::nothrow) arena_record{};
  if (made == nullptr) return false;
  made->hooks = {.alloc = take,
                 .dalloc = nullptr,
                 .destroy = nullptr,
                 .commit = commit,
                 .decommit = decommit,
                 .purge_lazy = nullptr,
                 .purge_forced = nullptr,
                 .split = split,
                 .merge = merge};
  made->source = source;
  arena_config config{&made->hooks, false};
  std::size_t bytes = sizeof arena;
  if (!control("experimental.arenas_create_ext", &arena, &bytes, &config, sizeof config)) {
    delete made;
    return false;
  }
  if (arena >= arenas_max) std::abort();
  records[arena] = made;
  std::size_t largest = object_engine::chunk_bytes;
  if (control_arena(arena, "retain_grow_limit", &largest, sizeof largest)) return true;
  (void)destroy_arena(arena);
  return false;
}

void age_arena(unsigned arena) { (void)control_arena(arena, "decay", nullptr, 0); }

void trim_arena(unsigned arena) { (void)control_arena(arena, "purge", nullptr, 0); }

bool use_arena(unsigned arena) {
  bool on = true;
  return control("thread.tcache.enabled", nullptr, nullptr, &on, sizeof on) &&
         control("thread.arena", nullptr, nullptr, &arena, sizeof arena);
}

void flush_cache() { (void)control("thread.tcache.flush", nullptr, nullptr, nullptr, 0); }

void close_cache() {
  bool off = false;
  unsigned own = 0;
  (void)control("thread.tcache.enabled", nullptr, nullptr, &off, sizeof off);
  (void)control("thread.arena", nullptr, nullptr, &own, sizeof own);
}

std::size_t usable_bytes(const void* object) { return gmem_jemalloc_malloc_usable_size(const_cast<void*>(object)); }

void* allocate_uncached(unsigned arena, std::size_t alignment, std::size_t bytes) {
  return gmem_jemalloc_mallocx(bytes, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE | MALLOCX_ALIGN(alignment));
}

void release_uncached(void* object) { gmem_jemalloc_dallocx(object, MALLOCX_TCACHE_NONE); }

std::size_t metadata_bytes() {
  std::uint64_t epoch = 1;
  std::size_t bytes = 0;
  std::size_t size = sizeof bytes;
  (void)control("epoch", nullptr, nullptr, &epoch, sizeof epoch);
  return control("stats.metadata", &bytes, &size, nullptr, 0) ? bytes : 0;
}

constexpr object_engine engine = {.allocate = gmem_jemalloc_malloc,
                                  .allocate_aligned = gmem_jemalloc_aligned_alloc,
                                  .release = gmem_jemalloc_free,
                                  .usable_bytes = usable_bytes,
                                  .allocate_uncached = allocate_uncached,
                                  .release_uncached = release_uncached,
                                  .make_arena = make_arena,
                                  .destroy_arena = destroy_arena,
                                  .age_arena = age_arena,
                                  .trim_arena = trim_arena,
                                  .use_arena = use_arena,
                                  .call_at_thread_end = call_at_thread_end,
                                  .flush_cache = flush_cache,
                                  .close_cache = close_cache,
                                  .metadata_bytes = metadata_bytes};

}  // namespace
}  // namespace gm

extern "C" [[gnu::visibility("default")]] const gm::object_engine* gm_object_engine() { return &gm::engine; }
