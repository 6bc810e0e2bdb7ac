// SPDX-License-Identifier: Apache-2.0
//
// The same program with explicit copies: ordinary memory here, device memory there, and every transfer written down.
// It is written with care: only the floats that are needed move, and the host waits only where it must.
#include <gmem/gmem.hpp>

#include "kernel.h"
#include "melting.h"

namespace heat {

namespace {

// Queues copies between ordinary memory and device memory, and counts them.
class copier {
 public:
  copier(gm::stream& stream, outcome& result) : stream_(stream), result_(result) {}

  void to_device(float* device, std::span<const float> host) {
    gm::memcpy(device, host.data(), host.size_bytes(), stream_.node(), stream_);
    result_.bytes_to_device += host.size_bytes();
    ++result_.copy_calls;
  }

  void to_host(std::span<float> host, const float* device) {
    gm::memcpy(host.data(), device, host.size_bytes(), stream_.node(), stream_);
    result_.bytes_to_cpu += host.size_bytes();
    ++result_.copy_calls;
  }

 private:
  gm::stream& stream_;
  outcome& result_;
};

}  // namespace

outcome run_with_explicit_copies(const task& t) {
  const progress line("explicit copies", t.steps);
  outcome result;
  gm::stream stream;
  copier copy(stream, result);
  gm::reset_stats();
  const stopwatch watch;

  std::vector<float> host(t.start.rgb.begin(), t.start.rgb.end()), rim(t.rim());
  // Device memory: pinned to the device and touched by nobody else, so that the scopes below move nothing.
  auto now = gm::make_unique_for_overwrite<float[]>(t.count());
  auto next = gm::make_unique_for_overwrite<float[]>(t.count());
  gm::pin(now, stream.node());
  gm::pin(next, stream.node());

  copy.to_device(now.get(), host);
  for (std::size_t step = 1; step <= t.steps; ++step) {
    {
      gm::scope use(stream, gm::read(now), gm::write(next));
      queue_step(stream, gm::device_pointer(now.get(), stream), gm::device_pointer(next.get(), stream), t);
    }
    now.swap(next);
    if (t.is_visit(step)) {
      std::array<float, 3> read{};
      const auto places = t.thermometers();
      for (std::size_t i = 0; i < read.size(); ++i) copy.to_host(std::span(read).subspan(i, 1), now.get() + places[i]);
      stream.synchronize();
      const float reading = read[0] + read[1] + read[2];
      paint_rim(rim, t.row(), step, reading);
      copy.to_device(now.get(), rim);
      result.readings.push_back(reading);
    }
    if (t.is_frame(step)) {
      copy.to_host(host, now.get());
      stream.synchronize();
      result.frames.push_back(frame_of(host.data(), t.start));
      line.show(step);
    }
  }
  copy.to_host(host, now.get());
  stream.synchronize();
  result.final = std::move(host);

  result.seconds = watch.seconds();
  result.cpu_faults = gm::stats().node[GM_HOST].faults;
  return result;
}

}  // namespace heat
