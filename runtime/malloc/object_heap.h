// SPDX-License-Identifier: Apache-2.0
// object_heap.h - small objects of one life of the runtime: arenas of the engine (object_engine.h) over chunks, each of
// which is an allocation of one block of its own.
//
//   thread:         bound to the heap by its first object, which gives it the arena with the fewest threads; from then
//                   on it allocates and frees by the engine alone
//   unit of 4 KiB:  unused <--> in use, as the engine says
//   page:           given back, on every node, when all of its units are unused: by the thread that has objects age,
//                   and not before a scope, pin or copy that has it is over
// A thread's cache outlives the runtime; what it has of one life must not be met in another. So it is bound to a life,
// by number, and gives everything back when the thread ends, or when it shuts the runtime down. While other threads
// still have caches when that happens, the heap stays, closed, and its addresses get no small objects again.
// Fast paths: allocate_object and free_object, of a bound thread: two loads and a comparison before the engine.
// Locking: rank objects, under which pages are given back and chunks are taken. The engine's own locks come before it.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "api/object_layer.h"
#include "base/mutex.h"
#include "base/page_mask.h"
#include "base/units.h"
#include "malloc/object_engine.h"
#include "platform/thread.h"

namespace gm {

class runtime;

inline constexpr std::size_t largest_object = std::size_t{32} << 10;
inline constexpr std::size_t most_aligned_object = std::size_t{4} << 10;

// One a thread. Only the thread writes it; others read the counts.
struct object_cache {
  static constexpr std::uint64_t no_life = ~std::uint64_t{0};

  std::atomic<std::uint64_t> life{no_life};  // of the heap that it is bound to
  bool is_over = false;                      // the thread is ending
  std::atomic<std::uint64_t> made{0};
  std::atomic<std::uint64_t> freed{0};
  std::atomic<unsigned>* arena_users = nullptr;  // of its arena, in the heap, which outlives its caches
  object_cache* next = nullptr;                  // of the bound ones
  object_cache* previous = nullptr;
};
[[gnu::tls_model("initial-exec")]] extern thread_local constinit object_cache this_cache;

// Of the heap that lives; zero without one.
struct object_space {
  std::atomic<std::uint64_t> life{0};
  std::atomic<std::uint64_t> bytes{0};  // of the arena: set when the rest is there
  std::atomic<std::uintptr_t> base{0};
  std::atomic<std::uint64_t>* chunk_bits = nullptr;  // one bit a block of the arena
  void* (*allocate)(std::size_t) = nullptr;          // the engine's
  void (*release)(void*) = nullptr;
  const object_engine* engine = nullptr;

  bool has(const void* pointer) const {
    const std::uint64_t end = bytes.load(std::memory_order_acquire);
    const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(pointer) - base.load(std::memory_order_relaxed);
    if (offset >= end) return false;
    const std::uint64_t chunk = offset / object_engine::chunk_bytes;
    return (chunk_bits[chunk / 64].load(std::memory_order_relaxed) >> chunk % 64 & 1) != 0;
  }
};
extern constinit object_space live_objects;

inline bool may_use_objects() {
  return this_cache.life.load(std::memory_order_relaxed) == live_objects.life.load(std::memory_order_acquire);
}

inline void count(std::atomic<std::uint64_t>& counter, std::uint64_t more = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}

// Of a thread that may. Null with errno and the error set: there is no room.
inline void* allocate_object(std::size_t bytes) {
  void* object = live_objects.allocate(bytes < 16 ? 16 : bytes);
  count(this_cache.made, object != nullptr ? 1 : 0);
  return object;
}
inline void free_object(void* object) {
  count(this_cache.freed);
  live_objects.release(object);
}

class object_heap final : public object_layer {
 public:
  // The runtime's, made by the first call. Null where the process has no engine: then objects are given pages.
  static object_heap* of(runtime&);
  ~object_heap() override;

  // As allocate_object and free_object, for any thread; they bind it. Null: there is no room for a chunk.
  void* allocate(std::size_t alignment, std::size_t bytes);
  void free(void* object);

  std::uint64_t live() const override;
  std::uint64_t chunks() const override;
  std::uint64_t chunk_bytes() const override { return chunks() * object_engine::chunk_bytes; }
  std::uint64_t metadata_bytes() const override;
  void trim() override;
  bool close() override;

 private:
  static constexpr unsigned arenas_max = 16;
  static constexpr std::size_t unit_bytes = 4096;

  struct chunk {
    std::array<std::uint16_t, pages_per_block> units{};  // of each page, those in use
    bool owes = false;                                   // pages that are to be given back
  };

  object_heap(runtime&, const object_engine&);
  bool start();
  bool bind();
  bool arena_for(unsigned number, unsigned& arena);
  void* take_chunk();
  void set_units(void* first, std::size_t bytes, bool in_use);
  bool is_bound() const { return this_cache.life.load(std::memory_order_relaxed) == life_; }
  bool give_back_locked(block_index, const chunk&);
  void give_back_owed();
  void look_everywhere();
  void age();

  static void thread_ends();

  runtime& rt_;
  const object_engine& engine_;
  std::uint64_t life_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> chunk_bits_;
  unsigned arenas_most_ = 1;
  mutable mutex<lock_rank::objects> lock_;
  std::map<block_index, chunk> chunks_;
  std::size_t owing_ = 0;  // chunks that owe
  std::atomic<std::uint64_t> chunk_count_{0};
  std::array<std::atomic<unsigned>, arenas_max> arenas_{};       // number plus one
  std::array<std::atomic<unsigned>, arenas_max> arena_users_{};  // bound threads
  bool closed_ = false;                                          // under lock_
  // A thread that lets what is free age, also while nobody allocates.
  thread aging_;
  std::mutex aging_lock_;  // held while arenas age or are trimmed: the engine does one at a time, and skips the other
  std::condition_variable aging_ends_;
  bool stops_aging_ = false;
};

}  // namespace gm
