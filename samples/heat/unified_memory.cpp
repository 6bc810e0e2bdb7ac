// SPDX-License-Identifier: Apache-2.0
//
// The heat program over unified memory: the main loop as one would write it if the device were just another thread.
//
// Kernels go from `now` to `next` and the two change places; every few steps the CPU reads three pixels and repaints
// the rim, through plain pointers. No line copies anything and none waits for anything: the runtime moves the few
// pages that both sides touch, and the CPU's first touch waits for the kernel before it.
#include <gmem/gmem.hpp>

#include "kernel.h"
#include "melting.h"

namespace heat {

outcome run_with_unified_memory(const task& t) {
  const progress line("unified memory ", t.steps);
  outcome result;
  gm::stream stream;
  gm::reset_stats();
  const stopwatch watch;

  gm::vector<float> now(t.start.rgb.begin(), t.start.rgb.end()), next(t.count());
  for (std::size_t step = 1; step <= t.steps; ++step) {
    {
      gm::scope use(stream, gm::read(now), gm::write(next));
      queue_step(stream, gm::device_pointer(now.data(), stream), gm::device_pointer(next.data(), stream), t);
    }
    now.swap(next);
    if (t.is_visit(step)) {
      float reading = 0;
      for (const std::size_t at : t.thermometers()) reading += now[at];
      paint_rim(std::span(now).first(t.rim()), t.row(), step, reading);
      result.readings.push_back(reading);
    }
    if (t.is_frame(step)) {
      result.frames.push_back(frame_of(now.data(), t.start));
      line.show(step);
    }
  }
  result.final.assign(now.begin(), now.end());

  result.seconds = watch.seconds();
  const gm_stats stats = gm::stats();
  const gm_node_stats& device = stats.node[stream.node()];
  result.cpu_faults = stats.node[GM_HOST].faults;
  result.pages_to_device = device.pages_in;
  result.pages_to_cpu = device.pages_out;
  result.bytes_to_device = device.bytes_in;
  result.bytes_to_cpu = device.bytes_out;
  return result;
}

}  // namespace heat
