// SPDX-License-Identifier: Apache-2.0
#include "migrate/registrar.h"

#include <algorithm>
#include <limits>
#include <new>

#include "base/log.h"
#include "device/backend_loader.h"
#include "policy/registration.h"

namespace gm {

status registrar::start(const std::vector<backend>& backends, std::uint64_t budget_bytes) {
  budget_ = budget_bytes / block_bytes;
  if (budget_ == 0) return status::ok;
  for (const backend& each : backends) {
    if (registers(*each.api))
      backends_.push_back(each);
    else if (each.api->host_register != nullptr)
      log_line(log_level::info,
               "%s: no host memory is registered: the driver would wait for the device, or would not say",
               each.api->name);
  }
  if (backends_.empty()) return status::ok;
  const status s = thread_.start(
      "gmem-registrar", any_cpu, [](void* self) { static_cast<registrar*>(self)->work(); }, this);
  if (s == status::ok) vm_.registered = this;
  return s;
}

bool registrar::registers(const device::backend_table& api) const {
  bool all = api.host_register != nullptr;
  for (unsigned n = 1; n < vm_.nodes; ++n)
    if (vm_.device(n).api == &api) all = all && (vm_.device(n).info.capabilities & device::registers_host_memory) != 0;
  return all;
}

void registrar::stop() {
  if (!thread_.running()) return;
  stopping_.store(true);
  wanted_.happened();
  thread_.join();
  vm_.registered = nullptr;
}

// ---- Those who move and free ---------------------------------------------------------------------------------------

void registrar::copied_locked(block_index index, block& b, unsigned pages) {
  if (b.host_memory != registration::none || b.backed != all_pages) return;
  constexpr std::uint32_t most = std::numeric_limits<std::uint16_t>::max();
  b.copied_pages = static_cast<std::uint16_t>(std::min(b.copied_pages + pages, most));
  if (!worth_registering(b.copied_pages)) return;
  b.copied_pages = 0;
  for (std::uint32_t left = pass_over_.load(std::memory_order_relaxed); left != 0;)
    if (pass_over_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) return;
  {
    lock_guard guard(lock_);
    if (offered_count_ == offered_.size()) return;
    offered_[(offered_first_ + offered_count_++) % offered_.size()] = index;
  }
  wanted_.happened();
}

bool registrar::retire_locked(block_index index, block& b) {
  if (b.host_memory != registration::registered || b.busy.load(std::memory_order_relaxed) != no_pages) return false;
  for (const backend& each : backends_) each.api->host_retire(each.handle, vm_.memory.alias(offset_of(index)));
  b.host_memory = registration::unregistering;
  vm_.own_work.fetch_add(1);
  {
    lock_guard guard(lock_);
    retired_.push_back(index);
    retired_count_.fetch_add(1);
  }
  wanted_.happened();
  return true;
}

void registrar::free_later(extent& e) {
  vm_.own_work.fetch_add(1);
  {
    lock_guard guard(lock_);
    frees_.push_back(e);
  }
  wanted_.happened();
}

bool host_memory_is_loose_locked(const vm_object& vm, block_index index, block& b) {
  if (b.host_memory == registration::none) return true;
  (void)vm.registered->retire_locked(index, b);
  return false;
}

// ---- The thread ----------------------------------------------------------------------------------------------------

void registrar::work() {
  for (;;) {
    const std::uint32_t seen = wanted_.now();
    block_index index;
    if (take_retired(index))
      unregister_block(index);
    else if (work_off_frees())
      continue;
    else if (stopping_.load())
      return;
    else if (take_offered(index))
      register_block(index);
    else
      wanted_.wait_past(seen);
  }
}

bool registrar::take_retired(block_index& index) {
  lock_guard guard(lock_);
  if (retired_first_ == retired_.size()) {
    retired_.clear();
    retired_first_ = 0;
    return false;
  }
  index = retired_[retired_first_++];
  if (retired_first_ >= offered_.size() && retired_first_ * 2 >= retired_.size()) {
    retired_.erase(retired_.begin(), retired_.begin() + static_cast<std::ptrdiff_t>(retired_first_));
    retired_first_ = 0;
  }
  return true;
}

bool registrar::take_offered(block_index& index) {
  lock_guard guard(lock_);
  if (offered_count_ == 0) return false;
  index = offered_[offered_first_];
  offered_first_ = (offered_first_ + 1) % offered_.size();
  --offered_count_;
  return true;
}

void registrar::register_block(block_index index) {
  if (!charge()) return;
  block& b = vm_.table.at(index);
  {
    block_guard guard(b.lock);
    // It was offered some time ago. A free that is reclaiming it has looked already, and counts on its staying loose.
    if (b.host_memory != registration::none || b.backed != all_pages || b.allocated != all_pages) {
      registered_.fetch_sub(1);
      return;
    }
    b.host_memory = registration::registering;
    vm_.own_work.fetch_add(1);
  }
  const bool is_registered = call_backends(index);
  {
    block_guard guard(b.lock);
    b.host_memory = is_registered ? registration::registered : registration::none;
  }
  if (!is_registered) {
    registered_.fetch_sub(1);
    refuse(last_error());
  }
  work_off_frees();
  vm_.own_work_ended();
}

// One more block within the budget, and room to retire it later.
bool registrar::charge() {
  if (registered_.load() == budget_) {
    refuse("that is GM_REGISTERED_BUDGET");
    return false;
  }
  try {
    lock_guard guard(lock_);
    const std::size_t needed = retired_.size() + registered_.load() + 1;
    if (retired_.capacity() < needed) retired_.reserve(2 * needed);
  } catch (const std::bad_alloc&) {
    return false;
  }
  registered_.fetch_add(1);
  return true;
}

// One that has it is enough: it may be in use by then, and the others ignore that it is taken back.
bool registrar::call_backends(block_index index) {
  bool any = false;
  for (const backend& each : backends_)
    any |= device::check_device(*each.api,
                                each.api->host_register(each.handle, vm_.memory.alias(offset_of(index)), block_bytes),
                                "registering host memory") == status::ok;
  return any;
}

void registrar::refuse(const char* why) {
  pass_over_.store(offers_passed_over, std::memory_order_relaxed);
  if (warned_) return;
  warned_ = true;
  log_line(
      log_level::warn,
      "%llu MiB of host memory are registered with the copy engines, and no more will be (%s): all other memory is "
      "copied more slowly",
      static_cast<unsigned long long>(registered_bytes() >> 20), why);
}

void registrar::unregister_block(block_index index) {
  for (const backend& each : backends_)
    each.api->host_unregister(each.handle, vm_.memory.alias(offset_of(index)), block_bytes);
  block& b = vm_.table.at(index);
  {
    block_guard guard(b.lock);
    b.host_memory = registration::none;
    b.copied_pages = 0;
  }
  registered_.fetch_sub(1);
  retired_count_.fetch_sub(1);
  pass_over_.store(0, std::memory_order_relaxed);
  work_off_frees();  // what this gives back was waited for as part of the unregistering
  vm_.own_work_ended();
}

// Those that are first, as long as their memory is loose. False: there are none.
bool registrar::work_off_frees() {
  for (bool any = false;; any = true) {
    extent* next = nullptr;
    {
      lock_guard guard(lock_);
      next = frees_.pop_front();
    }
    if (next == nullptr) return any;
    if (!vm_.retry_free(vm_, *next)) {
      lock_guard guard(lock_);
      frees_.push_front(*next);
      return any;
    }
    vm_.own_work_ended();
  }
}

}  // namespace gm
