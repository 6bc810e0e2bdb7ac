// SPDX-License-Identifier: Apache-2.0
// device_thread.h - starts a thread of the backend's own that works on one device for as long as it lives.
//
// It is started when it has got there: a thread that the API refuses has never been, and who starts it is told why.
// Threads: any; the caller waits for the thread's first call.
#pragma once

#include <thread>

#include "device/gpu/vendor.h"
#include "gmem/gmem.h"

namespace gm::device::gpu {

// main(argument) on a thread of that name. What is not GM_OK is in words, with the API's error in *refusal where it is
// one (success else), and leaves no thread.
gm_status start_device_thread(const char* name, const vendor::context& where, void (*main)(void*), void* argument,
                              std::thread& result, vendor::error* refusal) noexcept;

}  // namespace gm::device::gpu
