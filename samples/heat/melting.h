// SPDX-License-Identifier: Apache-2.0
//
// melting.h - what the three programs of the heat sample have in common: the task, its physics, and what a run leaves.
//
// A pixel is three floats, 0 to 255; heat flows to its four neighbours. The picture is wound into a tube, so that a
// row's first pixel lies next to the last of the row above and the kernel needs no special case. Diffusion leaves the
// top and the bottom row as they are. The rim, a few rows at the top, is what the CPU repaints.
#ifndef GMEM_SAMPLES_HEAT_MELTING_H
#define GMEM_SAMPLES_HEAT_MELTING_H

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <gmem/parallel.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../png_image.h"

namespace heat {

inline constexpr std::size_t channels = 3;
inline constexpr std::size_t steps_between_visits = 5;  // of the CPU
inline constexpr std::size_t rim_rows_max = 8;          // that it repaints

// A power of two, and so is every other factor in diffused(): the products are exact, it makes no difference whether a
// compiler fuses them with the sums, and all three programs give the same bits.
inline constexpr float flow = 0.125F;

// What becomes of the float at `here`; row: how many floats a row has.
GM_HOST_DEVICE inline float diffused(const float* here, std::size_t row) {
  return *here + flow * (*(here - channels) + *(here + channels) + *(here - row) + *(here + row) - 4 * *here);
}

struct task {
  sample::picture start;
  std::size_t steps, frames;

  // In floats: a row, the whole picture, the part that the CPU repaints.
  std::size_t row() const { return start.width * channels; }
  std::size_t count() const { return start.rgb.size(); }
  std::size_t rim() const { return std::min(rim_rows_max, start.height - 2) * row(); }
  bool is_visit(std::size_t step) const { return step % steps_between_visits == 0; }
  bool is_frame(std::size_t step) const { return step * frames / steps != (step - 1) * frames / steps; }

  // Where the CPU measures: the red of three pixels across the middle of the picture.
  std::array<std::size_t, 3> thermometers() const {
    const std::size_t middle = start.height / 2 * row();
    return {middle + start.width / 4 * channels, middle + start.width / 2 * channels,
            middle + start.width * 3 / 4 * channels};
  }
};

// Paints the rim as it is after that step: glowing, the brighter the colder the picture is, and a light goes round.
// row: floats a row; reading: the sum of the thermometers.
void paint_rim(std::span<float> rim, std::size_t row, std::size_t step, float reading);

// The floats as a picture of the size of `like`.
sample::picture frame_of(const float* pixels, const sample::picture& like);

// What a run leaves to compare, and what it cost.
struct outcome {
  std::vector<float> final;
  std::vector<float> readings;
  std::vector<sample::picture> frames;
  double seconds = 0;
  std::uint64_t cpu_faults = 0;
  std::uint64_t pages_to_device = 0, pages_to_cpu = 0;
  std::uint64_t bytes_to_device = 0, bytes_to_cpu = 0;
  std::uint64_t copy_calls = 0;
};

outcome run_with_unified_memory(const task& t);
outcome run_with_explicit_copies(const task& t);
outcome run_on_the_cpu_alone(const task& t);

class stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// One line that is written over on a terminal; elsewhere only its last state.
class progress {
 public:
  progress(std::string name, std::size_t steps) : name_(std::move(name)), steps_(steps) {}
  void show(std::size_t step) const;

 private:
  std::string name_;
  std::size_t steps_;
};

}  // namespace heat

#endif  // GMEM_SAMPLES_HEAT_MELTING_H
