// SPDX-License-Identifier: Apache-2.0
#include "platform/fault_signals.h"

#include <ucontext.h>

#include <atomic>
#include <cerrno>

namespace gm {
namespace {

std::atomic<signal_callback> current{nullptr};
struct sigaction before_us {};

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

// Gives the signal to an action as the kernel would have. The default action takes hold when the access is repeated.
void pass_on(const struct sigaction& action, int number, siginfo_t* info, void* context) {
  if ((action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction != nullptr) {
    action.sa_sigaction(number, info, context);
  } else if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) {
    action.sa_handler(number);
  } else if (action.sa_handler == SIG_IGN && info->si_code <= 0 && info->si_code != sent_by_gmem) {
    return;  // sent, and ignored. That of an access cannot be
  } else {
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    sigaction(number, &standard, nullptr);
    raise(number);  // blocked until the handler returns when it is our own signal, at once otherwise
  }
}

void on_sigbus(int number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const signal_callback callback = current.load(std::memory_order_acquire);
  const bool has_address = info->si_code > 0 || info->si_code == sent_by_gmem;
  const signal_verdict verdict =
      callback == nullptr || !has_address ? signal_verdict::not_ours : callback(info->si_addr, access_of(context));
  errno = saved_errno;
  switch (verdict) {
    case signal_verdict::try_again:
      return;
    case signal_verdict::not_ours:
    case signal_verdict::bus_error:
      pass_on(before_us, number, info, context);
      return;
    case signal_verdict::wild: {
      struct sigaction segv {};
      sigaction(SIGSEGV, nullptr, &segv);
      siginfo_t as_segv = *info;
      as_segv.si_signo = SIGSEGV;
      as_segv.si_code = SEGV_MAPERR;
      pass_on(segv, SIGSEGV, &as_segv, context);
      return;
    }
  }
}

}  // namespace

status install_fault_signals(signal_callback callback) {
  current.store(callback, std::memory_order_release);
  struct sigaction action {};
  action.sa_sigaction = on_sigbus;
  // A sent one may find the thread in a system call that has nothing to do with it.
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_RESTART;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGBUS, &action, &before_us) != 0) return fail_errno("installing the SIGBUS handler");
  return status::ok;
}

bool fault_signals_in_place() {
  struct sigaction now {};
  return sigaction(SIGBUS, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_sigbus;
}

void remove_fault_signals() {
  if (fault_signals_in_place()) sigaction(SIGBUS, &before_us, nullptr);
  current.store(nullptr, std::memory_order_release);
}

}  // namespace gm
