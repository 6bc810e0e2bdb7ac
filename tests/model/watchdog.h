// SPDX-License-Identifier: Apache-2.0
// watchdog.h - ends the process with words when nothing has moved for a minute: a hang is a failure, not a wait.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "model/live_runtime.h"

namespace gm::test {

class watchdog {
 public:
  explicit watchdog(const char* what, unsigned seconds = 60)
      : what_(what), seconds_(seconds), thread_([this] { watch(); }) {}
  watchdog(const watchdog&) = delete;
  watchdog& operator=(const watchdog&) = delete;
  ~watchdog() {
    {
      const std::scoped_lock lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  // Something has been done.
  void progress() { count_.fetch_add(1, std::memory_order_relaxed); }

 private:
  void watch() {
    std::uint64_t seen = 0;
    unsigned idle = 0;
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, std::chrono::seconds(1), [this] { return over_; })) {
      const std::uint64_t now = count_.load(std::memory_order_relaxed);
      idle = now == seen ? idle + 1 : 0;
      seen = now;
      if (idle < seconds_) continue;
      std::fprintf(stderr, "%s: nothing has moved for %u s\n%s", what_, seconds_, table_dump().c_str());
      std::abort();
    }
  }

  const char* what_;
  const unsigned seconds_;
  std::atomic<std::uint64_t> count_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace gm::test
