// SPDX-License-Identifier: Apache-2.0
// gate.h - holds a stream until the test lets it go on: the test decides what is still queued while something happens.
#pragma once

#include <atomic>

#include "gmem/gmem.h"

namespace gm::test {

class gate {
 public:
  gate() = default;
  gate(const gate&) = delete;
  gate& operator=(const gate&) = delete;
  ~gate() { open(); }

  // The stream waits here. The gate must outlive its passing.
  gm_status hold(gm_stream stream) { return gm_stream_call(stream, wait, this); }
  void open() {
    open_.store(true);
    open_.notify_all();
  }
  bool reached() const { return reached_.load(); }

 private:
  static void wait(void* self) {
    auto* g = static_cast<gate*>(self);
    g->reached_.store(true);
    g->open_.wait(false);
  }
  std::atomic<bool> open_{false};
  std::atomic<bool> reached_{false};
};

}  // namespace gm::test
