// SPDX-License-Identifier: Apache-2.0
#include "device/sim/sim_launch.h"

#include <exception>

#include "device/parts/error_text.h"
#include "device/parts/running_units.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GM_SIM_THREAD_SANITIZER 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define GM_SIM_THREAD_SANITIZER 1
#endif

#if defined(GM_SIM_THREAD_SANITIZER)
#include <algorithm>
#include <mutex>
#include <thread>
#include <vector>
#else
#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#endif

namespace gm::device::sim {
namespace {

using kernel_body = void (*)(void*, std::size_t, std::size_t);

#if defined(GM_SIM_THREAD_SANITIZER)
// The sanitizer cannot see how an uninstrumented TBB orders its tasks, and would report every one of them. With plain
// threads it sees all there is, the kernels' own races among it.
void run_in_parallel(std::size_t count, kernel_body body, void* argument, fence unit) {
  constexpr std::size_t threads_max = 4;
  std::exception_ptr thrown;
  std::mutex thrown_mutex;
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < std::min(count, threads_max); ++t) {
      const std::size_t first = count / threads_max * t + std::min(t, count % threads_max);
      const std::size_t last = first + count / threads_max + (t < count % threads_max ? 1 : 0);
      threads.emplace_back([=, &thrown, &thrown_mutex] {
        try {
          const running_mark mark(unit);
          body(argument, first, last);
        } catch (...) {
          const std::scoped_lock lock(thrown_mutex);
          thrown = std::current_exception();
        }
      });
    }
  }
  if (thrown) std::rethrow_exception(thrown);
}
#else
void run_in_parallel(std::size_t count, kernel_body body, void* argument, fence unit) {
  using range = tbb::blocked_range<std::size_t>;
  tbb::parallel_for(
      range(0, count),
      [=](const range& piece) {
        const running_mark mark(unit);
        body(argument, piece.begin(), piece.end());
      },
      tbb::auto_partitioner{});
}
#endif

}  // namespace

gm_status launch_in_parallel(std::size_t count, kernel_body body, void* argument, fence unit) noexcept {
  try {
    run_in_parallel(count, body, argument, unit);
    return GM_OK;
  } catch (const std::exception& error) {
    return fail(GM_ERROR_DEVICE, "the kernel threw an exception: %s", error.what());
  } catch (...) {
    return fail(GM_ERROR_DEVICE, "the kernel threw an exception");
  }
}

}  // namespace gm::device::sim
