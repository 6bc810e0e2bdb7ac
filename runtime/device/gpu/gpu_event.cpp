// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/gpu_event.h"

#include <new>

#include "device/gpu/gpu_error.h"
#include "device/parts/clock.h"

namespace gm::device::gpu {
namespace {

// How long an event is asked for before the thread sleeps until it happens: about what a copy of a page takes, and less
// than the driver's wake-up costs.
constexpr std::uint64_t event_spin_ns = 30'000;

bool is_pending(vendor::error error) noexcept { return vendor::classify(error) == error_class::not_ready; }

bool is_settled(vendor::error error) noexcept {
  const error_class meaning = vendor::classify(error);
  return meaning == error_class::none || meaning == error_class::lost || meaning == error_class::captured;
}

template <class Wait>
vendor::error wait_twice(Wait wait) noexcept {
  const vendor::error error = wait();
  if (is_settled(error)) return error;
  ignore(error);
  return wait();
}

}  // namespace

vendor::error wait_for(const event_ref& event) noexcept {
  vendor::error error = vendor::success;
  spin_for_ns(event_spin_ns, [&] {
    error = vendor::query_event(event.handle());
    return !is_pending(error);
  });
  if (is_settled(error)) return error;
  ignore(error);
  return wait_twice([&] { return vendor::synchronize_event(event.handle()); });
}

vendor::error wait_for_all(vendor::stream on) noexcept {
  return wait_twice([&] { return vendor::synchronize_stream(on); });
}

event_ref::~event_ref() {
  if (event_ != nullptr && event_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    event_->pool->give_back(event_);
  }
}

event_ref event_pool::take(vendor::error* why) noexcept {
  const std::scoped_lock lock(mutex_);
  *why = vendor::success;
  pooled_event* event = idle_;
  if (event != nullptr) {
    idle_ = event->next_idle;
  } else {
    try {
      event = &all_.emplace_back();
    } catch (const std::bad_alloc&) {
      return {};
    }
    *why = vendor::create_event(&event->handle);
    if (*why != vendor::success) {
      all_.pop_back();
      return {};
    }
    event->pool = this;
  }
  event->references.store(1, std::memory_order_relaxed);
  return event_ref(event);
}

void event_pool::give_back(pooled_event* event) noexcept {
  const std::scoped_lock lock(mutex_);
  event->next_idle = idle_;
  idle_ = event;
}

void event_pool::destroy_all() noexcept {
  const std::scoped_lock lock(mutex_);
  for (pooled_event& each : all_) ignore(vendor::destroy_event(each.handle));
  all_.clear();
  idle_ = nullptr;
}

}  // namespace gm::device::gpu
