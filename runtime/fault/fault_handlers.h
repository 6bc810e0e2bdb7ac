// SPDX-License-Identifier: Apache-2.0
// fault_handlers.h - the threads that read CPU faults from userfaultfd and have them served.
//
// One a CPU, each pinned to its own, all reading one descriptor: the handler on the CPU where a thread faulted wakes
// fastest. Each takes one fault at a time, so that faults of several threads are served by several handlers at once:
// taking more cost a quarter of the rate with two threads (see runtime/README.md). stop(): handlers sleep in a read
// that only a fault ends, so stop() touches a doorbell page, the last of the arena, until all have left.
// One thread more, the watch, heals what is poisoned for too long; while nobody offends it sleeps.
#pragma once

#include <atomic>

#include "fault/cpu_faults.h"
#include "platform/thread.h"
#include "platform/userfault.h"

namespace gm {

class fault_handlers {
 public:
  static constexpr unsigned most = 64;

  fault_handlers(userfault& faults, cpu_faults& server, condemned& offenders, arena& memory)
      : source_(faults), server_(server), offenders_(offenders), memory_(memory) {}
  status start(unsigned count);
  void stop();

 private:
  static void run(void* self);
  static void run_watch(void* self);
  void loop();
  void watch();
  std::uint64_t doorbell() const { return memory_.bytes() - os_page_bytes; }

  userfault& source_;
  cpu_faults& server_;
  condemned& offenders_;
  arena& memory_;
  thread threads_[most];
  thread watch_;
  unsigned count_ = 0;
  std::atomic<unsigned> running_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace gm
