// SPDX-License-Identifier: Apache-2.0
#include "platform/thread.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <new>

#include "base/inject.h"

namespace gm {
namespace {

struct start_record {
  void (*body)(void*);
  void* argument;
};

void* run(void* raw) {
  const start_record record = *static_cast<start_record*>(raw);
  delete static_cast<start_record*>(raw);
  record.body(record.argument);
  return nullptr;
}

}  // namespace

thread_id this_thread() {
  thread_local const thread_id id = static_cast<thread_id>(syscall(SYS_gettid));
  return id;
}

unsigned cpu_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count > 0 ? static_cast<unsigned>(count) : 1;
}

int nth_cpu(unsigned n) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return any_cpu;
  n %= cpu_count();
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(static_cast<unsigned>(cpu), &set) && n-- == 0) return cpu;
  return any_cpu;
}

status thread::start(const char* name, int cpu, void (*body)(void*), void* argument) {
  if (inject::fails(inject::point::thread_start)) return fail(status::system, "starting thread %s (injected)", name);
  auto* record = new (std::nothrow) start_record{body, argument};
  if (record == nullptr) return fail(status::no_memory, "starting thread %s", name);
  sigset_t all;
  sigset_t old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);  // a new thread starts with its maker's mask
  const int error = pthread_create(&handle_, nullptr, run, record);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (error != 0) {
    delete record;
    errno = error;
    return fail_errno("starting thread %s", name);
  }
  running_ = true;
  pthread_setname_np(handle_, name);
  if (cpu != any_cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(cpu), &set);
    pthread_setaffinity_np(handle_, sizeof set, &set);  // a wish: the thread works anywhere
  }
  return status::ok;
}

void thread::join() {
  if (!running_) return;
  pthread_join(handle_, nullptr);
  running_ = false;
}

}  // namespace gm
