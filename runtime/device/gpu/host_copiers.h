// SPDX-License-Identifier: Apache-2.0
// host_copiers.h - threads that help to copy host memory, since one core copies slower than a copy engine.
//
//   done --post--> posted --a copier, or finish()--> begun --> done
// Who posts a copy also finishes it, and does it himself where no copier has begun it. So nobody ever waits for a
// copier to come, and where there are none (one CPU, or no threads to be had) nothing changes but the time it takes.
// They start with the first post, look for more work for a while, sleep, and end with the object. They call no API.
// Locking: one lock, for a few instructions; innermost. Nothing is copied under it. Threads: any.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace gm::device::gpu {

// One copy within host memory. It stays where it is until the copiers have ended.
struct host_copy {
  void* destination = nullptr;
  const void* source = nullptr;
  std::size_t bytes = 0;
  std::atomic<bool> is_done{true};
  bool is_posted = false;  // and not begun
  host_copy* next = nullptr;
};

class host_copiers {
 public:
  host_copiers() = default;
  host_copiers(const host_copiers&) = delete;
  host_copiers& operator=(const host_copiers&) = delete;
  ~host_copiers();

  // Some thread may begin the copy from now on. It is the caller's again after finish().
  void post(host_copy& copy) noexcept;
  // The copy is done when it returns; one that was never posted is.
  void finish(host_copy& copy) noexcept;

 private:
  void start_locked() noexcept;
  void thread_main() noexcept;
  void unlink_locked(host_copy& copy) noexcept;

  std::mutex mutex_;
  std::condition_variable has_work_;
  std::atomic<std::uint32_t> posted_{0};  // so many are in the list; for those who look without the lock
  host_copy* first_ = nullptr;
  host_copy* last_ = nullptr;
  std::vector<std::thread> threads_;
  bool is_started_ = false;
  bool is_ending_ = false;
};

}  // namespace gm::device::gpu
