// SPDX-License-Identifier: Apache-2.0
// crowd.h - several threads' random use of the same memory, each beside a plain array of its own.
//
// Shared allocations are cut into stripes of a length that no page is a multiple of; stripe i belongs to thread
// i % threads. A thread reads and writes its stripes only, so that it alone knows what they must contain, while the
// pages and blocks around them are everybody's. Beside them stand a table that all read and nobody writes, and memory
// that each thread allocates, moves, discards, pins and frees for itself.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "model/oracle_kernel.h"
#include "model/watchdog.h"

namespace gm::test {

class crowd {
 public:
  static constexpr std::size_t stripe_bytes = 5000;

  crowd(const flavour&, unsigned threads, std::uint64_t seed);
  crowd(const crowd&) = delete;
  crowd& operator=(const crowd&) = delete;
  ~crowd();

  // Every thread takes so many steps. Empty, or what went wrong first.
  std::string run(std::uint64_t steps_each);

 private:
  class member;
  struct shared_memory {
    std::uint8_t* base = nullptr;
    std::size_t bytes = 0;
  };

  void fail(const std::string& what);
  bool failed() const { return failed_.load(); }

  const flavour flavour_;
  const unsigned threads_;
  const std::uint64_t seed_;
  std::array<shared_memory, 3> shared_;
  shared_memory table_;
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::string failure_;
  watchdog watchdog_{"model: many threads"};
};

}  // namespace gm::test
