// SPDX-License-Identifier: Apache-2.0
// cpu_faults.h - serving a CPU thread's touch of a page that it may not touch yet.
//
// The life of a fault (thread mode; in line the thread itself does the same in its signal handler):
//   1 a handler reads it from userfaultfd                             (fault_handlers.h)
//   2 serve(): under the block's lock, look at the page
//       nobody's                    -> condemned, SIGSEGV
//       allowed by the table        -> spurious: map it again where the kernel has lost it, wake
//       being copied                -> parked; the move's end wakes it
//       in a conflicting scope      -> parked until the scope is released; if that waits for this thread (its own
//                                      scope, its own stream's work, a circle of threads): condemned, SIGBUS
//       a kernel that fetched it may be using it -> taken from the kernel, parked; then it is the CPU's (remapping.h)
//       a window of neighbours is taken along (fault_window.h), each page if it is in the same case; of those that
//       devices have too, a write takes only what is being written (write_window.h)
//       valid on the host           -> other nodes lose it when it is a write; mapped; done
//       NOMAP                       -> zero pages; done
//       only on devices             -> a move to the host begins, the fault is parked on it
//       no host memory for it       -> the page alone; else memory is reclaimed; else, while some may come by itself,
//                                      the fault is parked until it may have (vm/starved_faults.h); else condemned,
//                                      SIGBUS
//   3 the move's end maps the pages, which wakes the thread
// A parked fault is one bit of its block: the thread sleeps in the kernel, and when it is woken it repeats the access,
// which is served afresh. Serving allocates nothing, waits for nothing but locks, and takes less than 4 KiB of stack.
// Threads: any number may serve at once.
#pragma once

#include "fault/bounces.h"
#include "fault/condemned.h"
#include "migrate/move.h"
#include "policy/fault_window.h"
#include "policy/write_window.h"
#include "vm/vm_object.h"

namespace gm {

class cpu_faults {
 public:
  cpu_faults(vm_object& vm, move_pool& moves, condemned& offenders, bounces* thrash = nullptr)
      : vm_(vm), moves_(moves), offenders_(offenders), thrash_(thrash) {}

  enum class outcome : std::uint8_t {
    served,       // the access may be repeated
    wait_copy,    // parked: page is busy
    wait_scope,   // parked: a scope is in the way
    wait_memory,  // parked: host memory is on its way
    offending,    // what to condemn it for is in `why`
  };
  outcome serve(const cpu_fault&, offence& why);

  // Thread mode: serve, and condemn what offends.
  void handle(const cpu_fault&);
  // In line: serve until the page is there; the thread sleeps meanwhile.
  signal_verdict handle_in_line(const cpu_fault&);

 private:
  struct begun_work;
  outcome serve_locked(block_index, block&, const cpu_fault&, page_mask page, offence& why, begun_work& begun);
  outcome take_from_kernels_locked(block_index, block&, const cpu_fault&, page_mask page, begun_work& begun);
  outcome find_host_memory(const cpu_fault&, std::uint32_t seen);
  page_mask window_locked(block_index, const block&, const cpu_fault&, page_mask page, page_mask unusable);
  bool keeps_to_page(block_index, const block&, const cpu_fault&, page_mask page);
  void park_locked(block&, page_mask page);
  void repair_locked(block_index, block&, const cpu_fault&, page_mask page);

  vm_object& vm_;
  move_pool& moves_;
  condemned& offenders_;
  bounces* thrash_;  // null: blocks are not watched
  fault_streams streams_;
  write_streams writes_;
};

}  // namespace gm
