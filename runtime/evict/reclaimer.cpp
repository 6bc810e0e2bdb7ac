// SPDX-License-Identifier: Apache-2.0
#include "evict/reclaimer.h"

#include <algorithm>

#include "evict/room.h"

namespace gm {
namespace {

constexpr std::uint32_t most_free = 64;

}  // namespace

// Enough for some requests beside those that are being served; of few frames, few.
std::uint32_t reclaimer::low() const { return std::clamp<std::uint32_t>(device_.pool.capacity() / 16, 1, most_free); }

status reclaimer::start() {
  return thread_.start(
      "gmem-reclaim", any_cpu, [](void* self) { static_cast<reclaimer*>(self)->work(); }, this);
}

void reclaimer::stop() {
  if (!thread_.running()) return;
  stopping_.store(true);
  wanted_.happened();
  thread_.join();
}

void reclaimer::work() {
  for (std::uint32_t seen = wanted_.now(); !stopping_.load(); wanted_.wait_past(seen)) {
    seen = wanted_.now();
    const std::uint32_t free = device_.pool.free_frames();
    if (free >= low()) continue;
    lock_guard admitted(device_.admission);
    const std::uint32_t target = std::min(high(), device_.pool.capacity());
    if (evict_some(vm_, moves_, device_, target - std::min(free, target)) != 0)
      successes_.fetch_add(1, std::memory_order_release);
    else
      failures_.fetch_add(1, std::memory_order_release);
  }
}

}  // namespace gm
