// SPDX-License-Identifier: Apache-2.0
#include "device/sim/sim_stream.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <system_error>

#include "device/sim/sim_clock.h"
#include "device/sim/sim_device.h"
#include "device/sim/sim_launch.h"

namespace gm::device {
namespace {

using sim::fail;
using sim::unit_entry;
using sim::unit_kind;

constexpr std::uint64_t waiter_spin_ns = 10'000;

// The signals that a thread raises by its own instructions stay: a blocked one would kill the process past its handler.
sigset_t signals_of_others() {
  sigset_t set;
  sigfillset(&set);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) sigdelset(&set, own);
  return set;
}

// Whoever creates a stream may be bound to one CPU; the stream and the kernels it starts are not.
void use_the_cpus_of_the_process() {
  cpu_set_t cpus;
  if (sched_getaffinity(getpid(), sizeof cpus, &cpus) == 0) sched_setaffinity(0, sizeof cpus, &cpus);
}

}  // namespace

gm_status stream::start(device* where, std::uint32_t flags) noexcept {
  device_ = where;
  is_independent_ = (flags & stream_independent) != 0;
  failure_.store(GM_OK, std::memory_order_relaxed);
  queue_.restart();
  const sigset_t blocked = signals_of_others();
  sigset_t old;
  pthread_sigmask(SIG_SETMASK, &blocked, &old);
  gm_status status = GM_OK;
  try {
    thread_ = std::thread([this] { thread_main(); });
  } catch (const std::system_error& error) {
    status = fail(GM_ERROR_NO_MEMORY, "no thread for a stream: %s", error.what());
  } catch (const std::exception& error) {
    status = fail(GM_ERROR_NO_MEMORY, "no memory for a stream's thread: %s", error.what());
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  return status;
}

void stream::retire() noexcept {
  queue_.stop();
  if (thread_.joinable()) thread_.join();
}

void stream::thread_main() noexcept {
  pthread_setname_np(pthread_self(), "gmem-sim");
  use_the_cpus_of_the_process();
  sim::sim_queue::mark_runner_thread();
  unit_entry* unit = nullptr;
  while ((unit = queue_.next(unit)) != nullptr) {
    run_unit(unit);
    complete(unit->position);
  }
}

void stream::complete(std::uint64_t position) noexcept {
  completed_.store(position, std::memory_order_release);
  // Sequentially consistent, as notify's test for sleepers must not come before it.
  completions_.fetch_add(1, std::memory_order_seq_cst);
  completions_.notify_all();
}

void stream::wait_complete(std::uint64_t position) noexcept {
  if (sim::spin_for_ns(waiter_spin_ns, [=, this] { return is_complete(position); })) return;
  while (true) {
    const std::uint32_t seen = completions_.load(std::memory_order_seq_cst);
    if (is_complete(position)) return;
    completions_.wait(seen, std::memory_order_seq_cst);
  }
}

gm_status stream::synchronize() noexcept {
  wait_complete(queue_.enqueued());
  if (failure_.load(std::memory_order_acquire) == GM_OK) return GM_OK;
  const std::scoped_lock lock(failure_mutex_);
  const gm_status why = failure_.exchange(GM_OK, std::memory_order_acq_rel);
  return why == GM_OK ? GM_OK : fail(why, "%s", failure_text_);
}

void stream::set_failure(gm_status why, const char* text) noexcept {
  if (is_independent_ || why == GM_OK) return;
  const std::scoped_lock lock(failure_mutex_);
  if (failure_.load(std::memory_order_relaxed) != GM_OK) return;
  const std::size_t length = std::min(std::strlen(text), sizeof failure_text_ - 1);
  std::memcpy(failure_text_, text, length);
  failure_text_[length] = '\0';
  failure_.store(why, std::memory_order_release);
}

// The stream's failure, with its words as this thread's.
gm_status stream::current_failure() noexcept {
  if (failure_.load(std::memory_order_acquire) == GM_OK) return GM_OK;
  const std::scoped_lock lock(failure_mutex_);
  const gm_status why = failure_.load(std::memory_order_relaxed);
  return why == GM_OK ? GM_OK : fail(why, "%s", failure_text_);
}

void stream::run_unit(const unit_entry* unit) noexcept {
  if (unit->kind == unit_kind::wait) {
    unit->awaited_stream->wait_complete(unit->awaited_position);
    return;
  }
  gm_status result = current_failure();
  if (result == GM_OK && unit->kind != unit_kind::fence) {
    result = run_work(unit);
    if (result != GM_OK) set_failure(result, sim::error_text());
  }
  if (unit->done != nullptr) unit->done(unit->argument, result);
  if (unit->kind == unit_kind::launch && unit->function != nullptr) {
    result = run_finish(unit);
    if (result != GM_OK) set_failure(result, sim::error_text());
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
  sim::wait_until_ns(end_ns);
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
  const std::uint64_t start_ns = sim::now_ns();
  std::uint64_t end_ns = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != 0) end_ns = std::max(end_ns, device_->links[i].book(bytes[i], start_ns));
  }
  return end_ns;
}

gm_status stream::run_fills(const unit_entry* unit) noexcept {
  for (const unit_entry* entry = unit; entry != nullptr; entry = entry->next_of_unit) {
    for (const fill_run* run = entry->fills; run != entry->fills + entry->fill_count; ++run) {
      if (device_->failures->is_due(operation::fill_run)) return fail(GM_ERROR_DEVICE, "a fill was made to fail");
      std::memset(reinterpret_cast<void*>(run->destination), run->value, run->bytes);
    }
  }
  return GM_OK;
}

gm_status stream::run_copies(const unit_entry* unit) noexcept {
  for (const unit_entry* entry = unit; entry != nullptr; entry = entry->next_of_unit) {
    for (const copy_run* run = entry->copies; run != entry->copies + entry->copy_count; ++run) {
      if (device_->failures->is_due(operation::copy_run)) return fail(GM_ERROR_DEVICE, "a copy was made to fail");
      std::memcpy(reinterpret_cast<void*>(run->destination), reinterpret_cast<const void*>(run->source), run->bytes);
    }
  }
  return GM_OK;
}

gm_status stream::run_call(const unit_entry* unit) noexcept {
  try {
    unit->function(unit->argument);
    return GM_OK;
  } catch (...) {
    return fail(GM_ERROR_DEVICE, "a function called in stream order threw an exception");
  }
}

gm_status stream::run_launch(const unit_entry* unit) noexcept {
  if (device_->failures->is_due(operation::launch_run)) return fail(GM_ERROR_DEVICE, "a kernel was made to fail");
  return sim::launch_in_parallel(unit->count, unit->body, unit->argument);
}

gm_status stream::run_finish(const unit_entry* unit) noexcept {
  try {
    unit->function(unit->argument);
    return GM_OK;
  } catch (...) {
    return fail(GM_ERROR_DEVICE, "a kernel's finish function threw an exception");
  }
}

}  // namespace gm::device
