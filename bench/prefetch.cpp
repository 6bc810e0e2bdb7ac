// SPDX-License-Identifier: Apache-2.0
// prefetch.cpp - moving 256 MiB because the program says so: prefetch/to_device, prefetch/to_host.
#include <cstring>

#include "bare_pager.h"
#include "managed.h"
#include "measure.h"

namespace gm::bench {
namespace {

constexpr std::size_t bytes = 256 * MiB;

sample with_rate(sample measured) {
  measured.counters["bytes_per_second"] = static_cast<double>(bytes) * 1e9 / measured.ours_ns;
  return measured;
}

// Before: the CPU has written every OS page, so that all are mapped and the host alone holds them.
// Floor: a block after the other, take it from the CPU and copy it into memory of the device's kind.
class to_device : public measurement {
 public:
  sample run(bool floor_first) override {
    return with_rate(time_both(
        floor_first, [&] { return ours(); }, [&] { return floor(); }));
  }

 private:
  double ours() {
    const unsigned char value = next_value();
    write_words(memory_.data(), bytes, value);
    memory_.expect_valid(0b01);
    const double ns = time_ns([&] { memory_.prefetch(device_node); });
    memory_.expect_valid(0b11);
    expect(sum_words_on_device(stream_, memory_) == expected_sum(bytes, value), "the device read wrong words");
    return ns;
  }

  double floor() {
    const unsigned char value = next_value();
    floor_.drop(0, bytes);
    for (std::size_t offset = 0; offset < bytes; offset += block_bytes) {
      floor_.map(offset, block_bytes, access::read_write);
    }
    write_words(floor_.user(), bytes, value);
    const double ns = time_ns([&] {
      for (std::size_t offset = 0; offset < bytes; offset += block_bytes) {
        floor_.drop(offset, block_bytes);
        std::memcpy(floor_device_.data() + offset, floor_.alias() + offset, block_bytes);
      }
    });
    expect(sum_words(floor_device_.data(), bytes) == expected_sum(bytes, value), "the floor copied wrong words");
    return ns;
  }

  session runtime_;
  managed_memory memory_{bytes};
  device_stream stream_;
  bare_pager floor_{bytes};
  plain_memory floor_device_{bytes};
};

// Before: the device alone holds every page. Floor: a block after the other, copy it home and map it; read-only, since
// the device keeps its copy. The walk behind it is timed too, in both: were a page left for a fault, it would show.
class to_host : public measurement {
 public:
  to_host() { std::memset(floor_device_.data(), floor_value, bytes); }

  sample run(bool floor_first) override {
    sample result = with_rate(time_both(
        floor_first, [&] { return ours(); }, [&] { return floor(); }));
    result.counters["faults_behind"] = static_cast<double>(faults_behind_);
    return result;
  }

 private:
  static constexpr unsigned char floor_value = 9;

  double ours() {
    const unsigned char value = next_value();
    memory_.fill(device_node, value);
    const std::uint64_t before = host_faults();
    std::uint64_t sum = 0;
    const double ns = time_ns([&] {
      memory_.prefetch(GM_HOST);
      sum = sum_words(memory_.data(), bytes);
    });
    faults_behind_ = host_faults() - before;
    expect(sum == expected_sum(bytes, value), "the CPU read wrong words");
    return ns;
  }

  double floor() {
    floor_.drop(0, bytes);
    std::uint64_t sum = 0;
    const double ns = time_ns([&] {
      for (std::size_t offset = 0; offset < bytes; offset += block_bytes) {
        std::memcpy(floor_.alias() + offset, floor_device_.data() + offset, block_bytes);
        floor_.map(offset, block_bytes, access::read_only);
      }
      sum = sum_words(floor_.user(), bytes);
    });
    expect(sum == expected_sum(bytes, floor_value), "the floor copied wrong words");
    return ns;
  }

  session runtime_;
  managed_memory memory_{bytes};
  bare_pager floor_{bytes};
  plain_memory floor_device_{bytes};
  std::uint64_t faults_behind_ = 0;
};

}  // namespace

void add_prefetch(case_list& cases) {
  cases.push_back({"prefetch/to_device", 25, [] { return std::make_unique<to_device>(); }});
  cases.push_back({"prefetch/to_host", 25, [] { return std::make_unique<to_host>(); }});
}

}  // namespace gm::bench
