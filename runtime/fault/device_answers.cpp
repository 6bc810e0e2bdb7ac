// SPDX-License-Identifier: Apache-2.0
#include "fault/device_answers.h"

#include <algorithm>

namespace gm {
namespace {

constexpr std::uint64_t asked_every_ns = 1'000'000'000;

}  // namespace

bool device_answers::are_overdue(std::uint64_t now_ns) {
  if (pending_.load(std::memory_order_acquire)) {
    if (told_ || silent_for_ns(now_ns) <= within_ns) return false;
    told_ = true;
    return true;
  }
  told_ = false;
  if (silent_for_ns(now_ns) < std::min(asked_every_ns, within_ns)) return false;
  asked_at_ns_ = now_ns;
  pending_.store(true, std::memory_order_relaxed);
  const auto answered = [](void* self, gm_status) {
    static_cast<device_answers*>(self)->pending_.store(false, std::memory_order_release);
  };
  // Refused: so is then what kernels wait for, and that is told.
  if (map_.ask(answered, this) != status::ok) pending_.store(false, std::memory_order_relaxed);
  return false;
}

}  // namespace gm
