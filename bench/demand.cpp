// SPDX-License-Identifier: Apache-2.0
// demand.cpp - kernels that fetch their pages themselves, over a slow link: demand/fault_latency, demand/throughput;
// and what a view costs where everything is there: view/span_resident, view/element_resident.
#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "bare_device.h"
#include "bare_pager.h"
#include "gmem/gmem.hpp"
#include "gmem/parallel.hpp"
#include "managed.h"
#include "measure.h"
#include "page_kernels.h"

namespace gm::bench {
namespace {

word* words(const managed_memory& memory) { return reinterpret_cast<word*>(memory.data()); }
word* words(const plain_memory& memory) { return reinterpret_cast<word*>(memory.data()); }

std::uint64_t device_faults() { return stats_now().node[device_node].faults; }

// Before: the CPU has written all pages, and the device has none. One thread of a kernel reads a word of each page, in
// random order, and nobody brings more than is asked for. Floor: the page's copy, waited for, over the same link.
class fault_latency : public measurement {
 public:
  fault_latency() {
    memory_.advise(GM_ADVISE_RANDOM);
    std::iota(order_.begin(), order_.end(), 0);
    std::shuffle(order_.begin(), order_.end(), std::mt19937(1));
  }

  sample run(bool floor_first) override {
    sample result = time_both(
        floor_first, [&] { return ours() / pages; }, [&] { return floor() / pages; });
    result.counters = {{"faults", faults_}, {"over_the_link_ns", result.ours_ns - result.floor_ns}};
    return result;
  }

 private:
  static constexpr std::size_t pages = 512, bytes = pages * page_bytes;

  double ours() {
    const unsigned char value = next_value();
    write_words(memory_.data(), bytes, value);
    memory_.expect_valid(0b01);
    const std::uint64_t before = device_faults();
    word sum = 0;
    word* const sum_at = &sum;
    const std::size_t* const order = order_.data();
    const double ns = time_ns([&] {
      {
        gm::scope use(stream_.get(), gm::on_demand(static_cast<const word*>(words(memory_)), bytes / sizeof(word)));
        const gm::view<const word> there(use, words(memory_), bytes / sizeof(word));
        gm::parallel_for(
            stream_.get(), 1, GM_LAMBDA(std::size_t) {
              for (std::size_t i = 0; i < pages; ++i) *sum_at += there[order[i] * page_words];
            });
      }
      stream_.synchronize();
    });
    faults_ = static_cast<double>(device_faults() - before);
    expect(sum == expected_sum(pages * os_page_bytes, value), "the kernel read wrong words");
    return ns;
  }

  double floor() {
    const unsigned char value = next_value();
    std::memset(host_.data(), value, bytes);
    const double ns = time_ns([&] {
      for (const std::size_t page : order_) {
        floor_.copy_in(there_.data() + page * page_bytes, host_.data() + page * page_bytes, page_bytes);
        floor_.synchronize(floor_.behind(floor_.in()));
      }
    });
    expect(sum_words(there_.data(), bytes) == expected_sum(bytes, value), "the floor copied wrong words");
    return ns;
  }

  session runtime_{slow_link};
  device_stream stream_;
  managed_memory memory_{bytes};
  bare_device floor_{slow_link};
  plain_memory host_{bytes}, there_{bytes};
  std::vector<std::size_t> order_ = std::vector<std::size_t>(pages);
  double faults_ = 0;
};

// Before: as above. All of the device's threads read a word of each OS page, in order. Floor: the same kernel behind a
// copy of all that.
class throughput : public measurement {
 public:
  sample run(bool floor_first) override {
    sample result = time_both(
        floor_first, [&] { return ours(); }, [&] { return floor(); });
    result.counters = {{"bytes_per_second", static_cast<double>(bytes) * 1e9 / result.ours_ns}, {"faults", faults_}};
    return result;
  }

 private:
  static constexpr std::size_t bytes = 128 * MiB, pages = bytes / page_bytes;

  double ours() {
    const unsigned char value = next_value();
    write_words(memory_.data(), bytes, value);
    memory_.expect_valid(0b01);
    const std::uint64_t before = device_faults();
    const double ns = time_ns([&] {
      {
        gm::scope use(stream_.get(), gm::on_demand(static_cast<const word*>(words(memory_)), bytes / sizeof(word)));
        const gm::view<const word> there(use, words(memory_), bytes / sizeof(word));
        gm::parallel_for(stream_.get(), pages, touch_page<gm::view<const word>>{there, sums_.data()});
      }
      stream_.synchronize();
    });
    faults_ = static_cast<double>(device_faults() - before);
    check_sums(value);
    return ns;
  }

  double floor() {
    const unsigned char value = next_value();
    std::memset(host_.data(), value, bytes);
    const touch_page<word*> kernel{words(there_), sums_.data()};
    const double ns = time_ns([&] {
      for (std::size_t at = 0; at < bytes; at += block_bytes)
        floor_.copy_in(there_.data() + at, host_.data() + at, block_bytes);
      floor_.wait(floor_.kernels(), floor_.behind(floor_.in()));
      floor_.launch(pages, kernel);
      floor_.synchronize(floor_.behind(floor_.kernels()));
    });
    check_sums(value);
    return ns;
  }

  void check_sums(unsigned char value) {
    expect(std::accumulate(sums_.begin(), sums_.end(), word{0}) == expected_sum(bytes, value),
           "the kernel read wrong words");
    std::fill(sums_.begin(), sums_.end(), 0);
  }

  session runtime_{slow_link};
  device_stream stream_;
  managed_memory memory_{bytes};
  bare_device floor_{slow_link};
  plain_memory host_{bytes}, there_{bytes};
  std::vector<word> sums_ = std::vector<word>(pages);
  double faults_ = 0;
};

// The sum of 256 MiB that the device holds, through a view of a scope on demand. Floor: the same memory in a declared
// scope, by raw pointers, with the vectors that the compiler makes of that loop. Several launches of each, by turns.
template <template <class> class Kernel>
class resident : public measurement {
 public:
  resident() {
    for (std::size_t i = 0; i < bytes / sizeof(word); ++i) words(memory_)[i] = i * 2654435761u;
    expected_ = std::accumulate(words(memory_), words(memory_) + bytes / sizeof(word), word{0});
    memory_.prefetch(device_node);
    static_cast<void>(ours());
  }

  sample run(bool floor_first) override {
    const std::uint64_t before = device_faults();
    std::array<double, launches> ours_ns{}, floor_ns{};
    for (std::size_t launch = 0; launch < launches; ++launch) {
      const sample once = time_both(
          floor_first, [&] { return ours(); }, [&] { return floor(); });
      ours_ns[launch] = once.ours_ns;
      floor_ns[launch] = once.floor_ns;
      floor_first = !floor_first;
    }
    expect(device_faults() == before, "kernels faulted on what the device holds");
    sample result{median(ours_ns), median(floor_ns)};
    result.counters = {{"bytes_per_second", static_cast<double>(bytes) * 1e9 / result.ours_ns}};
    return result;
  }

 private:
  static constexpr std::size_t bytes = 256 * MiB, pages = bytes / page_bytes, launches = 5;

  static double median(std::array<double, launches>& values) {
    std::nth_element(values.begin(), values.begin() + launches / 2, values.end());
    return values[launches / 2];
  }

  double ours() {
    const double ns = time_ns([&] {
      {
        gm::scope use(stream_.get(), gm::on_demand(static_cast<const word*>(words(memory_)), bytes / sizeof(word)));
        const gm::view<const word> there(use, words(memory_), bytes / sizeof(word));
        gm::parallel_for(stream_.get(), pages, Kernel<gm::view<const word>>{there, sums_.data()});
      }
      stream_.synchronize();
    });
    check_sums();
    return ns;
  }

  double floor() {
    const double ns = time_ns([&] {
      {
        gm::scope use(stream_.get(), gm::read(words(memory_), bytes / sizeof(word)));
        word* const there = static_cast<word*>(gm_device_pointer(memory_.data(), device_node));
        gm::parallel_for(stream_.get(), pages, Kernel<word*>{there, sums_.data()});
      }
      stream_.synchronize();
    });
    check_sums();
    return ns;
  }

  void check_sums() {
    expect(std::accumulate(sums_.begin(), sums_.end(), word{0}) == expected_, "the kernel's sum is wrong");
    std::fill(sums_.begin(), sums_.end(), 0);
  }

  session runtime_;
  device_stream stream_;
  managed_memory memory_{bytes};
  std::vector<word> sums_ = std::vector<word>(pages);
  word expected_ = 0;
};

}  // namespace

void add_demand(case_list& cases) {
  cases.push_back({"demand/fault_latency", 11, [] { return std::make_unique<fault_latency>(); }});
  cases.push_back({"demand/throughput", 11, [] { return std::make_unique<throughput>(); }});
  cases.push_back({"view/span_resident", 21, [] { return std::make_unique<resident<sum_page>>(); }});
  cases.push_back({"view/element_resident", 21, [] { return std::make_unique<resident<sum_elements>>(); }});
}

}  // namespace gm::bench
