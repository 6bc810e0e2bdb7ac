// SPDX-License-Identifier: Apache-2.0
// scope.cpp - what declaring an access costs when nothing has to move: scope/resident, scope/duplicate.
#include "bare_pager.h"
#include "managed.h"
#include "measure.h"

namespace gm::bench {
namespace {

// begin and end over 1 GiB that the device alone holds; GM_READ_WRITE, the mode that could least be shared.
// Counters: the same in two parts, for GM_READ, and with the wait until the pages are released.
class resident : public measurement {
 public:
  resident() { memory_.fill(device_node, next_value()); }

  sample run(bool) override {
    const timing both = average(GM_READ_WRITE);
    const timing read = average(GM_READ);
    sample result{both.begin_ns + both.end_ns};
    result.counters = {{"begin_ns", both.begin_ns},
                       {"end_ns", both.end_ns},
                       {"read_ns", read.begin_ns + read.end_ns},
                       {"with_release_ns", both.begin_ns + both.end_ns + both.release_ns}};
    return result;
  }

 private:
  static constexpr std::size_t bytes = GiB;
  static constexpr int rounds = 100;

  struct timing {  // a block
    double begin_ns = 0, end_ns = 0, release_ns = 0;
  };

  timing average(gm_mode mode) {
    timing sum;
    const gm_access access = memory_.as(mode);
    for (int round = 0; round < rounds; ++round) {
      gm_scope scope = nullptr;
      gm_status begun = GM_OK, ended = GM_OK;
      sum.begin_ns += time_ns([&] { begun = gm_access_begin(stream_.get(), &access, 1, &scope); });
      check(begun, "gm_access_begin");
      sum.end_ns += time_ns([&] { ended = gm_access_end(scope); });
      check(ended, "gm_access_end");
      sum.release_ns += time_ns([&] { stream_.synchronize(); });
    }
    constexpr double blocks = static_cast<double>(rounds) * static_cast<double>(bytes / block_bytes);
    return {sum.begin_ns / blocks, sum.end_ns / blocks, sum.release_ns / blocks};
  }

  session runtime_;
  managed_memory memory_{bytes};
  device_stream stream_;
};

// The CPU fills, the device reads, the CPU reads, the device reads again: by then both hold a copy, and nothing moves.
class duplicate : public measurement {
 public:
  sample run(bool) override {
    const unsigned char value = next_value();
    memory_.fill(GM_HOST, value);
    const std::uint64_t expected = expected_sum(bytes, value);
    const std::uint64_t start = bytes_moved();
    expect(sum_words_on_device(stream_, memory_) == expected, "the device read wrong words");
    const std::uint64_t first = bytes_moved();
    expect(sum_words(memory_.data(), bytes) == expected, "the CPU read wrong words");
    const std::uint64_t second = bytes_moved();
    std::uint64_t sum = 0;
    sample result;
    result.ours_ns = time_ns([&] { sum = sum_words_on_device(stream_, memory_); });
    expect(sum == expected, "the device read wrong words the second time");
    expect(first - start >= bytes, "the device read what was never moved to it");
    result.counters = {{"bytes_first_time", static_cast<double>(first - start)},
                       {"bytes_second_time", static_cast<double>(second - first)},
                       {"bytes_third_time", static_cast<double>(bytes_moved() - second)}};
    return result;
  }

 private:
  static constexpr std::size_t bytes = 64 * MiB;

  session runtime_;
  managed_memory memory_{bytes};
  device_stream stream_;
};

}  // namespace

void add_scope(case_list& cases) {
  cases.push_back({"scope/resident", 21, [] { return std::make_unique<resident>(); }});
  cases.push_back({"scope/duplicate", 5, [] { return std::make_unique<duplicate>(); }});
}

}  // namespace gm::bench
