// SPDX-License-Identifier: Apache-2.0
// on_device.h - this thread works on one device until the end of the scope, and then on what it worked on before.
//
// The API may refuse either. Who is about to enqueue or to make something asks error() first and hands it on: a call
// behind a refusal may reach another device, or fail by itself with words that say nothing. Giving back goes by handles
// and addresses, which say by themselves whose they are, and goes on. Where the way back is refused, twice, the thread
// stays, and a line on stderr says so.
// Threads: the one that made it.
#pragma once

#include "device/gpu/vendor.h"

namespace gm::device::gpu {

class on_device {
 public:
  explicit on_device(const vendor::context& which) noexcept : error_(vendor::enter(which, &before_)) {}
  on_device(const on_device&) = delete;
  on_device& operator=(const on_device&) = delete;
  ~on_device();

  vendor::error error() const noexcept { return error_; }

 private:
  vendor::outside before_{};
  const vendor::error error_;
};

}  // namespace gm::device::gpu
