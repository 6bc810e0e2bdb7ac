// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/device_thread.h"

#include <condition_variable>
#include <mutex>

#include "device/gpu/gpu_error.h"
#include "device/parts/runner_thread.h"

namespace gm::device::gpu {
namespace {

// On the stack of the one who starts the thread, and gone once that one knows.
struct beginning {
  vendor::context where;
  void (*main)(void*);
  void* argument;

  std::mutex mutex;
  std::condition_variable changed;
  bool is_known = false;
  vendor::error error = vendor::success;
};

void begin(void* argument) {
  auto* const start = static_cast<beginning*>(argument);
  const auto main = start->main;
  void* const main_argument = start->argument;
  vendor::outside nothing_to_go_back_to;
  const vendor::error error = vendor::enter(start->where, &nothing_to_go_back_to);
  ignore(error);
  {
    const std::scoped_lock lock(start->mutex);
    start->error = error;
    start->is_known = true;
    start->changed.notify_one();
  }
  if (error == vendor::success) main(main_argument);
}

}  // namespace

gm_status start_device_thread(const char* name, const vendor::context& where, void (*main)(void*), void* argument,
                              std::thread& result, vendor::error* refusal) noexcept {
  *refusal = vendor::success;
  beginning start;
  start.where = where;
  start.main = main;
  start.argument = argument;
  if (const gm_status status = start_runner_thread(name, begin, &start, result); status != GM_OK) return status;
  {
    std::unique_lock lock(start.mutex);
    start.changed.wait(lock, [&] { return start.is_known; });
  }
  if (start.error == vendor::success) return GM_OK;
  result.join();
  *refusal = start.error;
  return fail_api(start.error, "working on a device");
}

}  // namespace gm::device::gpu
