// SPDX-License-Identifier: Apache-2.0
// starved_faults.h - CPU faults that found no host memory and wait for some to come.
//
// A count rises whenever there may be more host memory to have than before: pages were given back, a copy of the
// runtime's own ended (what it brought or took may be reclaimed), a scope on the host was released. Who finds none
// reads the count, tries everything, and parks only if the count still is what it was: so no wake-up is lost. A parked
// thread sleeps in the kernel; what is remembered is one range around all that are parked, so any number of them takes
// no memory. The next rise wakes the whole range: a thread woken too early repeats its access. Locking: rank
// starved_faults, for a few instructions; changed() may be called under a block's lock.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/mutex.h"
#include "platform/user_mapping.h"

namespace gm {

class starved_faults {
 public:
  std::uint32_t now() const { return changes_.load(); }

  // False: something has changed since `seen`, and the thread must not sleep.
  bool park(std::uint32_t seen, std::uint64_t offset) {
    {
      lock_guard guard(lock_);
      asleep_ = any_.load() ? byte_range{std::min(asleep_.begin, offset), std::max(asleep_.end, offset + os_page_bytes)}
                            : byte_range{offset, offset + os_page_bytes};
      any_.store(true);
    }
    return now() == seen;  // sequentially consistent, as in changed(): one of the two sees the other
  }

  // In line: the thread itself sleeps here.
  void wait_past(std::uint32_t seen) const { changes_.wait(seen); }

  void changed(user_mapping& cpu) {
    changes_.fetch_add(1);
    changes_.notify_all();
    if (!any_.load()) return;
    byte_range woken{};
    {
      lock_guard guard(lock_);
      if (!any_.load()) return;
      woken = asleep_;
      any_.store(false);
    }
    cpu.wake(woken);
  }

 private:
  std::atomic<std::uint32_t> changes_{0};
  std::atomic<bool> any_{false};
  mutex<lock_rank::starved_faults> lock_;
  byte_range asleep_{};
};

}  // namespace gm
