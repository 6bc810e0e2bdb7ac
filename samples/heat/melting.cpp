// SPDX-License-Identifier: Apache-2.0
#include "melting.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iostream>

namespace heat {

void paint_rim(std::span<float> rim, std::size_t row, std::size_t step, float reading) {
  const std::size_t width = row / channels;
  const float strength = 1.3F - reading / (3 * 255);
  const std::size_t light = step % width;
  for (std::size_t at = 0; at < rim.size(); at += channels) {
    const std::size_t x = at % row / channels;
    const std::size_t apart = std::max(x, light) - std::min(x, light);
    const float away = static_cast<float>(std::min(apart, width - apart)) / (0.12F * static_cast<float>(width));
    const float heat = strength * (0.6F + std::exp(-away * away));
    rim[at] = std::min(255.0F, 300 * heat);
    rim[at + 1] = std::min(255.0F, 135 * heat);
    rim[at + 2] = std::min(255.0F, 45 * heat);
  }
}

sample::picture frame_of(const float* pixels, const sample::picture& like) {
  sample::picture frame{like.width, like.height, std::vector<std::uint8_t>(like.rgb.size())};
  std::transform(pixels, pixels + frame.rgb.size(), frame.rgb.begin(),
                 [](float value) { return static_cast<std::uint8_t>(std::clamp(value, 0.0F, 255.0F)); });
  return frame;
}

void progress::show(std::size_t step) const {
  static const bool terminal = isatty(STDOUT_FILENO) != 0;
  const bool last = step == steps_;
  if (!terminal && !last) return;
  std::cout << (terminal ? "\r" : "") << name_ << ": step " << step << " of " << steps_ << (last ? "\n" : "")
            << std::flush;
}

}  // namespace heat
