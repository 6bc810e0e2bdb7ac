// SPDX-License-Identifier: Apache-2.0
// caught_signal.h - touches that end in a signal, survived: the test goes on behind them.
//
// catch_signals stands in for the program's own handlers of SIGBUS and SIGSEGV, so it must be made before gmem starts.
// Threads: each catches its own.
#pragma once

#include <atomic>
#include <csetjmp>
#include <csignal>

namespace gm::test {

class catch_signals {
 public:
  catch_signals() {
    struct sigaction action {};
    action.sa_sigaction = jump_out;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &bus_before_);
    sigaction(SIGSEGV, &action, &segv_before_);
  }
  catch_signals(const catch_signals&) = delete;
  catch_signals& operator=(const catch_signals&) = delete;
  ~catch_signals() {
    sigaction(SIGBUS, &bus_before_, nullptr);
    sigaction(SIGSEGV, &segv_before_, nullptr);
  }

  // Runs act; returns the signal that ended it, 0 if none did. act owns nothing that a jump out of it would leak.
  template <typename F>
  static int during(F&& act) {
    sigjmp_buf here;
    sigjmp_buf* const outer = inside;
    volatile int number = 0;
    if (number = sigsetjmp(here, 1); number == 0) {
      inside = &here;
      std::atomic_signal_fence(std::memory_order_seq_cst);  // the handler reads it
      act();
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    inside = outer;
    return number;
  }

  // Of this thread's last caught signal.
  static void* address() { return at; }

 private:
  static void jump_out(int number, siginfo_t* info, void*) {
    if (inside == nullptr) {
      signal(number, SIG_DFL);  // nobody expected it: die of it
      return;
    }
    at = info->si_addr;
    siglongjmp(*inside, number);
  }

  static inline thread_local sigjmp_buf* inside = nullptr;
  static inline thread_local void* at = nullptr;
  struct sigaction bus_before_ {};
  struct sigaction segv_before_ {};
};

}  // namespace gm::test
