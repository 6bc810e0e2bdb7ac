// SPDX-License-Identifier: Apache-2.0
// must_end.h - ends the program, with words, when a test does not get past here in a minute: kernels that wait for ever
// would keep it from ending in any other way.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace gm::test {

class must_end {
 public:
  explicit must_end(const char* what, unsigned seconds = 60)
      : thread_([this, what, seconds] { wait(what, seconds); }) {}
  must_end(const must_end&) = delete;
  must_end& operator=(const must_end&) = delete;
  ~must_end() {
    {
      const std::scoped_lock lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void wait(const char* what, unsigned seconds) {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, std::chrono::seconds(seconds), [this] { return over_; })) return;
    std::fprintf(stderr, "%s: not over after %u s\n", what, seconds);
    std::abort();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace gm::test
