// SPDX-License-Identifier: Apache-2.0
// gpu_device.h - one open GPU, and the backend that it belongs to.
//
//   working --an error that the API calls final--> lost (for good)
// On a lost device everything that is pending or comes later fails with GM_ERROR_DEVICE and the API's own words for the
// loss; nothing waits for it any more, and closing gives back what can be given back.
// Locking: each member has its own; backend::mutex covers the lists of devices and streams. Threads: any.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "device/backend.h"
#include "device/gpu/gpu_error.h"
#include "device/gpu/gpu_event.h"
#include "device/gpu/gpu_memory.h"
#include "device/gpu/gpu_tables.h"
#include "device/gpu/host_copiers.h"
#include "device/gpu/host_registrations.h"
#include "device/gpu/mailboxes.h"
#include "device/gpu/pinned_chunks.h"
#include "device/gpu/vendor.h"
#include "device/gpu/zeroes.h"
#include "device/parts/counted_failures.h"
#include "device/parts/stream_failure.h"

namespace gm::device {

struct device {
  backend* owner = nullptr;
  int index = 0;  // the API's number
  gpu::vendor::context context{};
  gpu::vendor::device_facts facts{};
  gpu::event_pool events;
  gpu::gpu_memory memory;
  gpu::zeroes zero;
  gpu::gpu_tables tables;
  gpu::mailboxes mailboxes;
  stream_failure loss;
  bool registers_beside_work = false;
  bool serves_demand = false;  // lasting addresses, tables, mailboxes

  // The status of an error that the API has just returned; a final one loses the device.
  gm_status failed(gpu::vendor::error error, const char* what) noexcept {
    const bool is_final = gpu::vendor::classify(error) == gpu::error_class::lost;
    const gm_status status = gpu::fail_api(error, what);
    if (is_final) loss.set(status, error_text());
    return status;
  }

  // The same, of a wait that was refused. Where nobody knows any more when work that was begun will be done, the device
  // is as good as lost.
  gm_status wait_failed(gpu::vendor::error error, const char* what) noexcept {
    if (gpu::vendor::classify(error) == gpu::error_class::captured) return failed(error, what);
    const gm_status status = fail(GM_ERROR_DEVICE, "%s: %s", what, gpu::vendor::describe(error));
    gpu::ignore(error);
    loss.set(status, error_text());
    return status;
  }
};

struct backend {
  explicit backend(const backend_options& chosen) : options(chosen) {}

  const backend_options options;
  counted_failures failures;
  gpu::host_registrations registrations;
  gpu::pinned_chunks chunks;  // there while a device is open
  gpu::host_copiers copiers;
  mutable std::mutex mutex;
  std::vector<std::unique_ptr<device>> devices;  // null: not open
  std::vector<std::unique_ptr<stream>> streams;  // all that ever were: fences point to them
  std::vector<stream*> idle_streams;             // has room for all of them
  std::atomic<std::uint64_t> lasting_frames{0};  // so many frames, or more, have been given lasting addresses

  bool has_several_devices() const noexcept { return devices.size() > 1; }
  bool has_lasting_frames() const noexcept { return lasting_frames.load(std::memory_order_acquire) != 0; }

  // The open device whose memory that is; null where it is none's.
  device* owner_of(std::uint64_t address) const noexcept {
    const std::scoped_lock lock(mutex);
    for (const auto& each : devices) {
      if (each == nullptr) continue;
      if (each->memory.contains(address) || each->tables.contains(address)) return each.get();
    }
    return nullptr;
  }
};

}  // namespace gm::device
