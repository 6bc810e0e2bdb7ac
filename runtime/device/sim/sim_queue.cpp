// SPDX-License-Identifier: Apache-2.0
#include "device/sim/sim_queue.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "device/parts/clock.h"
#include "device/parts/error_text.h"
#include "device/parts/runner_thread.h"

namespace gm::device::sim {
namespace {

// How long the runner of an empty queue looks for work before it sleeps: a wake-up through the kernel costs more.
constexpr std::uint64_t runner_spin_ns = 20'000;

std::size_t entries_of(const unit_request& request) {
  const std::size_t for_fills = (request.fill_count + unit_entry::fills_max - 1) / unit_entry::fills_max;
  const std::size_t for_copies = (request.copy_count + unit_entry::copies_max - 1) / unit_entry::copies_max;
  const std::size_t for_words = (request.word_count + unit_entry::words_max - 1) / unit_entry::words_max;
  return std::max({std::size_t{1}, for_fills, for_copies, for_words});
}

template <class Run>
std::uint8_t write_runs(Run* to, std::size_t most, const Run*& from, std::size_t& left) {
  const std::size_t n = std::min(most, left);
  if (n != 0) std::memcpy(to, from, n * sizeof(Run));
  from += n;
  left -= n;
  return static_cast<std::uint8_t>(n);
}

}  // namespace

bool sim_queue::create_storage() noexcept {
  storage_.reset(new (std::nothrow) unit_entry[storage_entries]);
  return storage_ != nullptr;
}

gm_status sim_queue::push(const unit_request& request, stream* owner, fence* completion) noexcept {
  const std::size_t entries = entries_of(request);
  std::unique_lock lock(mutex_);
  if (in_use_ >= capacity_entries && !is_runner_thread()) {
    ++waiting_for_room_;
    has_room_.wait(lock, [this] { return in_use_ < capacity_entries; });
    --waiting_for_room_;
  }
  unit_entry* const unit = take_unit_locked(entries);
  if (unit == nullptr) return fail(GM_ERROR_NO_MEMORY, "no memory to enqueue a unit of %zu entries", entries);
  write_unit_locked(unit, request);
  (first_ == nullptr ? first_ : last_->next) = unit;
  last_ = unit;
  unit->position = enqueued_.load(std::memory_order_relaxed) + 1;
  if (completion != nullptr) *completion = {owner, unit->position};
  enqueued_.store(unit->position, std::memory_order_release);
  const bool wake = runner_sleeps_;
  runner_sleeps_ = false;
  lock.unlock();
  if (wake) has_work_.notify_one();
  return GM_OK;
}

unit_entry* sim_queue::next(unit_entry* done) noexcept {
  std::unique_lock lock(mutex_);
  if (done != nullptr) {
    give_back_locked(done);
    if (waiting_for_room_ != 0 && is_time_to_announce_room_locked()) has_room_.notify_all();
  }
  if (first_ == nullptr && !is_stopped_) {
    lock.unlock();
    spin_for_ns(runner_spin_ns, [this] { return enqueued() != taken_; });
    lock.lock();
    while (first_ == nullptr && !is_stopped_) {
      runner_sleeps_ = true;
      has_work_.wait(lock);
    }
    runner_sleeps_ = false;
  }
  unit_entry* const unit = first_;
  if (unit == nullptr) return nullptr;
  first_ = unit->next;
  taken_ = unit->position;
  return unit;
}

// Not at every entry: who waits should find room for more than one. Now and then in any case, since callbacks that
// enqueue may keep the queue nearly full for ever.
bool sim_queue::is_time_to_announce_room_locked() const noexcept {
  return in_use_ <= capacity_entries / 4 * 3 || (in_use_ < capacity_entries && taken_ % 64 == 0);
}

void sim_queue::stop() noexcept {
  const std::scoped_lock lock(mutex_);
  is_stopped_ = true;
  has_work_.notify_one();
}

void sim_queue::restart() noexcept {
  // libstdc++ binds its functions at their first call, which takes 3 KiB: not on the stack of a signal that serves a
  // fault.
  has_work_.notify_one();
  const std::scoped_lock lock(mutex_);
  is_stopped_ = false;
}

unit_entry* sim_queue::take_entry_locked() noexcept {
  unit_entry* entry = free_;
  if (entry != nullptr) {
    free_ = entry->next;
  } else if (storage_touched_ < storage_entries) {
    entry = &storage_[storage_touched_++];
    entry->is_allocated = false;
  } else {
    entry = new (std::nothrow) unit_entry;
    if (entry == nullptr) return nullptr;
    entry->is_allocated = true;
  }
  ++in_use_;
  return entry;
}

// That many entries, linked by next_of_unit, or null and nothing taken.
unit_entry* sim_queue::take_unit_locked(std::size_t entries) noexcept {
  unit_entry* unit = nullptr;
  for (std::size_t i = 0; i < entries; ++i) {
    unit_entry* const entry = take_entry_locked();
    if (entry == nullptr) {
      give_back_locked(unit);
      return nullptr;
    }
    entry->next = nullptr;
    entry->next_of_unit = unit;
    unit = entry;
  }
  return unit;
}

void sim_queue::give_back_locked(unit_entry* first) noexcept {
  while (first != nullptr) {
    unit_entry* const entry = first;
    first = entry->next_of_unit;
    --in_use_;
    if (entry->is_allocated) {
      delete entry;
    } else {
      entry->next = free_;
      free_ = entry;
    }
  }
}

void sim_queue::write_unit_locked(unit_entry* first, const unit_request& request) noexcept {
  first->kind = request.kind;
  first->done = request.done;
  first->ready = request.ready;
  first->argument = request.argument;
  first->awaited_stream = request.awaited.stream;
  first->awaited_position = request.awaited.position;
  first->function = request.function;
  first->count = request.count;
  first->body = request.body;
  const fill_run* fills = request.fills;
  const copy_run* copies = request.copies;
  const word_write* words = request.words;
  std::size_t fills_left = request.fill_count;
  std::size_t copies_left = request.copy_count;
  std::size_t words_left = request.word_count;
  for (unit_entry* entry = first; entry != nullptr; entry = entry->next_of_unit) {
    entry->fill_count = write_runs(entry->fills, unit_entry::fills_max, fills, fills_left);
    entry->copy_count = write_runs(entry->copies, unit_entry::copies_max, copies, copies_left);
    entry->word_count = write_runs(entry->words, unit_entry::words_max, words, words_left);
  }
}

}  // namespace gm::device::sim
