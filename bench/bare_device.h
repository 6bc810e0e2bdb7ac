// SPDX-License-Identifier: Apache-2.0
// bare_device.h - what a program without gmem has of a device: memory, queues, copies over the link, kernels.
//
// It is the simulated device's own backend, opened a second time beside the runtime's, with the same model of the link.
// Nothing stands between the program and it, and what is copied when is the program's to say. Memory of the device is
// plain_memory. Everything here throws bench_error when the device says no.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/backend.h"
#include "managed.h"

namespace gm::bench {

class bare_device {
 public:
  using queue = device::stream*;

  explicit bare_device(link_model link);
  bare_device(const bare_device&) = delete;
  bare_device& operator=(const bare_device&) = delete;
  ~bare_device();

  // Three queues, which run beside each other: one for each thing that such a program overlaps.
  queue in() const { return in_; }
  queue kernels() const { return kernels_; }
  queue out() const { return out_; }

  void copy_in(void* to, const void* from, std::size_t bytes) const;   // on in()
  void copy_out(void* to, const void* from, std::size_t bytes) const;  // on out()

  // body(i) for every i of [0, count), on kernels(). The body stays the caller's, and is there until it has run.
  template <typename Body>
  void launch(std::size_t count, const Body& body) const {
    launch(count, run_body<Body>, const_cast<Body*>(&body));
  }

  // Behind everything that is queued now.
  device::fence behind(queue) const;
  // What is queued from now on runs behind the fence.
  void wait(queue, device::fence) const;
  void synchronize(device::fence) const;

 private:
  template <typename Body>
  static void run_body(void* body, std::size_t first, std::size_t last) {
    const Body& run = *static_cast<const Body*>(body);
    for (std::size_t i = first; i < last; ++i) run(i);
  }
  void launch(std::size_t count, void (*body)(void*, std::size_t, std::size_t), void* argument) const;
  void check(gm_status, const char* what) const;
  void close();

  const device::backend_table* api_ = nullptr;
  device::backend* backend_ = nullptr;
  device::device* device_ = nullptr;
  queue in_ = nullptr, kernels_ = nullptr, out_ = nullptr;
};

}  // namespace gm::bench
