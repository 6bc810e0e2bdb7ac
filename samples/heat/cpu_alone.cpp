// SPDX-License-Identifier: Apache-2.0
//
// The same program without a device: one thread and ordinary memory. What the other two must equal.
#include <algorithm>
#include <cstddef>

#include "melting.h"

namespace heat {

outcome run_on_the_cpu_alone(const task& t) {
  const progress line("the CPU alone  ", t.steps);
  outcome result;
  const stopwatch watch;

  std::vector<float> now(t.start.rgb.begin(), t.start.rgb.end()), next(t.count());
  const std::size_t row = t.row(), last_row = t.count() - row;
  for (std::size_t step = 1; step <= t.steps; ++step) {
    std::copy_n(now.data(), row, next.data());
    for (std::size_t i = row; i < last_row; ++i) next[i] = diffused(&now[i], row);
    std::copy_n(now.data() + last_row, row, next.data() + last_row);
    now.swap(next);
    if (t.is_visit(step)) {
      float reading = 0;
      for (const std::size_t at : t.thermometers()) reading += now[at];
      paint_rim(std::span(now).first(t.rim()), row, step, reading);
      result.readings.push_back(reading);
    }
    if (t.is_frame(step)) {
      result.frames.push_back(frame_of(now.data(), t.start));
      line.show(step);
    }
  }
  result.final = std::move(now);
  result.seconds = watch.seconds();
  return result;
}

}  // namespace heat
