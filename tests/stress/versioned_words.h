// SPDX-License-Identifier: Apache-2.0
// versioned_words.h - words that tell which array they belong to, where in it and since when; and the kernel that
// verifies one version and leaves the next. No two contents, of one array or of two, ever have the same version.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "model/live_runtime.h"
#include "stress/device_work.h"

namespace gm::test {

inline std::uint64_t word_of(std::uint64_t version, std::uint64_t index) {
  return random_source(version << 32 ^ index).next();
}

// A stream of one thread, and what became of the kernels queued on it.
class verifying_lane {
 public:
  explicit verifying_lane(int node) : stream_(node) {}
  const device_stream& stream() const { return stream_; }

  // Within a scope.
  void launch(const std::uint64_t* words, std::size_t count, std::uint64_t before, std::uint64_t after) {
    auto* there = static_cast<std::uint64_t*>(gm_device_pointer(words, stream_.node()));
    ASSERT_NE(there, nullptr) << gm_last_error();
    auto k = std::make_unique<kernel>(kernel{there, before, after, *this});
    ASSERT_EQ(gm_stream_launch(stream_.get(), count, kernel::body, kernel::finish, k.get()), GM_OK) << gm_last_error();
    (void)k.release();
    ++launched_;
  }

  void wait() {
    EXPECT_EQ(stream_.wait(), GM_OK) << gm_last_error();
    EXPECT_EQ(finished_.load(), launched_) << "kernels are not finished behind gm_stream_synchronize";
    EXPECT_EQ(wrong_.load(), 0u) << "words were wrong in kernels";
  }

 private:
  struct kernel {
    std::uint64_t* words;
    std::uint64_t before;
    std::uint64_t after;
    verifying_lane& on;

    static void body(void* self, std::size_t first, std::size_t last) {
      const kernel& k = *static_cast<kernel*>(self);
      std::uint64_t wrong = 0;
      for (std::size_t i = first; i < last; ++i) {
        wrong += k.words[i] != word_of(k.before, i) ? 1 : 0;
        k.words[i] = word_of(k.after, i);
      }
      k.on.wrong_.fetch_add(wrong);
    }
    static void finish(void* self) {
      const std::unique_ptr<kernel> k(static_cast<kernel*>(self));
      k->on.finished_.fetch_add(1);
    }
  };

  const device_stream stream_;
  std::uint64_t launched_ = 0;
  std::atomic<std::uint64_t> finished_{0};
  std::atomic<std::uint64_t> wrong_{0};
};

}  // namespace gm::test
