// SPDX-License-Identifier: Apache-2.0
// device_work.h - a stream that lives as long as its owner, and the kernel that adds to words.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <thread>

#include "gmem/gmem.h"

namespace gm::test {

class device_stream {
 public:
  explicit device_stream(int node) : node_(node) {
    EXPECT_EQ(gm_stream_create(node, &stream_), GM_OK) << gm_last_error();
  }
  device_stream(const device_stream&) = delete;
  device_stream& operator=(const device_stream&) = delete;
  ~device_stream() { EXPECT_EQ(gm_stream_destroy(stream_), GM_OK) << gm_last_error(); }

  gm_stream get() const { return stream_; }
  int node() const { return node_; }
  gm_status wait() const { return gm_stream_synchronize(stream_); }

 private:
  int node_;
  gm_stream stream_ = nullptr;
};

// words[i] = words[i] + add, on the device; within a scope. Not atomic, that is what the scope is for, and slow in the
// middle of a word, so that two kernels that overlap lose something. False when it could not be queued.
inline bool queue_add(const device_stream& on, std::uint64_t* words, std::size_t count, std::uint64_t add) {
  struct kernel {
    std::uint64_t* words;
    std::uint64_t add;
    static void body(void* self, std::size_t first, std::size_t last) {
      const kernel k = *static_cast<kernel*>(self);
      const std::uint64_t seen = *static_cast<volatile std::uint64_t*>(k.words + first);
      std::this_thread::yield();
      *static_cast<volatile std::uint64_t*>(k.words + first) = seen + k.add;
      for (std::size_t i = first + 1; i < last; ++i) k.words[i] += k.add;
    }
    static void finish(void* self) { delete static_cast<kernel*>(self); }
  };
  auto* there = static_cast<std::uint64_t*>(gm_device_pointer(words, on.node()));
  if (there == nullptr) return false;
  auto k = std::make_unique<kernel>(kernel{there, add});
  if (gm_stream_launch(on.get(), count, kernel::body, kernel::finish, k.get()) != GM_OK) return false;
  (void)k.release();
  return true;
}

// A scope, kernel and end. The status of whatever failed first.
inline gm_status add_on_device(const device_stream& on, std::uint64_t* words, std::size_t count, std::uint64_t add) {
  const gm_access access{words, count * sizeof *words, GM_READ_WRITE};
  gm_scope scope = nullptr;
  if (const gm_status s = gm_access_begin(on.get(), &access, 1, &scope); s != GM_OK) return s;
  EXPECT_TRUE(queue_add(on, words, count, add)) << gm_last_error();
  return gm_access_end(scope);
}

}  // namespace gm::test
