// SPDX-License-Identifier: Apache-2.0
// condemned.h - touches that end in an error instead of a page: the thread gets a signal, a system call EFAULT.
//
// The kernel fails an access only where the OS page is poisoned (UFFDIO_POISON), and then it fails everybody's. So a
// page is poisoned at the last moment, and healed before the offender's next instruction. In the program's own code the
// offender's SIGBUS handler does that. A system call raises no signal; therefore we send one: it is delivered when the
// call returns, before the program sees what it returned. The same signal tells the two apart: a thread that sleeps in
// a fault of its own code takes it before it touches again, one inside a system call touches again before it takes it.
//
//   none -1-> suspected -2-> asked --------------------3-> poisoned_call --our signal, the call is over--> none
//                              \-our signal-> in_program -3-> poisoned_program --SIGBUS--> none, and a sentence
//
// Each number is a fault of the same thread on the same OS page that is an offence. 1 only wakes the thread: a fault
// message may be stale, its thread having been woken and gone on meanwhile. 2 sends the signal and wakes it. 3 poisons
// and wakes it. A fault of the thread that is none, or elsewhere, ends it all.
// While a page is poisoned (some microseconds): a load or store of another thread takes SIGBUS, heals the page and
// tries again, unnoticed; a system call of another thread fails with EFAULT. That cannot be helped. Where our signal
// cannot work (SIGBUS is blocked, or another handler has taken our place), the fault handlers' watch heals the page
// when it has been poisoned for a while: heal_overdue(). A thread that had not come back by then offends again, and the
// poison stays twice as long. Where the kernel cannot poison, a thread in the program's code is sent its sentence; a
// system call never ends. A thread has one entry. When there are more offenders than entries the others are woken, and
// ask again until entries come free, as each does. Locking: rank condemned. verdict() runs in signal handlers: in
// threads that were in the program's own code or return to it, or, after a stale message, anywhere. So it does nothing
// in a thread that is inside these functions.
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
  own_stream,   // the thread runs work of a stream that a scope over the page is to be released by
  circle,       // a scope over the page is open in a thread that waits for an open scope of this one
  no_memory,    // the host's budget, or the system's memory, is exhausted, and nothing is on its way
  failed_copy,  // the page could not be brought: a device or a system call failed
};

class condemned {
 public:
  // Sends the thread our signal. False: it would not reach our handler.
  using asker = bool (*)(thread_id, void* address);
  explicit condemned(vm_object& vm, asker ask = ask_thread) : vm_(vm), ask_(ask) {}

  // The thread's fault on this OS page is an offence: the next step. It has been woken when this returns.
  // memory_seen: of vm.starved, before the fault was served.
  void offends(std::uint64_t offset, thread_id, offence, std::uint32_t memory_seen);
  // The thread's fault was none: whatever it did before is over.
  void went_on(thread_id thread) {
    if (active_.load(std::memory_order_relaxed) != 0) forget(thread);
  }
  // For faults served in the thread that touched: says why and what the signal is to be.
  signal_verdict sentence(std::uint64_t offset, offence) const;
  // In the signal handler of this thread, for a page of the arena that is not in need of serving.
  signal_verdict verdict(std::uint64_t offset, cpu_access);
  // Addresses that are handed out again, or whose scope has ended, are healed first.
  void heal(byte_range);
  void heal_overdue(std::uint64_t now_ns);

  // For the watch: whether there is anything to do, and the event that says so.
  bool any() const { return active_.load(std::memory_order_relaxed) != 0; }
  event& work() { return work_; }

  static constexpr unsigned capacity = 128;
  static constexpr std::uint64_t poisoned_ns = 10'000'000;    // at first
  static constexpr std::uint64_t forgotten_ns = 500'000'000;  // what is not poisoned

 private:
  enum class step : std::uint8_t { none, suspected, asked, in_program, poisoned_call, poisoned_program, sentenced };
  struct entry {
    std::uint64_t offset = 0;
    thread_id thread = 0;
    offence what = offence::wild;
    step at = step::none;
    std::uint32_t memory_seen = 0;
    std::uint32_t serial = 0;  // of this use of the entry
    std::uint64_t since_ns = 0;
    std::uint64_t poisoned_ns = 0;
    bool poisons() const { return at == step::poisoned_call || at == step::poisoned_program; }
  };
  static bool ask_thread(thread_id, void* address);

  entry* of_thread_locked(thread_id);
  entry* take_locked(thread_id, std::uint64_t page, std::uint64_t now_ns);
  void free_locked(entry&);
  step advance_locked(entry&);
  void forget(thread_id);
  void poison(std::uint64_t page, thread_id, std::uint32_t serial);
  bool still_guilty(std::uint64_t offset, cpu_access, const entry&) const;

  vm_object& vm_;
  asker ask_;
  mutable mutex<lock_rank::condemned> lock_;
  entry entries_[capacity];
  std::uint32_t serial_ = 0;
  std::atomic<unsigned> active_{0};
  event work_;
};

}  // namespace gm
