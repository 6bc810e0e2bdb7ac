// SPDX-License-Identifier: Apache-2.0
#include "device/sim/sim_frames.h"

#include <cstdio>
#include <cstdlib>

namespace gm::device::sim {

sim_frames::sim_frames(std::uint32_t count) : count_(count), free_count_(count), used_((count + 63u) / 64u, 0) {}

std::optional<std::uint32_t> sim_frames::take(std::uint32_t count) noexcept {
  if (count == 0 || count > free_count_) return std::nullopt;
  std::uint32_t run = 0;
  for (std::uint32_t frame = search_from_; frame < count_; ++frame) {
    if (frame % 64 == 0 && used_[frame / 64] == ~std::uint64_t{0}) {
      run = 0;
      frame += 63;
      continue;
    }
    run = is_used(frame) ? 0 : run + 1;
    if (run < count) continue;
    const std::uint32_t first = frame + 1 - count;
    flip(first, count);
    free_count_ -= count;
    if (first == search_from_) search_from_ += count;
    return first;
  }
  return std::nullopt;
}

void sim_frames::give_back(std::uint32_t first, std::uint32_t count) noexcept {
  for (std::uint32_t frame = first; frame < first + count; ++frame) {
    if (frame < count_ && is_used(frame)) continue;
    std::fprintf(stderr, "gmem sim: frame %u is given back and is not in use\n", frame);
    std::abort();
  }
  flip(first, count);
  free_count_ += count;
  if (first < search_from_) search_from_ = first;
}

void sim_frames::flip(std::uint32_t first, std::uint32_t count) noexcept {
  for (std::uint32_t frame = first; frame < first + count; ++frame) {
    used_[frame / 64] ^= std::uint64_t{1} << (frame % 64);
  }
}

}  // namespace gm::device::sim
