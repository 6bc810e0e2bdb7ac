// SPDX-License-Identifier: Apache-2.0
// thread.h - the runtime's own threads: named, all signals blocked, perhaps pinned to a CPU.
#pragma once

#include <pthread.h>

#include <cstdint>

#include "base/status.h"

namespace gm {

using thread_id = std::int32_t;  // the kernel's, as userfaultfd reports it
thread_id this_thread();

// CPUs this process may run on; the n-th of them (n modulo their number).
unsigned cpu_count();
int nth_cpu(unsigned n);

inline constexpr int any_cpu = -1;

class thread {
 public:
  thread() = default;
  thread(const thread&) = delete;
  thread& operator=(const thread&) = delete;

  // name: at most 15 characters.
  status start(const char* name, int cpu, void (*body)(void*), void* argument);
  void join();
  bool running() const { return running_; }

 private:
  pthread_t handle_{};
  bool running_ = false;
};

}  // namespace gm
