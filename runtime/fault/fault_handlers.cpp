// SPDX-License-Identifier: Apache-2.0
#include "fault/fault_handlers.h"

#include <unistd.h>

#include "platform/clock.h"

namespace gm {

namespace {

constexpr unsigned watch_period_us = 5'000;

}  // namespace

status fault_handlers::start(unsigned count) {
  if (const status s = watch_.start("gmem-watch", any_cpu, run_watch, this); s != status::ok) return s;
  for (unsigned i = 0; i < count; ++i) {
    running_.fetch_add(1);
    if (const status s = threads_[i].start("gmem-fault", nth_cpu(i), run, this); s != status::ok) {
      running_.fetch_sub(1);
      stop();
      return s;
    }
    count_ = i + 1;
  }
  return status::ok;
}

void fault_handlers::stop() {
  stopping_.store(true);
  const byte_range bell{doorbell(), doorbell() + os_page_bytes};
  while (running_.load() != 0) {
    // Each ring is a fault that one handler answers, and then leaves.
    (void)source_.drop(bell);
    const volatile std::byte* touched = memory_.user(bell.begin);
    (void)*touched;
  }
  for (unsigned i = 0; i < count_; ++i) threads_[i].join();
  offenders_.work().happened();
  watch_.join();
  count_ = 0;
  stopping_.store(false);
}

void fault_handlers::run(void* self) { static_cast<fault_handlers*>(self)->loop(); }

void fault_handlers::run_watch(void* self) { static_cast<fault_handlers*>(self)->watch(); }

void fault_handlers::watch() {
  for (;;) {
    const std::uint32_t seen = offenders_.work().now();
    if (stopping_.load()) return;
    if (!offenders_.any()) {
      offenders_.work().wait_past(seen);
      continue;
    }
    usleep(watch_period_us);
    offenders_.heal_overdue(now_ns());
  }
}

void fault_handlers::loop() {
  for (;;) {
    cpu_fault fault{};
    if (!source_.read_fault(fault)) continue;
    if (fault.offset != doorbell() || !stopping_.load()) {
      server_.handle(fault);
      continue;
    }
    const byte_range bell{doorbell(), doorbell() + os_page_bytes};
    running_.fetch_sub(1);
    // The memfd page exists from the first ring on: then it is mapped rather than made.
    if (source_.map_zero(bell) != status::ok || source_.map(bell, cpu_access::read) != status::ok) source_.wake(bell);
    return;
  }
}

}  // namespace gm
