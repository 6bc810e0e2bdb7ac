// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/host_copiers.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "device/gpu/staging_sizes.h"
#include "device/parts/clock.h"
#include "device/parts/runner_thread.h"

namespace gm::device::gpu {
namespace {

// How long a copier looks for more before it sleeps: the copies of one transfer come faster than a wake-up.
constexpr std::uint64_t copier_spin_ns = 20'000;

// About what a copier needs for one copy.
constexpr std::uint64_t finish_spin_ns = 30'000;

void carry_out(host_copy& copy) noexcept {
  std::memcpy(copy.destination, copy.source, copy.bytes);
  copy.is_done.store(true, std::memory_order_release);
  copy.is_done.notify_all();
}

}  // namespace

host_copiers::~host_copiers() {
  {
    const std::scoped_lock lock(mutex_);
    is_ending_ = true;
    has_work_.notify_all();
  }
  for (std::thread& each : threads_) each.join();
}

void host_copiers::post(host_copy& copy) noexcept {
  {
    const std::scoped_lock lock(mutex_);
    if (!is_started_) start_locked();
    copy.is_done.store(false, std::memory_order_relaxed);
    copy.is_posted = true;
    copy.next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = &copy;
    last_ = &copy;
    posted_.fetch_add(1, std::memory_order_release);
  }
  has_work_.notify_one();
}

void host_copiers::finish(host_copy& copy) noexcept {
  const auto is_done = [&] { return copy.is_done.load(std::memory_order_acquire); };
  if (is_done()) return;
  bool is_mine = false;
  {
    const std::scoped_lock lock(mutex_);
    is_mine = copy.is_posted;
    if (is_mine) unlink_locked(copy);
  }
  if (is_mine) {
    carry_out(copy);
  } else if (!spin_for_ns(finish_spin_ns, is_done)) {
    copy.is_done.wait(false, std::memory_order_acquire);
  }
}

// As many as there are to be had: none is no failure.
void host_copiers::start_locked() noexcept {
  is_started_ = true;
  const unsigned wanted = std::min(copiers_max, std::thread::hardware_concurrency() / 2);
  try {
    threads_.reserve(wanted);
  } catch (const std::bad_alloc&) {
    return;
  }
  for (unsigned i = 0; i < wanted; ++i) {
    std::thread started;
    const gm_status status = start_runner_thread(
        "gmem-copy", [](void* self) { static_cast<host_copiers*>(self)->thread_main(); }, this, started);
    if (status != GM_OK) return;
    threads_.push_back(std::move(started));
  }
}

void host_copiers::thread_main() noexcept {
  for (;;) {
    spin_for_ns(copier_spin_ns, [this] { return posted_.load(std::memory_order_acquire) != 0; });
    std::unique_lock lock(mutex_);
    has_work_.wait(lock, [this] { return first_ != nullptr || is_ending_; });
    if (first_ == nullptr) return;
    host_copy& mine = *first_;
    unlink_locked(mine);
    lock.unlock();
    carry_out(mine);
  }
}

void host_copiers::unlink_locked(host_copy& copy) noexcept {
  host_copy* before = nullptr;
  for (host_copy* each = first_; each != &copy; each = each->next) before = each;
  (before == nullptr ? first_ : before->next) = copy.next;
  if (last_ == &copy) last_ = before;
  copy.is_posted = false;
  posted_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace gm::device::gpu
