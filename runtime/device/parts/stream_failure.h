// SPDX-License-Identifier: Apache-2.0
// stream_failure.h - why a stream has failed, with the words for it: the first failure stays until it is taken.
//
// Locking: one mutex, taken to set, read out and take; asking whether there is a failure is one load. Threads: any.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

#include "device/parts/error_text.h"
#include "gmem/gmem.h"

namespace gm::device {

class stream_failure {
 public:
  bool is_set() const noexcept { return why_.load(std::memory_order_acquire) != GM_OK; }

  // Nothing when there is a failure already, or why is GM_OK.
  void set(gm_status why, const char* words) noexcept {
    if (why == GM_OK) return;
    const std::scoped_lock lock(mutex_);
    if (why_.load(std::memory_order_relaxed) != GM_OK) return;
    const std::size_t length = std::min(std::strlen(words), sizeof words_ - 1);
    std::memcpy(words_, words, length);
    words_[length] = '\0';
    why_.store(why, std::memory_order_release);
  }

  // The failure, with its words as this thread's; GM_OK where there is none.
  gm_status current() noexcept {
    if (!is_set()) return GM_OK;
    const std::scoped_lock lock(mutex_);
    const gm_status why = why_.load(std::memory_order_relaxed);
    return why == GM_OK ? GM_OK : fail(why, "%s", words_);
  }

  // The same, and the stream is as new.
  gm_status take() noexcept {
    if (!is_set()) return GM_OK;
    const std::scoped_lock lock(mutex_);
    const gm_status why = why_.exchange(GM_OK, std::memory_order_acq_rel);
    return why == GM_OK ? GM_OK : fail(why, "%s", words_);
  }

  void clear() noexcept { why_.store(GM_OK, std::memory_order_relaxed); }

 private:
  std::atomic<gm_status> why_{GM_OK};
  std::mutex mutex_;
  char words_[error_text_bytes] = {};
};

}  // namespace gm::device
