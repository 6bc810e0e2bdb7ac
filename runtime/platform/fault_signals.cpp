// SPDX-License-Identifier: Apache-2.0
#include "platform/fault_signals.h"

#include <pthread.h>
#include <ucontext.h>

#include <atomic>
#include <cerrno>
#include <cstring>

namespace gm {
namespace {

// Who had a signal before, and whether the one call that SA_RESETHAND allows it is over.
struct earlier_action {
  struct sigaction action {};
  std::atomic<bool> spent{false};

  void set(const struct sigaction& now) {
    action = now;
    spent.store(false);
  }
};

std::atomic<signal_callback> current{nullptr};
earlier_action before_us;

// A handler that the program has put over ours may pass signals on to us. When gmem is stopped and started again, that
// handler is before us and behind us: what it gives back to us goes to whoever had SIGBUS before it.
earlier_action before_all;
bool covered = false;  // a handler has stood over ours when gmem was stopped

cpu_access access_of(const void* context) {
#if defined(__x86_64__)
  const auto* user = static_cast<const ucontext_t*>(context);
  return (user->uc_mcontext.gregs[REG_ERR] & 2) != 0 ? cpu_access::write : cpu_access::read;
#elif defined(__aarch64__)
  // The exception syndrome is one of the records behind the general registers; bit 6 tells a write.
  const auto* user = static_cast<const ucontext_t*>(context);
  const auto* at = reinterpret_cast<const unsigned char*>(user->uc_mcontext.__reserved);
  const auto* end = at + sizeof user->uc_mcontext.__reserved;
  while (at + sizeof(_aarch64_ctx) <= end) {
    const auto* record = reinterpret_cast<const _aarch64_ctx*>(at);
    if (record->magic == ESR_MAGIC)
      return (reinterpret_cast<const esr_context*>(record)->esr & 64) != 0 ? cpu_access::write : cpu_access::read;
    if (record->magic == 0 || record->size == 0) break;
    at += record->size;
  }
  return cpu_access::write;
#else
  (void)context;
  return cpu_access::write;  // one upgrade too many is correct, one too few would fault for ever
#endif
}

// Of this access, or sent to stand for one: it cannot be ignored or put off.
bool of_an_access(const siginfo_t* info) { return info->si_code > 0 || info->si_code == sent_by_gmem; }

// The default action, now: blocked or not, as the kernel does it where an access cannot go on.
void die_of(int number) {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  sigaction(number, &standard, nullptr);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, number);
  pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  raise(number);
}

// Gives the signal to an action as the kernel would have (fault_signals.h says what is not done).
void pass_on(const struct sigaction& action, int number, siginfo_t* info, void* context) {
  const bool has_handler = action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
  if (action.sa_handler == SIG_IGN && !of_an_access(info)) return;
  const bool was_blocked = sigismember(&static_cast<const ucontext_t*>(context)->uc_sigmask, number) == 1;
  if (!has_handler || (was_blocked && of_an_access(info))) return die_of(number);
  sigset_t mask = action.sa_mask;
  if ((action.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, number);
  sigset_t old;
  pthread_sigmask(SIG_BLOCK, &mask, &old);
  if ((action.sa_flags & SA_SIGINFO) != 0)
    action.sa_sigaction(number, info, context);
  else
    action.sa_handler(number);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

void pass_on(earlier_action& earlier, int number, siginfo_t* info, void* context) {
  if ((earlier.action.sa_flags & SA_RESETHAND) != 0 && earlier.spent.exchange(true)) return die_of(number);
  pass_on(earlier.action, number, info, context);
}

void pass_on_wild(siginfo_t* info, void* context) {
  struct sigaction segv {};
  sigaction(SIGSEGV, nullptr, &segv);
  if ((segv.sa_flags & SA_RESETHAND) != 0) {
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    sigaction(SIGSEGV, &standard, nullptr);
  }
  siginfo_t as_segv = *info;
  as_segv.si_signo = SIGSEGV;
  as_segv.si_code = SEGV_MAPERR;
  pass_on(segv, SIGSEGV, &as_segv, context);
}

// How often we have passed this signal on, kept at the end of its record, which the kernel leaves zero: a handler that
// gives a signal back to us gives us its record.
constexpr std::uint64_t pass_mark = 0x676d656d70617373;  // and the number added
constexpr std::uint64_t passes_max = 2;
constexpr std::size_t mark_offset = sizeof(siginfo_t) - sizeof pass_mark;

std::uint64_t passes_of(const siginfo_t* info) {
  std::uint64_t mark = 0;
  std::memcpy(&mark, reinterpret_cast<const unsigned char*>(info) + mark_offset, sizeof mark);
  return mark - pass_mark <= passes_max ? mark - pass_mark : 0;
}

void pass_on_sigbus(int number, siginfo_t* info, void* context) {
  const std::uint64_t passes = passes_of(info);
  if (passes == passes_max) return die_of(number);
  const std::uint64_t mark = pass_mark + passes + 1;
  std::memcpy(reinterpret_cast<unsigned char*>(info) + mark_offset, &mark, sizeof mark);
  pass_on(passes == 0 ? before_us : before_all, number, info, context);
}

void on_sigbus(int number, siginfo_t* info, void* context) {
  if (passes_of(info) != 0) return pass_on_sigbus(number, info, context);
  const int saved_errno = errno;
  const signal_callback callback = current.load(std::memory_order_acquire);
  const signal_verdict verdict = callback == nullptr || !of_an_access(info)
                                     ? signal_verdict::not_ours
                                     : callback(info->si_addr, access_of(context));
  errno = saved_errno;
  switch (verdict) {
    case signal_verdict::try_again:
      return;
    case signal_verdict::not_ours:
    case signal_verdict::bus_error:
      return pass_on_sigbus(number, info, context);
    case signal_verdict::wild:
      return pass_on_wild(info, context);
  }
}

bool is_ours(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_sigbus;
}

}  // namespace

status install_fault_signals(signal_callback callback) {
  struct sigaction now {};
  if (sigaction(SIGBUS, nullptr, &now) != 0) return fail_errno("asking for the SIGBUS handler");
  // Ours already where a program has put back what it once found: then what is before us stands.
  if (!is_ours(now)) {
    before_us.set(now);
    if (!covered) before_all.set(now);
  }
  current.store(callback, std::memory_order_release);
  struct sigaction action {};
  action.sa_sigaction = on_sigbus;
  // A sent one may find the thread in a system call that has nothing to do with it.
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_RESTART;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGBUS, &action, nullptr) != 0) return fail_errno("installing the SIGBUS handler");
  return status::ok;
}

bool fault_signals_in_place() {
  struct sigaction now {};
  return sigaction(SIGBUS, nullptr, &now) == 0 && is_ours(now);
}

void remove_fault_signals() {
  if (!fault_signals_in_place()) {
    covered = true;
  } else {
    struct sigaction back = before_us.action;
    if (before_us.spent) back.sa_handler = SIG_DFL;
    sigaction(SIGBUS, &back, nullptr);
  }
  current.store(nullptr, std::memory_order_release);
}

}  // namespace gm
