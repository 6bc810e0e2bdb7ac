// SPDX-License-Identifier: Apache-2.0
#include "device/parts/runner_thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <exception>
#include <system_error>

#include "device/parts/error_text.h"
#include "device/parts/static_tls.h"

namespace gm::device {
namespace {

GM_STATIC_TLS thread_local constinit bool is_runner = false;

// The signals that a thread raises by its own instructions stay: a blocked one would kill the process past its handler.
sigset_t signals_of_others() {
  sigset_t set;
  sigfillset(&set);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) sigdelset(&set, own);
  return set;
}

void use_the_cpus_of_the_process() {
  cpu_set_t cpus;
  if (sched_getaffinity(getpid(), sizeof cpus, &cpus) == 0) sched_setaffinity(0, sizeof cpus, &cpus);
}

}  // namespace

gm_status start_runner_thread(const char* name, void (*main)(void*), void* argument, std::thread& result) noexcept {
  const sigset_t blocked = signals_of_others();
  sigset_t old;
  pthread_sigmask(SIG_SETMASK, &blocked, &old);
  gm_status status = GM_OK;
  try {
    result = std::thread([=] {
      pthread_setname_np(pthread_self(), name);
      use_the_cpus_of_the_process();
      is_runner = true;
      main(argument);
    });
  } catch (const std::system_error& error) {
    status = fail(GM_ERROR_NO_MEMORY, "no thread for a stream: %s", error.what());
  } catch (const std::exception& error) {
    status = fail(GM_ERROR_NO_MEMORY, "no memory for a stream's thread: %s", error.what());
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  return status;
}

bool is_runner_thread() noexcept { return is_runner; }

}  // namespace gm::device
