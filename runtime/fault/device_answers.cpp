// SPDX-License-Identifier: Apache-2.0
#include "fault/device_answers.h"

#include <algorithm>
#include <utility>

namespace gm {
namespace {

constexpr std::uint64_t asked_every_ns = 1'000'000'000;

}  // namespace

bool device_answers::are_overdue(std::uint64_t now_ns) {
  // A process that was stopped has not waited.
  const bool was_away = now_ns - std::exchange(here_at_ns_, now_ns) > within_ns / 2;
  if (pending_.load(std::memory_order_acquire) != 0) {
    if (was_away) asked_at_ns_ = now_ns;
    if (silent_for_ns(now_ns) <= within_ns || now_ns - told_at_ns_ <= within_ns) return false;
    told_at_ns_ = now_ns;
    return true;
  }
  if (silent_for_ns(now_ns) < std::min(asked_every_ns, within_ns)) return false;
  asked_at_ns_ = now_ns;
  const auto answered = [](void* self, gm_status) {
    static_cast<device_answers*>(self)->pending_.fetch_sub(1, std::memory_order_release);
  };
  for (device::stream* on : {map_.device().to_map, map_.device().to_device}) {
    pending_.fetch_add(1, std::memory_order_relaxed);
    // Refused: so is then what kernels wait for, and that is told.
    if (map_.ask(on, answered, this) != status::ok) pending_.fetch_sub(1, std::memory_order_relaxed);
  }
  return false;
}

}  // namespace gm
