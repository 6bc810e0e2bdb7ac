// SPDX-License-Identifier: Apache-2.0
// device_answers.h - whether a device still does what it is asked for, while kernels of it wait for pages.
//
// Once a second a word that changes nothing is written to its access map. That is behind no user work, so it takes as
// long as a request for a page does. A device that has not written it after `within_ns` is overdue: a driver that
// hangs, or copy queues that stand behind a kernel which waits for them. Threads: are_overdue() and silent_for_ns() are
// one thread's. The device's streams end before this does.
#pragma once

#include <atomic>
#include <cstdint>

#include "migrate/access_map.h"

namespace gm {

class device_answers {
 public:
  explicit device_answers(const access_map& map) : map_(map) {}
  device_answers(const device_answers&) = delete;
  device_answers& operator=(const device_answers&) = delete;

  std::uint64_t within_ns = 10'000'000'000;  // set before the first question

  // Asks when it is time to; called again and again. True where an answer is overdue, and then once in within_ns.
  bool are_overdue(std::uint64_t now_ns);
  std::uint64_t silent_for_ns(std::uint64_t now_ns) const { return now_ns - asked_at_ns_; }

 private:
  const access_map& map_;
  std::atomic<unsigned> pending_{0};  // answers
  std::uint64_t asked_at_ns_ = 0;
  std::uint64_t told_at_ns_ = 0;
  std::uint64_t here_at_ns_ = 0;  // the last call
};

}  // namespace gm
