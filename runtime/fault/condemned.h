// SPDX-License-Identifier: Apache-2.0
// condemned.h - touches that end in an error instead of a page: the thread gets a signal, a system call EFAULT.
//
// A fault message may be stale: its thread was woken, went on, and is elsewhere by the time it is read. So a first
// offence is only suspected, and the thread woken; one that is really there faults again at once, and is condemned
// then. condemn() remembers the address and the thread, and poisons the OS page; the thread repeats its access and gets
// SIGBUS. The signal handler asks verdict(): the condemned thread is told why on standard error and the signal goes on
// to the program (SIGSEGV for a wild address); any other thread that met the poison just tries again. The poison is
// gone from then on. Where the kernel cannot poison, the thread is sent the signal directly.
// A small ring: an entry lives from the fault to the signal; when it is full the oldest page is healed.
// Locking: rank condemned. verdict() runs in signal handlers, in threads that were in the program's own code.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/mutex.h"
#include "platform/fault_signals.h"
#include "platform/thread.h"
#include "vm/vm_object.h"

namespace gm {

enum class offence : std::uint8_t {
  wild,         // nobody's memory: never allocated, or freed
  own_scope,    // the thread has a scope open over the page
  no_memory,    // the host's budget, or the system's memory, is exhausted
  failed_copy,  // the page could not be brought: a device or a system call failed
};

class condemned {
 public:
  explicit condemned(vm_object& vm) : vm_(vm) {}

  // True when the thread has offended on this OS page before; else it is remembered for the next time.
  bool suspected_before(std::uint64_t offset, thread_id);
  void condemn(std::uint64_t offset, thread_id, offence);
  // For faults served in the thread that touched: says why and what the signal is to be.
  signal_verdict sentence(std::uint64_t offset, offence) const;
  // In the signal handler of this thread, for a page of the arena that is not in need of serving.
  signal_verdict verdict(std::uint64_t offset, cpu_access);
  // Addresses that are handed out again are healed first.
  void heal(byte_range);

 private:
  struct entry {
    std::uint64_t offset = 0;
    thread_id thread = 0;
    offence what = offence::wild;
    bool active = false;
  };
  static constexpr unsigned capacity = 32;
  bool still_guilty(std::uint64_t offset, cpu_access, offence) const;

  vm_object& vm_;
  mutex<lock_rank::condemned> lock_;
  entry entries_[capacity];
  entry suspects_[capacity];
  unsigned next_suspect_ = 0;
  unsigned next_ = 0;
  std::atomic<unsigned> active_{0};
};

}  // namespace gm
