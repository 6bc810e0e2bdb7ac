// SPDX-License-Identifier: Apache-2.0
// sim_queue.h - the bounded queue of units between those who enqueue on a stream and the one thread that runs it.
//
//   free --push--> queued --next--> running --next--> free
// A unit is one or more entries that stay neighbours: a long list of runs is cut over several. Units are numbered 1, 2,
// ... in queue order; the number is the position that fences are made of, and it goes on through restart().
// Q1 queued and running units have positions taken() .. enqueued().   Q2 in_use_ = entries of queued and running units.
// push() waits while capacity_entries are in use, save on a stream's own thread (a callback that enqueues): there it
// takes memory instead, since it may be the very thread that makes room. It allocates nothing else, but for what a unit
// of more than half the storage lacks.
// Locking: one lock, held to write or to unlink a unit, never while one runs; innermost.
// Threads: push() any; next() one. A reader of enqueued() who sees a position sees its unit queued.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "device/backend.h"

namespace gm::device::sim {

enum class unit_kind : std::uint8_t { transfer, fence, wait, call, launch };

// What one enqueueing call asks for. Only the members of its kind mean anything.
struct unit_request {
  unit_kind kind;
  callback done = nullptr;    // transfer, fence; argument serves ready, call and launch too
  readiness ready = nullptr;  // transfer
  void* argument = nullptr;
  const fill_run* fills = nullptr;  // transfer
  std::size_t fill_count = 0;
  const copy_run* copies = nullptr;
  std::size_t copy_count = 0;
  const word_write* words = nullptr;
  std::size_t word_count = 0;
  fence awaited = {};                 // wait
  void (*function)(void*) = nullptr;  // call; launch: finish
  std::size_t count = 0;              // launch
  void (*body)(void*, std::size_t, std::size_t) = nullptr;
};

// One entry. The unit's first entry says what it is; the rest carry runs only. Trivial, so that unused storage is never
// touched.
struct unit_entry {
  static constexpr std::size_t fills_max = 4;
  static constexpr std::size_t copies_max = 8;
  static constexpr std::size_t words_max = 8;

  unit_entry* next;
  unit_entry* next_of_unit;  // null at the unit's last
  std::uint64_t position;
  callback done;
  readiness ready;
  void* argument;
  stream* awaited_stream;
  std::uint64_t awaited_position;
  void (*function)(void*);
  std::size_t count;
  void (*body)(void*, std::size_t, std::size_t);
  unit_kind kind;
  bool is_allocated;  // apart from the queue's storage
  std::uint8_t fill_count;
  std::uint8_t copy_count;
  std::uint8_t word_count;
  fill_run fills[fills_max];
  copy_run copies[copies_max];
  word_write words[words_max];
};

class sim_queue {
 public:
  static constexpr std::uint32_t capacity_entries = 1024;

  // False when there is no memory for it; once, before anything else.
  bool create_storage() noexcept;

  // Enqueues one unit, all of it or nothing (GM_ERROR_NO_MEMORY). *completion is written before the unit can run.
  gm_status push(const unit_request& request, stream* owner, fence* completion) noexcept;

  // The runner's loop: gives the unit it has run back (null at first) and waits for the next. Null after stop(), when
  // the queue is empty.
  unit_entry* next(unit_entry* done) noexcept;

  void stop() noexcept;
  void restart() noexcept;  // after the runner's end; positions go on

  std::uint64_t enqueued() const noexcept { return enqueued_.load(std::memory_order_acquire); }

 private:
  static constexpr std::uint32_t storage_entries = 2 * capacity_entries;

  unit_entry* take_entry_locked() noexcept;
  unit_entry* take_unit_locked(std::size_t entries) noexcept;
  void give_back_locked(unit_entry* first) noexcept;
  bool is_time_to_announce_room_locked() const noexcept;
  void write_unit_locked(unit_entry* first, const unit_request& request) noexcept;

  std::mutex mutex_;
  std::condition_variable has_room_;
  std::condition_variable has_work_;
  std::atomic<std::uint64_t> enqueued_{0};  // written under the lock
  std::uint64_t taken_ = 0;
  unit_entry* first_ = nullptr;  // queued, in order, linked by next
  unit_entry* last_ = nullptr;
  unit_entry* free_ = nullptr;  // most recently used first: their memory is in the cache
  std::unique_ptr<unit_entry[]> storage_;
  std::uint32_t storage_touched_ = 0;  // entries beyond have never been used
  std::uint32_t in_use_ = 0;
  std::uint32_t waiting_for_room_ = 0;
  bool runner_sleeps_ = false;
  bool is_stopped_ = false;
};

}  // namespace gm::device::sim
