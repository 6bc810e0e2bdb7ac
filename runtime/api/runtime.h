// SPDX-License-Identifier: Apache-2.0
// runtime.h - the one instance of everything, and its life.
//
//   never started --first call, or gm_init--> live --gm_shutdown--> down --gm_init--> live
//                                               \--fork--> forked (in the child, for good)
// Locking: starting and stopping hold rank life. current() is one load once the runtime lives.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "api/object_layer.h"
#include "api/options.h"
#include "device/backend.h"
#include "fault/condemned.h"
#include "fault/cpu_faults.h"
#include "fault/device_faults.h"
#include "fault/fault_handlers.h"
#include "migrate/move.h"
#include "migrate/registrar.h"
#include "platform/fault_signals.h"
#include "platform/userfault.h"
#include "vm/vm_object.h"

// What a gm_stream points to.
struct gm_stream_s {
  unsigned node = 0;
  gm::device_node* device = nullptr;
  gm::device::stream* handle = nullptr;
  std::atomic<std::uint32_t> open_scopes{0};
  // Why kernels of an on-demand scope got no more pages, until that has been reported.
  std::mutex words_lock;
  char words[256] = {};
};

namespace gm {

using stream_record = gm_stream_s;

class runtime {
 public:
  runtime() = default;
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;
  ~runtime();

  // Memory, devices, table. Nothing faults yet.
  status start(const gm_options*);
  // Signals and handlers: needs the instance to be known to on_signal. From then on it may be used.
  status start_faults(signal_callback);
  // Waits until every scope, move and free whose device work is done, or will be by itself, has been recorded.
  // False at once while a scope is open, and when the time is over.
  bool settle(std::uint64_t timeout_ns);

  bool demand_at_rest();
  // Serves the device's on-demand scopes; made with the first of them.
  status demand_on(unsigned node, device_faults*& result);

  const options& config() const { return config_; }
  // Sum of what all parts keep, now.
  std::uint64_t metadata_bytes() const;

  vm_object vm;
  move_pool moves;
  gm::registrar registrar{vm};
  condemned offenders{vm};
  bounces thrash;
  cpu_faults faults{vm, moves, offenders, &thrash};
  std::atomic<std::uint64_t> streams{0};  // that the program has
  std::atomic<std::uint64_t> scopes{0};   // begun and not yet released
  // Small objects: made by the first of them (malloc/object_heap.h), closed by stop_runtime.
  std::atomic<object_layer*> objects{nullptr};
  std::atomic<bool> has_no_objects{false};  // they cannot be had
  // What the program has allocated.
  std::uint64_t allocations() const;
  std::uint64_t allocated_bytes() const;

  struct loaded_backend {
    const device::backend_table* api = nullptr;
    device::backend* handle = nullptr;
  };
  const std::vector<loaded_backend>& backends() const { return backends_; }

 private:
  status create_arena();
  status open_backends();
  status start_registrar();
  status open_device(const loaded_backend&, std::uint32_t index);

  options config_;
  userfault kernel_;
  std::vector<loaded_backend> backends_;
  std::unique_ptr<fault_handlers> handlers_;
  bool signals_ = false;
  std::array<std::unique_ptr<device_faults>, max_nodes> demand_;  // each made under its device's admission lock
};

// The live runtime, started if this is the first call. Null with the error set.
runtime* current();
// The live runtime, or null: never starts one and sets no error.
runtime* running();
// This process was forked from one in which gmem ran, and has nothing of it.
bool in_forked_child();

// Why current() was null in this thread.
status start_failure();

status start_runtime(const gm_options*);
status stop_runtime();

}  // namespace gm
