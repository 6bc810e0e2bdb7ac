// SPDX-License-Identifier: Apache-2.0
// fault_signals.h - SIGBUS inside the arena, and passing on what is not ours.
//
// One handler a process. It asks the callback; what the callback does not take goes to whoever had SIGBUS before, as
// if we were not there. The callback may also name another signal for the address (SIGSEGV for a wild one).
//
// Passing on does what the kernel does: sa_mask, SA_NODEFER, SA_RESETHAND, SA_SIGINFO; a signal of an access whose
// action is the default, or ignored, or that is blocked, ends the program. Not done: the earlier handler runs where
// ours runs, on the alternate stack where the thread has one, whether it asked for SA_ONSTACK or not. A handler that
// the program installs over ours gets SIGBUS first, and passes on what it does not want. One that stays over ours when
// gmem is stopped and started again may hand a signal back to us: it then goes to whoever was first. Threads:
// installing and removing are alone; the handler runs in any.
#pragma once

#include <csignal>

#include "base/status.h"
#include "platform/user_mapping.h"

namespace gm {

enum class signal_verdict {
  not_ours,   // pass SIGBUS on
  try_again,  // return: the access is repeated
  bus_error,  // pass SIGBUS on: the program's handler, or death
  wild,       // pass SIGSEGV on instead
};

// Runs in the thread that touched the address, in a signal handler: async-signal-safe, or safe because that thread was
// in the program's code.
using signal_callback = signal_verdict (*)(void* address, cpu_access);

// si_code of a SIGBUS that the runtime sends to a thread, with si_addr set as for an access. Other sent signals have no
// address, and are passed on unseen.
inline constexpr int sent_by_gmem = -0x676d;

status install_fault_signals(signal_callback);
// Whether SIGBUS still comes to us first: nobody has replaced our handler.
bool fault_signals_in_place();
// Puts the earlier handler back, unless somebody has replaced ours meanwhile.
void remove_fault_signals();

}  // namespace gm
