// SPDX-License-Identifier: Apache-2.0
// gate.h - holds a stream until the test lets it go on: the test decides what is still queued while something happens.
#pragma once

#include <atomic>
#include <memory>

#include "gmem/gmem.h"

namespace gm::test {

class gate {
 public:
  gate() = default;
  gate(const gate&) = delete;
  gate& operator=(const gate&) = delete;
  ~gate() { open(); }

  // The stream waits here.
  gm_status hold(gm_stream stream) {
    auto* held = new std::shared_ptr<door>(door_);  // the stream passes later than the gate is gone
    const gm_status got = gm_stream_call(stream, wait, held);
    if (got != GM_OK) delete held;
    return got;
  }
  void open() {
    door_->open.store(true);
    door_->open.notify_all();
  }

 private:
  struct door {
    std::atomic<bool> open{false};
  };
  static void wait(void* argument) {
    auto* held = static_cast<std::shared_ptr<door>*>(argument);
    (*held)->open.wait(false);
    delete held;
  }
  std::shared_ptr<door> door_ = std::make_shared<door>();
};

}  // namespace gm::test
