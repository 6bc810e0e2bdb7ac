// SPDX-License-Identifier: Apache-2.0
// sim_frames.h - which 2 MiB frames of a simulated device are in use: a bitmap, first fit.
//   free --take--> used --give_back--> free
// F1 free_count() = the number of zero bits.   F2 only used frames are given back (checked in every build).
// Locking: none of its own; sim_memory's lock covers it. Units: frames.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace gm::device::sim {

class sim_frames {
 public:
  explicit sim_frames(std::uint32_t count);

  // The first of `count` neighbouring free frames, the lowest there is; nothing when there is no such run.
  std::optional<std::uint32_t> take(std::uint32_t count) noexcept;
  void give_back(std::uint32_t first, std::uint32_t count) noexcept;

  std::uint32_t count() const noexcept { return count_; }
  std::uint32_t free_count() const noexcept { return free_count_; }

 private:
  bool is_used(std::uint32_t frame) const noexcept { return (used_[frame / 64] >> (frame % 64) & 1u) != 0; }
  void flip(std::uint32_t first, std::uint32_t count) noexcept;

  std::uint32_t count_;
  std::uint32_t free_count_;
  std::uint32_t search_from_ = 0;  // every frame below is used
  std::vector<std::uint64_t> used_;
};

}  // namespace gm::device::sim
