// SPDX-License-Identifier: Apache-2.0
#include "device/parts/running_units.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>

namespace gm::device {
namespace {

struct place {
  std::atomic<std::int32_t> thread{0};  // 0: free
  std::atomic<stream*> on{nullptr};
  std::atomic<std::uint64_t> position{0};

  // Only the thread itself writes, and only while it sleeps does anybody else need the truth.
  void set(fence unit) noexcept {
    on.store(unit.stream, std::memory_order_relaxed);
    position.store(unit.position, std::memory_order_release);
  }
  fence get() const noexcept {
    const std::uint64_t at = position.load(std::memory_order_acquire);
    return {on.load(std::memory_order_relaxed), at};
  }
};

constexpr std::size_t places_count = 1024;
constexpr std::size_t probes_max = 16;
constexpr std::size_t nowhere = places_count;
std::array<place, places_count> places;

std::size_t nth_place(std::int32_t thread, std::size_t n) noexcept {
  return (static_cast<std::size_t>(thread) + n) % places_count;
}

std::size_t place_of(std::int32_t thread) noexcept {
  for (std::size_t n = 0; n < probes_max; ++n) {
    const std::size_t at = nth_place(thread, n);
    if (places[at].thread.load(std::memory_order_acquire) == thread) return at;
  }
  return nowhere;
}

std::size_t take_place(std::int32_t thread) noexcept {
  for (std::size_t n = 0; n < probes_max; ++n) {
    const std::size_t at = nth_place(thread, n);
    std::int32_t free = 0;
    if (places[at].thread.compare_exchange_strong(free, thread, std::memory_order_acq_rel)) return at;
  }
  return nowhere;
}

std::int32_t this_thread() noexcept {
  thread_local const auto id = static_cast<std::int32_t>(syscall(SYS_gettid));
  return id;
}

}  // namespace

running_mark::running_mark(fence unit) noexcept : place_(place_of(this_thread())), outer_{} {
  if (place_ != nowhere)
    outer_ = places[place_].get();
  else
    place_ = take_place(this_thread());
  if (place_ != nowhere) places[place_].set(unit);
}

running_mark::~running_mark() {
  if (place_ == nowhere) return;
  places[place_].set(outer_);
  if (outer_.stream == nullptr) places[place_].thread.store(0, std::memory_order_release);
}

fence running_unit(std::int32_t thread) noexcept {
  const std::size_t at = place_of(thread);
  return at == nowhere ? fence{} : places[at].get();
}

}  // namespace gm::device
