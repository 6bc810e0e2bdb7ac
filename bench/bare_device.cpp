// SPDX-License-Identifier: Apache-2.0
#include "bare_device.h"

#include <string>

#include "device/backend_loader.h"
#include "measure.h"

namespace gm::bench {

bare_device::bare_device(link_model link) try {
  if (device::load_backend("sim", &api_) != status::ok) throw bench_error("the simulated device cannot be loaded");
  device::backend_options options{};
  options.sim_devices = 1;
  options.sim_memory_bytes = block_bytes;
  options.sim_bandwidth_bytes_per_second = link.bytes_per_second;
  options.sim_latency_ns = link.latency_ns;
  std::uint32_t devices = 0;
  check(api_->open(&options, &backend_, &devices), "opening a simulated device");
  check(api_->device_open(backend_, 0, &device_), "opening a simulated device");
  for (queue* made : {&in_, &kernels_, &out_})
    check(api_->stream_create(device_, device::stream_ordinary, made), "making a queue");
} catch (...) {
  close();
  throw;
}

bare_device::~bare_device() { close(); }

void bare_device::close() {
  if (api_ == nullptr) return;
  for (const queue made : {in_, kernels_, out_}) api_->stream_destroy(made);
  api_->device_close(device_);
  api_->close(backend_);
}

void bare_device::check(gm_status result, const char* what) const {
  if (device::check_device(*api_, result, what) != status::ok) throw bench_error(last_error());
}

void bare_device::copy_in(void* to, const void* from, std::size_t bytes) const {
  const device::copy_run run{reinterpret_cast<std::uint64_t>(to), reinterpret_cast<std::uint64_t>(from), bytes,
                             device::direction::host_to_device};
  check(api_->transfer(in_, nullptr, 0, &run, 1, nullptr, nullptr, nullptr), "a copy to the device");
}

void bare_device::copy_out(void* to, const void* from, std::size_t bytes) const {
  const device::copy_run run{reinterpret_cast<std::uint64_t>(to), reinterpret_cast<std::uint64_t>(from), bytes,
                             device::direction::device_to_host};
  check(api_->transfer(out_, nullptr, 0, &run, 1, nullptr, nullptr, nullptr), "a copy from the device");
}

void bare_device::launch(std::size_t count, void (*body)(void*, std::size_t, std::size_t), void* argument) const {
  check(api_->launch(kernels_, count, body, nullptr, argument), "a kernel");
}

device::fence bare_device::behind(queue which) const {
  device::fence made;
  check(api_->fence_record(which, nullptr, nullptr, &made), "a fence");
  return made;
}

void bare_device::wait(queue which, device::fence awaited) const { check(api_->stream_wait(which, awaited), "a wait"); }

void bare_device::synchronize(device::fence awaited) const { api_->fence_wait(awaited); }

}  // namespace gm::bench
