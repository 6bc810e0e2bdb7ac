// SPDX-License-Identifier: Apache-2.0
// gpu_stream.cpp - the side of those who enqueue.
#include "device/gpu/gpu_stream.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <new>
#include <utility>

#include "device/gpu/device_thread.h"
#include "device/gpu/gpu_error.h"
#include "device/gpu/on_device.h"

namespace gm::device {

using gpu::event_ref;
using gpu::unit;
using gpu::unit_kind;
namespace vendor = gpu::vendor;

namespace {

// Where a driver takes a list, so many at a time.
constexpr std::size_t batch_runs_max = 64;

gm_status no_memory_for_a_unit() { return fail(GM_ERROR_NO_MEMORY, "no memory to enqueue a unit"); }

// A gate for devices that cannot wait for a value: a host function that blocks. It outlives the unit that made it,
// since the flag may be set before the driver comes to it. Until then it stands in a list; those that the driver of a
// lost device never comes to, or may yet come to, stay there.
struct blocking_gate {
  std::uint64_t* flag;
  std::uint64_t value;
  blocking_gate* previous = nullptr;
  blocking_gate* next = nullptr;

  static inline std::mutex mutex;
  static inline blocking_gate* first = nullptr;

  static blocking_gate* make(std::uint64_t* flag, std::uint64_t value) noexcept {
    auto* const made = new (std::nothrow) blocking_gate{flag, value};
    if (made == nullptr) return nullptr;
    const std::scoped_lock lock(mutex);
    made->next = first;
    if (first != nullptr) first->previous = made;
    first = made;
    return made;
  }
  static void end(blocking_gate* gone) noexcept {
    {
      const std::scoped_lock lock(mutex);
      (gone->previous != nullptr ? gone->previous->next : first) = gone->next;
      if (gone->next != nullptr) gone->next->previous = gone->previous;
    }
    delete gone;
  }
  static void wait(void* argument) noexcept {
    auto* const self = static_cast<blocking_gate*>(argument);
    const std::atomic_ref<std::uint64_t> flag(*self->flag);
    for (std::uint64_t now = flag.load(); now < self->value; now = flag.load()) flag.wait(now);
    end(self);
  }
};

}  // namespace

// ---- Life ----------------------------------------------------------------------------------------------------------

// A driver may wait for all work of a device before it gives or takes pinned memory, and at its first gate a stream is
// what others wait for. So the flag comes with the stream, and stays with it for as long as the device is open.
gm_status stream::take_flag(device* where) noexcept {
  if (flag_owner_ == where) return GM_OK;
  if (flag_owner_ != nullptr) {
    const gpu::on_device there(flag_owner_->context);
    forget(*flag_owner_);
  }
  const vendor::error error = vendor::create_flag(&flag_);
  if (error != vendor::success) {
    flag_ = {};
    return where->failed(error, "making a flag for a gate");
  }
  flag_owner_ = where;
  gates_ = 0;
  return GM_OK;
}

void stream::forget(const device& closing) noexcept {
  if (flag_owner_ != &closing) return;
  gpu::ignore(vendor::destroy_flag(flag_));
  flag_ = {};
  flag_owner_ = nullptr;
}

gm_status stream::begin(device* where, std::uint32_t flags) noexcept {
  if (const gm_status status = take_flag(where); status != GM_OK) return status;
  device_ = where;
  is_independent_ = (flags & stream_independent) != 0;
  failure_.clear();
  refusal_.clear();
  queue_.restart();
  vendor::error refusal = vendor::success;
  const gm_status status = gpu::start_device_thread(
      "gmem-gpu", where->context, [](void* self) { static_cast<stream*>(self)->thread_main(); }, this, thread_,
      &refusal);
  if (status == GM_OK) return GM_OK;
  device_ = nullptr;
  return refusal == vendor::success ? status : where->failed(refusal, "working on a device");
}

gm_status stream::start(device* where, std::uint32_t flags) noexcept {
  vendor::stream made = vendor::no_stream;
  const gpu::on_device here(where->context);
  vendor::error error = here.error();
  if (error == vendor::success) error = vendor::create_stream(&made, (flags & stream_independent) != 0);
  if (error != vendor::success) return where->failed(error, "making a stream");
  native_ = made;
  owns_native_ = true;
  const gm_status status = begin(where, flags);
  if (status != GM_OK) gpu::ignore(vendor::destroy_stream(std::exchange(native_, vendor::no_stream)));
  return status;
}

gm_status stream::start_from(device* where, vendor::stream native) noexcept {
  const gpu::on_device here(where->context);
  vendor::error error = here.error();
  if (error == vendor::success) error = vendor::stream_is_whole(native);
  if (error != vendor::success) return where->failed(error, "using a stream of the program's");
  native_ = native;
  owns_native_ = false;
  return begin(where, stream_ordinary);
}

void stream::retire() noexcept {
  queue_.stop();
  if (thread_.joinable()) thread_.join();
  const gpu::on_device here(device_->context);
  if (!device_->loss.is_set()) {
    const vendor::error error = gpu::wait_for_all(native_);
    if (error != vendor::success) device_->wait_failed(error, "waiting for a stream's end");
  }
  if (owns_native_) gpu::ignore(vendor::destroy_stream(native_));
  if (helper_ != vendor::no_stream) gpu::ignore(vendor::destroy_stream(helper_));
  native_ = helper_ = vendor::no_stream;
  device_ = nullptr;
}

// ---- One unit ------------------------------------------------------------------------------------------------------

// submit() gives the unit's work to the device, with the lock held and the device current. When it fails, nothing of
// the unit is on the device, and nothing was enqueued.
template <class Submit>
gm_status stream::enqueue(unit* u, fence* completion, Submit submit) noexcept {
  const std::scoped_lock lock(enqueue_mutex_);
  const gpu::on_device here(device_->context);
  gm_status status = device_->loss.current();
  if (status == GM_OK && here.error() != vendor::success) status = device_->failed(here.error(), "working on a device");
  if (status == GM_OK) status = submit();
  if (status != GM_OK) {
    queue_.give_back(u);
    return status;
  }
  const bool is_refused = u->status != GM_OK && !is_independent_ && !refusal_.is_set();
  if (is_refused) refusal_.set(u->status, u->words.c_str());
  const std::uint64_t position = queue_.push(u, this, completion);  // the unit may be gone now
  if (is_refused) refused_at_ = position;
  return GM_OK;
}

// The unit fails when its turn comes, with this thread's words.
void stream::doom(unit* u, gm_status why) noexcept {
  if (u->status != GM_OK) return;
  u->status = why;
  try {
    u->words = error_text();
  } catch (const std::bad_alloc&) {
    u->words.clear();
  }
}

// True when the stream has failed: the unit is in its place, and does nothing.
bool stream::skip_if_failed(unit* u) noexcept {
  gm_status why = failure_.current();
  if (why == GM_OK) why = refusal_.current();
  if (why == GM_OK) return false;
  doom(u, why);
  return true;
}

gm_status stream::take_event(event_ref* event) noexcept {
  vendor::error error = vendor::success;
  *event = device_->events.take(&error);
  if (*event) return GM_OK;
  return error == vendor::success ? no_memory_for_a_unit() : device_->failed(error, "making an event");
}

// u->end is an event to record. A unit whose end cannot be recorded has failed, and nobody waits for it.
void stream::record_end(unit* u) noexcept {
  if (const vendor::error error = vendor::record_event(u->end.handle(), native_); error != vendor::success) {
    u->end = {};
    doom(u, device_->failed(error, "recording an event"));
  }
}

// ---- Transfers -----------------------------------------------------------------------------------------------------

bool stream::needs_host(const transfer_work& what) const noexcept {
  if (what.word_count != 0 && !device_->facts.writes_values) return true;
  return std::any_of(what.copies, what.copies + what.copy_count,
                     [&](const copy_run& run) { return run.bytes != 0 && path_of(run) != run_path::by_stream; });
}

stream::run_path stream::path_of(const copy_run& run) const noexcept {
  const gpu::host_registrations& registered = device_->owner->registrations;
  const bool from_host = run.direction == direction::host_to_device;
  const bool to_host = run.direction == direction::device_to_host;
  if ((!from_host && out_of_reach(run.source) != nullptr) || (!to_host && out_of_reach(run.destination) != nullptr)) {
    return run_path::out_of_reach;
  }
  // Of memory that is not registered the driver may block, or read the source before its time.
  if (from_host && !registered.covers(run.source, run.bytes)) return run_path::staged_to_device;
  if (to_host && !registered.covers(run.destination, run.bytes)) return run_path::staged_to_host;
  return run_path::by_stream;
}

// The device whose memory that is, when this stream's own cannot copy from and to it.
device* stream::out_of_reach(std::uint64_t address) const noexcept {
  if (!device_->owner->has_several_devices()) return nullptr;
  device* const other = device_->owner->owner_of(address);
  return other == nullptr || other == device_ || other->memory.is_reached_by(device_->index) ? nullptr : other;
}

bool stream::keep(unit* u, const transfer_work& what) noexcept {
  try {
    u->fills.assign(what.fills, what.fills + what.fill_count);
    u->copies.assign(what.copies, what.copies + what.copy_count);
    u->writes.assign(what.words, what.words + what.word_count);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

// Kernels that fetch their own pages run while they are brought, and what is written at another address of a frame than
// theirs they are not promised to see. So all copies and fills use the lasting address of a frame that has one.
void stream::redirect(unit* u) noexcept {
  for (fill_run& run : u->fills) run.destination = where_kernels_look(run.destination, run.bytes);
  for (copy_run& run : u->copies) {
    if (run.direction != direction::device_to_host) run.destination = where_kernels_look(run.destination, run.bytes);
    if (run.direction != direction::host_to_device) run.source = where_kernels_look(run.source, run.bytes);
  }
}

std::uint64_t stream::where_kernels_look(std::uint64_t address, std::uint64_t bytes) const noexcept {
  const backend& all = *device_->owner;
  const device* const owner = all.has_several_devices() ? all.owner_of(address) : device_;
  return owner != nullptr ? owner->memory.where_kernels_look(address, bytes) : address;
}

gm_status stream::transfer(readiness ready, const transfer_work& what, callback done, void* argument,
                           fence* completion) noexcept {
  const bool by_host = needs_host(what) || (ready != nullptr && what.fill_count + what.copy_count != 0);
  unit* const u = queue_.take();
  if (u == nullptr) return no_memory_for_a_unit();
  const bool is_kept = by_host || device_->owner->has_lasting_frames();
  if (is_kept && !keep(u, what)) {
    queue_.give_back(u);
    return no_memory_for_a_unit();
  }
  if (is_kept) redirect(u);
  u->kind = by_host ? unit_kind::host_transfer : unit_kind::transfer;
  u->done = done;
  u->ready = ready;
  u->argument = argument;
  return enqueue(u, completion, [&] {
    if (const gm_status status = take_event(&u->end); status != GM_OK) return status;
    if (!skip_if_failed(u)) {
      if (by_host) {
        count_runs(u);
        return submit_host_step(u);
      }
      transfer_work direct = what;
      if (is_kept) {
        direct.fills = u->fills.data();
        direct.copies = u->copies.data();
      }
      if (const gm_status status = submit(u, direct); status != GM_OK) return status;
    }
    record_end(u);
    return GM_OK;
  });
}

// Which of the runs is made to fail is decided here, so that what is enqueued behind the unit is skipped.
void stream::count_runs(unit* u) noexcept {
  counted_failures& failures = device_->owner->failures;
  u->runs_max = u->fills.size() + u->copies.size();
  for (std::size_t i = 0; i < u->runs_max; ++i) {
    const bool is_fill = i < u->fills.size();
    if (!failures.is_due(is_fill ? operation::fill_run : operation::copy_run)) continue;
    u->runs_max = i;
    doom(u, fail(GM_ERROR_DEVICE, is_fill ? "a fill was made to fail" : "a copy was made to fail"));
  }
}

gm_status stream::submit(unit* u, const transfer_work& what) noexcept {
  bool any = false;  // is on the device, or as good as: then a refusal is the unit's failure and not the caller's
  gm_status status = submit_fills(u, what, &any);
  if (status == GM_OK && u->status == GM_OK) status = submit_copies(u, what, &any);
  if (status == GM_OK && u->status == GM_OK && what.word_count != 0) {
    any = true;  // of a refused list some may be on their way
    status = submit_words(what);
  }
  if (status == GM_OK || !any) return status;
  doom(u, status);
  return GM_OK;
}

gm_status stream::submit_words(const transfer_work& what) noexcept {
  const vendor::error error = vendor::write_values(what.words, what.word_count, native_);
  return error == vendor::success ? GM_OK : device_->failed(error, "writing words");
}

gm_status stream::submit_fills(unit* u, const transfer_work& what, bool* any) noexcept {
  for (const fill_run* run = what.fills; run != what.fills + what.fill_count; ++run) {
    if (device_->owner->failures.is_due(operation::fill_run)) {
      doom(u, fail(GM_ERROR_DEVICE, "a fill was made to fail"));
      return GM_OK;
    }
    const vendor::error error = fill_one(*run, what.word_count != 0, native_);
    if (error != vendor::success) return device_->failed(error, "filling device memory");
    *any = true;
  }
  return GM_OK;
}

gm_status stream::submit_copies(unit* u, const transfer_work& what, bool* any) noexcept {
  const copy_run* run = what.copies;
  const copy_run* const last = run + what.copy_count;
  while (run != last) {
    // As many as go the same way and may go in one call; one where there are no such calls.
    const bool batches = device_->facts.copies_in_batches && run->direction != direction::device_to_device;
    std::size_t count = 0;
    bool is_made_to_fail = false;
    while (run + count != last && count < (batches ? batch_runs_max : 1) && run[count].direction == run->direction &&
           !is_made_to_fail) {
      is_made_to_fail = device_->owner->failures.is_due(operation::copy_run);
      if (!is_made_to_fail) ++count;
    }
    if (count != 0) {
      *any = *any || count > 1;  // of a refused batch some may be on their way
      const vendor::error error = count == 1 ? copy_one(*run, native_) : vendor::copy_batch(run, count, native_);
      if (error != vendor::success) return device_->failed(error, "copying");
      *any = true;
    }
    if (is_made_to_fail) {
      doom(u, fail(GM_ERROR_DEVICE, "a copy was made to fail"));
      return GM_OK;
    }
    run += count;
  }
  return GM_OK;
}

// by_copies: kernels may be waiting for it, and hold what a fill needs to run.
vendor::error stream::fill_one(const fill_run& run, bool by_copies, vendor::stream on) noexcept {
  if (by_copies && run.value == 0) return device_->zero.fill(run.destination, run.bytes, on);
  return vendor::fill(run.destination, run.value, run.bytes, on);
}

vendor::error stream::copy_one(const copy_run& run, vendor::stream on) noexcept {
  if (run.direction == direction::device_to_device) {
    const device* const to = device_->owner->owner_of(run.destination);
    const device* const from = device_->owner->owner_of(run.source);
    if (to != nullptr && from != nullptr && to != from) {
      return vendor::copy_between_devices(run, to->index, from->index, on);
    }
  }
  return vendor::copy(run, on);
}

// ---- Host steps ----------------------------------------------------------------------------------------------------

// u->end is taken already.
gm_status stream::submit_host_step(unit* u) noexcept {
  if (const gm_status status = take_event(&u->reached); status != GM_OK) return status;
  if (const vendor::error error = vendor::record_event(u->reached.handle(), native_); error != vendor::success) {
    return device_->failed(error, "recording an event");
  }
  if (const gm_status status = close_gate(gates_ + 1); status != GM_OK) return status;
  u->gate = ++gates_;
  record_end(u);
  return GM_OK;
}

gm_status stream::close_gate(std::uint64_t value) noexcept {
  vendor::error error = vendor::success;
  if (device_->facts.waits_for_values) {
    error = vendor::wait_for_value(native_, flag_, value);
  } else {
    auto* const gate = blocking_gate::make(flag_.host, value);
    if (gate == nullptr) return no_memory_for_a_unit();
    error = vendor::call_host(native_, &blocking_gate::wait, gate);
    if (error != vendor::success) blocking_gate::end(gate);
  }
  return error == vendor::success ? GM_OK : device_->failed(error, "closing a gate");
}

gm_status stream::call(void (*function)(void*), void* argument) noexcept {
  unit* const u = queue_.take();
  if (u == nullptr) return no_memory_for_a_unit();
  u->kind = unit_kind::call;
  u->function = function;
  u->argument = argument;
  return enqueue(u, nullptr, [&] {
    if (const gm_status status = take_event(&u->end); status != GM_OK) return status;
    if (!skip_if_failed(u)) return submit_host_step(u);
    record_end(u);
    return GM_OK;
  });
}

// ---- Fences --------------------------------------------------------------------------------------------------------

gm_status stream::record(callback done, void* argument, fence* completion) noexcept {
  unit* const u = queue_.take();
  if (u == nullptr) return no_memory_for_a_unit();
  u->kind = unit_kind::fence;
  u->done = done;
  u->argument = argument;
  return enqueue(u, completion, [&] {
    const gm_status status = take_event(&u->end);
    if (status == GM_OK) record_end(u);
    return status;
  });
}

gm_status stream::wait_for(fence awaited) noexcept {
  unit* const u = queue_.take();
  if (u == nullptr) return no_memory_for_a_unit();
  u->kind = unit_kind::wait;
  u->awaited = awaited;
  return enqueue(u, nullptr, [&] {
    // Held until the driver has seen it: the event may not be recorded again before.
    const event_ref end = awaited.stream->queue_.end_of(awaited.position);
    if (!end) return GM_OK;
    const vendor::error error = vendor::wait_for_event(native_, end.handle());
    return error == vendor::success ? GM_OK : device_->failed(error, "making a stream wait");
  });
}

gm_status stream::synchronize() noexcept {
  fence all;
  const gm_status recorded = record(nullptr, nullptr, &all);
  wait_complete(recorded == GM_OK ? all.position : queue_.enqueued());
  if (const gm_status lost = device_->loss.current(); lost != GM_OK) return lost;
  const std::scoped_lock lock(enqueue_mutex_);
  if (completed_.reached(refused_at_)) refusal_.clear();
  const gm_status failed = failure_.take();
  return failed != GM_OK ? failed : recorded;
}

}  // namespace gm::device
