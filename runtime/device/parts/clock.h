// SPDX-License-Identifier: Apache-2.0
// clock.h - time for a backend: CLOCK_MONOTONIC in nanoseconds, and the two ways to wait by it.
//
// Spinning is always bounded by a duration, so that what is idle costs nothing. No state; any thread.
#pragma once

#include <sched.h>
#include <time.h>

#include <cstdint>

namespace gm::device {

inline std::uint64_t now_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

inline void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Asks ready() again and again for at most that long. True when it was. Gives the CPU up in between: whoever makes it
// ready may be waiting for this very CPU, as the kernel likes to wake a thread where its waker runs.
template <class Predicate>
bool spin_for_ns(std::uint64_t duration_ns, Predicate ready) noexcept {
  if (ready()) return true;
  const std::uint64_t end_ns = now_ns() + duration_ns;
  do {
    for (int i = 0; i < 8; ++i) {
      cpu_relax();
      if (ready()) return true;
    }
    sched_yield();
  } while (now_ns() < end_ns);
  return false;
}

// Returns when the clock has reached end_ns, never before. Sleeps through most of it and spins through the tail, since
// a sleep ends late by about a wake-up. 0 has passed already.
inline void wait_until_ns(std::uint64_t end_ns) noexcept {
  constexpr std::uint64_t tail_ns = 80'000;
  for (std::uint64_t now = end_ns == 0 ? 0 : now_ns(); now < end_ns; now = now_ns()) {
    if (end_ns - now <= tail_ns) {
      cpu_relax();
      continue;
    }
    const std::uint64_t until_ns = end_ns - tail_ns;
    const timespec until{static_cast<time_t>(until_ns / 1'000'000'000u), static_cast<long>(until_ns % 1'000'000'000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
  }
}

}  // namespace gm::device
