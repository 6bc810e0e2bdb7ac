// SPDX-License-Identifier: Apache-2.0
#include "device/sim/sim_stream.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "device/parts/clock.h"
#include "device/parts/runner_thread.h"
#include "device/parts/running_units.h"
#include "device/sim/sim_device.h"
#include "device/sim/sim_launch.h"

namespace gm::device {

using sim::unit_entry;
using sim::unit_kind;

gm_status stream::start(device* where, std::uint32_t flags) noexcept {
  device_ = where;
  is_independent_ = (flags & stream_independent) != 0;
  failure_.clear();
  queue_.restart();
  return start_runner_thread(
      "gmem-sim", [](void* self) { static_cast<stream*>(self)->thread_main(); }, this, thread_);
}

void stream::retire() noexcept {
  queue_.stop();
  if (thread_.joinable()) thread_.join();
}

void stream::thread_main() noexcept {
  unit_entry* unit = nullptr;
  while ((unit = queue_.next(unit)) != nullptr) {
    run_unit(unit);
    completed_.complete(unit->position);
  }
}

gm_status stream::synchronize() noexcept {
  wait_complete(queue_.enqueued());
  return failure_.take();
}

void stream::run_unit(const unit_entry* unit) noexcept {
  if (unit->kind == unit_kind::wait) {
    unit->awaited_stream->wait_complete(unit->awaited_position);
    return;
  }
  gm_status result = failure_.current();
  if (result == GM_OK && unit->kind != unit_kind::fence) {
    result = run_work(unit);
    if (result != GM_OK) set_failure(result, error_text());
  }
  if (unit->done != nullptr) unit->done(unit->argument, result);
  if (unit->kind == unit_kind::launch && unit->function != nullptr) {
    result = run_finish(unit);
    if (result != GM_OK) set_failure(result, error_text());
  }
}

gm_status stream::run_work(const unit_entry* unit) noexcept {
  switch (unit->kind) {
    case unit_kind::transfer:
      return run_transfer(unit);
    case unit_kind::call:
      return run_call(unit);
    case unit_kind::launch:
      return run_launch(unit);
    case unit_kind::fence:
    case unit_kind::wait:
      break;
  }
  return GM_OK;
}

gm_status stream::run_transfer(const unit_entry* unit) noexcept {
  if (unit->ready != nullptr) {
    const gm_status why_not = unit->ready(unit->argument);
    if (why_not != GM_OK) return fail(why_not, "what a copy was to read did not arrive");
  }
  const std::uint64_t end_ns = book_links(unit);
  gm_status status = run_fills(unit);
  if (status == GM_OK) status = run_copies(unit);
  wait_until_ns(end_ns);
  if (status == GM_OK) write_words(unit);
  return status;
}

// When the unit's bytes are through all the links they use; 0 when nothing is modelled.
std::uint64_t stream::book_links(const unit_entry* unit) noexcept {
  if (!device_->links[0].is_modelled()) return 0;
  std::array<std::uint64_t, 3> bytes{};
  for (const unit_entry* entry = unit; entry != nullptr; entry = entry->next_of_unit) {
    for (const copy_run* run = entry->copies; run != entry->copies + entry->copy_count; ++run) {
      if (device_->uses_link(*run)) bytes[static_cast<std::size_t>(run->direction)] += run->bytes;
    }
  }
  const std::uint64_t start_ns = now_ns();
  std::uint64_t end_ns = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != 0) end_ns = std::max(end_ns, device_->links[i].book(bytes[i], start_ns));
  }
  return end_ns;
}

namespace {

// What of a table is copied or filled at once. Pages of data are more, and are not asked about.
constexpr std::uint64_t table_run_bytes_max = 32 * 1024;

// Kernels use pins and marks meanwhile. Whole words where they are: a pin that is read as 0 is behind the kernel's
// stores, which a copy of the page is to find.
template <typename Unit>
void copy_of_table(std::uint64_t destination, std::uint64_t source, std::uint64_t bytes) noexcept {
  for (std::uint64_t at = 0; at < bytes; at += sizeof(Unit)) {
    const Unit seen = std::atomic_ref<Unit>(*reinterpret_cast<Unit*>(source + at)).load(std::memory_order_acquire);
    std::memcpy(reinterpret_cast<void*>(destination + at), &seen, sizeof seen);
  }
}

void fill_table(std::uint64_t destination, std::uint8_t value, std::uint64_t bytes) noexcept {
  for (std::uint64_t at = 0; at < bytes; ++at)
    std::atomic_ref<std::uint8_t>(*reinterpret_cast<std::uint8_t*>(destination + at))
        .store(value, std::memory_order_release);
}

}  // namespace

gm_status stream::run_fills(const unit_entry* unit) noexcept {
  for (const unit_entry* entry = unit; entry != nullptr; entry = entry->next_of_unit) {
    for (const fill_run* run = entry->fills; run != entry->fills + entry->fill_count; ++run) {
      if (device_->failures->is_due(operation::fill_run)) return fail(GM_ERROR_DEVICE, "a fill was made to fail");
      if (run->bytes <= table_run_bytes_max && device_->memory->is_in_table(run->destination))
        fill_table(run->destination, static_cast<std::uint8_t>(run->value), run->bytes);
      else
        std::memset(reinterpret_cast<void*>(run->destination), run->value, run->bytes);
    }
  }
  return GM_OK;
}

gm_status stream::run_copies(const unit_entry* unit) noexcept {
  for (const unit_entry* entry = unit; entry != nullptr; entry = entry->next_of_unit) {
    for (const copy_run* run = entry->copies; run != entry->copies + entry->copy_count; ++run) {
      if (device_->failures->is_due(operation::copy_run)) return fail(GM_ERROR_DEVICE, "a copy was made to fail");
      if (run->bytes > table_run_bytes_max || !device_->memory->is_in_table(run->source))
        std::memcpy(reinterpret_cast<void*>(run->destination), reinterpret_cast<const void*>(run->source), run->bytes);
      else if (run->source % sizeof(std::uint32_t) == 0 && run->bytes % sizeof(std::uint32_t) == 0)
        copy_of_table<std::uint32_t>(run->destination, run->source, run->bytes);
      else
        copy_of_table<std::uint8_t>(run->destination, run->source, run->bytes);
    }
  }
  return GM_OK;
}

// Kernels look at them at the same time.
void stream::write_words(const unit_entry* unit) noexcept {
  for (const unit_entry* entry = unit; entry != nullptr; entry = entry->next_of_unit)
    for (const word_write* word = entry->words; word != entry->words + entry->word_count; ++word)
      std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(word->destination))
          .store(word->value, std::memory_order_seq_cst);
}

gm_status stream::run_call(const unit_entry* unit) noexcept {
  try {
    const running_mark mark({this, unit->position});
    unit->function(unit->argument);
    return GM_OK;
  } catch (...) {
    return fail(GM_ERROR_DEVICE, "a function called in stream order threw an exception");
  }
}

gm_status stream::run_launch(const unit_entry* unit) noexcept {
  if (device_->failures->is_due(operation::launch_run)) return fail(GM_ERROR_DEVICE, "a kernel was made to fail");
  return sim::launch_in_parallel(unit->count, unit->body, unit->argument, {this, unit->position});
}

gm_status stream::run_finish(const unit_entry* unit) noexcept {
  try {
    const running_mark mark({this, unit->position});
    unit->function(unit->argument);
    return GM_OK;
  } catch (...) {
    return fail(GM_ERROR_DEVICE, "a kernel's finish function threw an exception");
  }
}

}  // namespace gm::device
