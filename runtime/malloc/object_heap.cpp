// SPDX-License-Identifier: Apache-2.0
#include "malloc/object_heap.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "api/runtime.h"
#include "base/check.h"
#include "base/log.h"
#include "evict/room.h"
#include "malloc/page_allocation.h"
#include "migrate/host_pages.h"
#include "migrate/move.h"
#include "migrate/registrar.h"

namespace gm {

thread_local constinit object_cache this_cache;
constinit object_space live_objects;

namespace {

// Bound caches, and what ended ones have counted of the life that is. Taken for a few instructions, and not while the
// engine is called: it would come round by take_chunk.
constinit std::mutex caches_lock;
constinit object_cache* first_cache = nullptr;
constinit std::uint64_t ended_made = 0;
constinit std::uint64_t ended_freed = 0;

constexpr std::chrono::milliseconds aging_period{250};
constexpr unsigned look_everywhere_rounds = 40;

constinit std::mutex making_lock;   // of a runtime's heap
constinit std::uint64_t lives = 0;  // under it

// Where caches of an earlier life may still find objects.
struct addresses {
  std::uintptr_t begin;
  std::uintptr_t end;
};
std::vector<addresses>& haunted() {
  static auto* all = new std::vector<addresses>;
  return *all;
}

bool is_haunted(const arena& memory) {
  const std::uintptr_t base = memory.user_base();
  for (const addresses& there : haunted())
    if (base < there.end && there.begin < base + memory.bytes()) {
      (void)fail(status::busy,
                 "threads still have caches of objects that gmem had at these addresses before it was shut down");
      return true;
    }
  return false;
}

void link(object_cache& cache, std::uint64_t life, std::atomic<unsigned>& arena_users) {
  const std::scoped_lock guard(caches_lock);
  cache.arena_users = &arena_users;
  cache.life.store(life, std::memory_order_relaxed);
  cache.made.store(0, std::memory_order_relaxed);
  cache.freed.store(0, std::memory_order_relaxed);
  cache.previous = nullptr;
  cache.next = first_cache;
  if (first_cache != nullptr) first_cache->previous = &cache;
  first_cache = &cache;
}

// What it has counted goes on counting, in the life that it was of.
void unlink(object_cache& cache) {
  const std::scoped_lock guard(caches_lock);
  const bool counts = cache.life.load(std::memory_order_relaxed) == live_objects.life.load();
  cache.life.store(object_cache::no_life, std::memory_order_relaxed);
  cache.arena_users->fetch_sub(1);
  (cache.previous != nullptr ? cache.previous->next : first_cache) = cache.next;
  if (cache.next != nullptr) cache.next->previous = cache.previous;
  if (!counts) return;
  ended_made += cache.made.load(std::memory_order_relaxed);
  ended_freed += cache.freed.load(std::memory_order_relaxed);
}

// Locks may be held there for ever.
constinit bool is_child = false;

void forget_in_child() {
  live_objects.life.store(0);
  is_child = true;
}

}  // namespace

void object_heap::thread_ends() {
  object_cache& cache = this_cache;
  cache.is_over = true;
  if (is_child || cache.life.load(std::memory_order_relaxed) == object_cache::no_life) return;
  const object_engine& engine = *live_objects.engine;
  engine.flush_cache();
  engine.close_cache();
  unlink(cache);
}

object_heap::object_heap(runtime& rt, const object_engine& engine) : rt_(rt), engine_(engine), life_(++lives) {}

object_heap::~object_heap() = default;

object_heap* object_heap::of(runtime& rt) {
  if (rt.objects != nullptr || rt.has_no_objects.load(std::memory_order_acquire))
    return static_cast<object_heap*>(rt.objects.load(std::memory_order_acquire));
  const std::scoped_lock guard(making_lock);
  if (rt.objects != nullptr || rt.has_no_objects) return static_cast<object_heap*>(rt.objects.load());
  const object_engine* engine = find_object_engine();
  std::unique_ptr<object_heap> made;
  if (engine != nullptr && !is_haunted(rt.vm.memory)) {
    made.reset(new (std::nothrow) object_heap(rt, *engine));
    if (made == nullptr || !made->start()) return nullptr;  // may go better another time
  }
  if (made == nullptr) {
    log_line(log_level::info, "small objects take a page of %llu KiB each: %s",
             static_cast<unsigned long long>(page_bytes >> 10), last_error());
    rt.has_no_objects.store(true, std::memory_order_release);
    return nullptr;
  }
  object_heap* heap = made.release();
  rt.objects.store(heap, std::memory_order_release);
  return heap;
}

bool object_heap::start() {
  static const int registered = pthread_atfork(nullptr, nullptr, forget_in_child);
  (void)registered;
  const std::uintptr_t base = rt_.vm.memory.user_base();
  const std::uint64_t bytes = rt_.vm.memory.bytes();
  const std::uint64_t words = (bytes / object_engine::chunk_bytes + 63) / 64;
  chunk_bits_.reset(new (std::nothrow) std::atomic<std::uint64_t>[words] {});
  if (chunk_bits_ == nullptr) {
    (void)fail(status::no_memory, "no memory to record where they are");
    return false;
  }
  if (aging_.start(
          "gmem-objects", any_cpu, [](void* self) { static_cast<object_heap*>(self)->age(); }, this) != status::ok)
    return false;
  arenas_most_ = std::clamp(std::thread::hardware_concurrency(), 1u, arenas_max);
  {
    const std::scoped_lock guard(caches_lock);
    ended_made = ended_freed = 0;
  }
  live_objects.allocate = engine_.allocate;
  live_objects.release = engine_.release;
  live_objects.engine = &engine_;
  live_objects.chunk_bits = chunk_bits_.get();
  live_objects.base.store(base);
  live_objects.bytes.store(bytes, std::memory_order_release);
  live_objects.life.store(life_, std::memory_order_release);
  return true;
}

// ---- Threads -------------------------------------------------------------------------------------------------------

bool object_heap::arena_for(unsigned number, unsigned& arena) {
  std::atomic<unsigned>& slot = arenas_[number];
  if (slot.load() == 0) {
    const std::scoped_lock guard(making_lock);
    unsigned made = 0;
    const object_source source = {
        .take_chunk = [](void* self) { return static_cast<object_heap*>(self)->take_chunk(); },
        .in_use = [](void* self, void* first,
                     std::size_t bytes) { static_cast<object_heap*>(self)->set_units(first, bytes, true); },
        .unused = [](void* self, void* first,
                     std::size_t bytes) { static_cast<object_heap*>(self)->set_units(first, bytes, false); },
        .owner = this};
    if (slot.load() == 0) {
      if (!engine_.make_arena(source, made)) return false;
      slot.store(made + 1);
    }
  }
  arena = slot.load() - 1;
  return true;
}

bool object_heap::bind() {
  object_cache& cache = this_cache;
  if (cache.is_over || !engine_.call_at_thread_end(thread_ends)) return false;
  if (cache.life.load(std::memory_order_relaxed) != object_cache::no_life) {  // of an earlier life
    engine_.flush_cache();
    unlink(cache);
  }
  const auto fewest = std::min_element(arena_users_.begin(), arena_users_.begin() + arenas_most_,
                                       [](const auto& a, const auto& b) { return a.load() < b.load(); });
  unsigned arena = 0;
  if (!arena_for(static_cast<unsigned>(fewest - arena_users_.begin()), arena) || !engine_.use_arena(arena))
    return false;
  fewest->fetch_add(1);
  link(cache, life_, *fewest);
  return true;
}

void* object_heap::allocate(std::size_t alignment, std::size_t bytes) {
  bytes = std::max<std::size_t>(bytes, 16);
  if (is_bound() || bind()) {
    if (alignment <= 16) return allocate_object(bytes);
    void* object = engine_.allocate_aligned(alignment, bytes);
    count(this_cache.made, object != nullptr ? 1 : 0);
    return object;
  }
  unsigned arena = 0;
  if (!arena_for(0, arena)) return nullptr;
  void* object = engine_.allocate_uncached(arena, std::max<std::size_t>(alignment, 16), bytes);
  if (object == nullptr) return nullptr;
  const std::scoped_lock guard(caches_lock);
  ++ended_made;
  return object;
}

void object_heap::free(void* object) {
  if (is_bound() || bind()) {
    free_object(object);
    return;
  }
  engine_.release_uncached(object);
  const std::scoped_lock guard(caches_lock);
  ++ended_freed;
}

std::uint64_t object_heap::live() const {
  const std::scoped_lock guard(caches_lock);
  std::uint64_t made = ended_made;
  std::uint64_t freed = ended_freed;
  for (const object_cache* c = first_cache; c != nullptr; c = c->next) {
    if (c->life.load(std::memory_order_relaxed) != life_) continue;
    made += c->made.load(std::memory_order_relaxed);
    freed += c->freed.load(std::memory_order_relaxed);
  }
  return made - std::min(made, freed);  // read beside what changes it
}

std::uint64_t object_heap::chunks() const { return chunk_count_.load(std::memory_order_relaxed); }

std::uint64_t object_heap::metadata_bytes() const {
  return engine_.metadata_bytes() + chunks() * (sizeof(chunk) + sizeof(block_index) + 4 * sizeof(void*));
}

// ---- Chunks --------------------------------------------------------------------------------------------------------

void* object_heap::take_chunk() try {
  if (is_child) return nullptr;
  void* memory = allocate_pages(rt_, object_engine::chunk_bytes, object_engine::chunk_bytes);
  if (memory == nullptr) return nullptr;
  const std::uint64_t offset = rt_.vm.memory.offset_of(memory);
  const block_index index = block_of(page_of(offset));
  try {
    lock_guard guard(lock_);
    chunks_.try_emplace(index);
  } catch (const std::bad_alloc&) {
    (void)free_pages(rt_, offset);
    return nullptr;
  }
  chunk_bits_[index.value / 64].fetch_or(std::uint64_t{1} << index.value % 64);
  chunk_count_.fetch_add(1, std::memory_order_relaxed);
  return memory;
} catch (const std::bad_alloc&) {
  return nullptr;
}

// A page that comes into use waits for its giving back to be over, by the lock. In a child the engine may come here
// when a thread ends, and the pages are the parent's.
void object_heap::set_units(void* first, std::size_t bytes, bool in_use) {
  if (is_child) return;
  lock_guard guard(lock_);
  if (closed_) return;
  const std::uint64_t offset = rt_.vm.memory.offset_of(first);
  const block_index index = block_of(page_of(offset));
  const auto found = chunks_.find(index);
  if (found == chunks_.end()) return;
  chunk& c = found->second;
  const std::uint64_t begin = (offset - offset_of(index)) / unit_bytes;
  constexpr std::uint64_t units_a_page = page_bytes / unit_bytes;
  for (std::uint64_t unit = begin; unit < begin + bytes / unit_bytes; ++unit) {
    std::uint16_t& of_page = c.units[unit / units_a_page];
    const auto bit = static_cast<std::uint16_t>(1u << unit % units_a_page);
    of_page = static_cast<std::uint16_t>(in_use ? of_page | bit : of_page & ~bit);
  }
  if (in_use || c.owes) return;
  c.owes = true;
  ++owing_;
}

// Pages without a unit in use (a fault may have brought some along that never had one), as far as nothing is in the
// way: nothing is waited for. False: some are left.
bool object_heap::give_back_locked(block_index index, const chunk& c) {
  page_mask unused = no_pages;
  for (unsigned page = 0; page < pages_per_block; ++page)
    if (c.units[page] == 0) unused |= one_page(page);
  vm_object& vm = rt_.vm;
  block& b = vm.table.at(index);
  block_guard guard(b.lock);
  unused &= b.backed | valid_anywhere(b, vm.nodes);
  page_mask pages = unused & ~b.busy.load(std::memory_order_relaxed);
  for (unsigned n = 0; n < vm.nodes; ++n) {
    pages &= ~b.node(n).pinned;
    // Freed objects may still be a kernel's.
    if (vm.map(n) != nullptr) pages &= ~vm.leases.on_demand(n, index);
  }
  if (pages == no_pages) return unused == no_pages;
  if (b.leases != 0 || ((pages & b.backed) != no_pages && !host_memory_is_loose_locked(vm, index, b))) return false;
  if (drop_host_pages_locked(vm, index, b, pages) != status::ok) return false;
  make_exclusive_locked(vm, index, b, host_node, pages);
  b.host().valid &= ~pages;
  return pages == unused;
}

// Of the aging lock's holder.
void object_heap::give_back_owed() {
  for (block_index next{0};;) {
    {
      lock_guard guard(lock_);
      auto at = owing_ == 0 ? chunks_.end() : chunks_.lower_bound(next);
      while (at != chunks_.end() && !at->second.owes) ++at;
      if (at == chunks_.end()) return;
      next = at->first;
      at->second.owes = !give_back_locked(next, at->second);
      if (!at->second.owes) --owing_;
    }
    for (unsigned n = 1; n < rt_.vm.nodes; ++n) release_empty_frame(rt_.vm, rt_.vm.device(n), next);
    ++next;
  }
}

// A fault that is served late, when its object is gone, brings a page into a chunk that owed nothing any more.
void object_heap::look_everywhere() {
  lock_guard guard(lock_);
  for (auto& [index, c] : chunks_) c.owes = true;
  owing_ = chunks_.size();
}

void object_heap::age() {
  std::unique_lock guard(aging_lock_);
  for (unsigned round = 1; !aging_ends_.wait_for(guard, aging_period, [this] { return stops_aging_; }); ++round) {
    if (round % look_everywhere_rounds == 0) look_everywhere();
    for (const std::atomic<unsigned>& slot : arenas_)
      if (const unsigned arena = slot.load(); arena != 0) engine_.age_arena(arena - 1);
    give_back_owed();
  }
}

void object_heap::trim() {
  if (is_bound()) engine_.flush_cache();
  const std::scoped_lock guard(aging_lock_);
  for (const std::atomic<unsigned>& slot : arenas_)
    if (const unsigned arena = slot.load(); arena != 0) engine_.trim_arena(arena - 1);
  look_everywhere();
  give_back_owed();
}

bool object_heap::close() {
  {
    const std::scoped_lock guard(aging_lock_);
    stops_aging_ = true;
  }
  aging_ends_.notify_all();
  aging_.join();
  live_objects.bytes.store(0);
  live_objects.life.store(0);
  if (is_bound()) {
    engine_.flush_cache();
    engine_.close_cache();
    unlink(this_cache);
  }
  bool others = false;
  {
    const std::scoped_lock guard(caches_lock);
    for (const object_cache* c = first_cache; c != nullptr; c = c->next) others = others || c->life.load() == life_;
  }
  bool all_gone = !others;
  for (const std::atomic<unsigned>& slot : arenas_)
    if (const unsigned arena = slot.load(); arena != 0 && !others)
      all_gone = engine_.destroy_arena(arena - 1) && all_gone;
  if (!all_gone) {
    const std::uintptr_t base = rt_.vm.memory.user_base();
    const std::scoped_lock guard(making_lock);
    haunted().push_back({base, base + rt_.vm.memory.bytes()});
  }
  std::map<block_index, chunk> gone;
  {
    lock_guard guard(lock_);
    closed_ = true;
    gone.swap(chunks_);
  }
  for (auto& [index, c] : gone) (void)free_pages(rt_, offset_of(index));
  chunk_count_.store(0);
  return all_gone;
}

}  // namespace gm
