// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/gpu_queue.h"

#include <new>

#include "device/parts/clock.h"
#include "device/parts/runner_thread.h"

namespace gm::device::gpu {
namespace {

// How long the thread of an empty queue looks for work before it sleeps: a wake-up through the kernel costs more.
constexpr std::uint64_t runner_spin_ns = 20'000;

}  // namespace

unit_queue::~unit_queue() {
  while (free_ != nullptr) {
    unit* const gone = free_;
    free_ = gone->next;
    delete gone;
  }
}

unit* unit_queue::take() noexcept {
  std::unique_lock lock(mutex_);
  if (in_use_ >= capacity_units && !is_runner_thread()) {
    ++waiting_for_room_;
    has_room_.wait(lock, [this] { return in_use_ < capacity_units; });
    --waiting_for_room_;
  }
  unit* taken = free_;
  if (taken != nullptr) {
    free_ = taken->next;
    taken->next = nullptr;
  } else {
    taken = new (std::nothrow) unit;
    if (taken == nullptr) return nullptr;
  }
  ++in_use_;
  return taken;
}

void unit_queue::give_back(unit* unused) noexcept {
  const std::scoped_lock lock(mutex_);
  recycle_locked(unused);
}

// The lists and the words keep their memory for the next user.
void unit_queue::recycle_locked(unit* used) noexcept {
  used->status = GM_OK;
  used->words.clear();
  used->done = nullptr;
  used->ready = nullptr;
  used->argument = nullptr;
  used->function = nullptr;
  used->awaited = {};
  used->reached = {};
  used->end = {};
  used->gate = 0;
  used->fills.clear();
  used->copies.clear();
  used->writes.clear();
  used->next = free_;
  free_ = used;
  --in_use_;
  // Not at every unit: who waits should find room for more than one.
  const bool is_time = in_use_ <= capacity_units / 4 * 3 || in_use_ % 64 == 0;
  if (waiting_for_room_ != 0 && in_use_ < capacity_units && is_time) has_room_.notify_all();
}

std::uint64_t unit_queue::push(unit* filled, stream* owner, fence* completion) noexcept {
  std::unique_lock lock(mutex_);
  const std::uint64_t position = enqueued_.load(std::memory_order_relaxed) + 1;
  filled->position = position;
  filled->next = nullptr;
  (first_ == nullptr ? first_ : last_->next) = filled;
  last_ = filled;
  if (completion != nullptr) *completion = {owner, position};
  enqueued_.store(position, std::memory_order_release);
  const bool wake = runner_sleeps_;
  runner_sleeps_ = false;
  lock.unlock();
  if (wake) has_work_.notify_one();
  return position;
}

unit* unit_queue::next() noexcept {
  spin_for_ns(runner_spin_ns, [this] { return enqueued() != finished_.load(std::memory_order_relaxed); });
  std::unique_lock lock(mutex_);
  while (first_ == nullptr && !is_stopped_) {
    runner_sleeps_ = true;
    has_work_.wait(lock);
  }
  runner_sleeps_ = false;
  return first_;
}

void unit_queue::done(unit* first) noexcept {
  const std::scoped_lock lock(mutex_);
  first_ = first->next;
  if (first_ == nullptr) last_ = nullptr;
  finished_.store(first->position, std::memory_order_relaxed);
  recycle_locked(first);
}

void unit_queue::stop() noexcept {
  const std::scoped_lock lock(mutex_);
  is_stopped_ = true;
  has_work_.notify_one();
}

void unit_queue::restart() noexcept {
  const std::scoped_lock lock(mutex_);
  is_stopped_ = false;
}

event_ref unit_queue::end_of(std::uint64_t position) const noexcept {
  const std::scoped_lock lock(mutex_);
  for (const unit* each = first_; each != nullptr; each = each->next) {
    if (each->position == position) return each->end;
  }
  return {};
}

}  // namespace gm::device::gpu
