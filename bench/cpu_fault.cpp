// SPDX-License-Identifier: Apache-2.0
// cpu_fault.cpp - what an access by the CPU costs when the page is not mapped: cpu_fault/page, read_back, threads:N.
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstring>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "bare_pager.h"
#include "managed.h"
#include "measure.h"

namespace gm::bench {
namespace {

using clock = std::chrono::steady_clock;

// Pages in an order that no prefetcher guesses; the same in every run.
std::vector<std::uint32_t> shuffled_pages(std::size_t count) {
  std::vector<std::uint32_t> pages(count);
  std::iota(pages.begin(), pages.end(), 0u);
  std::mt19937 random(7);
  std::shuffle(pages.begin(), pages.end(), random);
  return pages;
}

std::uint64_t touch(const std::byte* base, std::span<const std::uint32_t> pages) {
  std::uint64_t sum = 0;
  for (const std::uint32_t page : pages) {
    sum += *reinterpret_cast<const volatile std::uint64_t*>(base + page * page_bytes);
  }
  return sum;
}

std::uint64_t expected_touch(std::size_t pages, unsigned char value) {
  return expected_sum(pages * os_page_bytes, value);
}

// Each of the threads touches its share of the pages; ns from the first that begins to the last that ends.
double touch_from_threads(std::size_t threads, const std::byte* base, std::span<const std::uint32_t> pages,
                          unsigned char value) {
  struct lane {
    clock::time_point begin, end;
    std::uint64_t sum = 0;
  };
  std::vector<lane> lanes(threads);
  std::barrier start(static_cast<std::ptrdiff_t>(threads));
  std::vector<std::thread> running;
  const std::size_t share = pages.size() / threads;
  for (std::size_t i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      start.arrive_and_wait();
      lanes[i].begin = clock::now();
      lanes[i].sum = touch(base, pages.subspan(i * share, share));
      lanes[i].end = clock::now();
    });
  }
  for (std::thread& each : running) each.join();
  clock::time_point begin = lanes[0].begin, end = lanes[0].end;
  for (const lane& each : lanes) {
    begin = std::min(begin, each.begin);
    end = std::max(end, each.end);
    expect(each.sum == expected_touch(share, value), "the CPU read wrong words");
  }
  return std::chrono::duration<double, std::nano>(end - begin).count();
}

// Managed pages and bare pages beside each other, all valid on the host and none mapped: a touch is a MINOR fault, and
// one CONTINUE of 64 KiB, read-only, answers it. gmem's pages have a second copy on the device: that is how the public
// interface takes a page from the CPU and leaves it valid.
class unmapped_pages {
 public:
  explicit unmapped_pages(std::size_t pages)
      : order_(shuffled_pages(pages)), memory_(pages * page_bytes), bare_(pages * page_bytes) {
    memory_.advise(GM_ADVISE_RANDOM);
    std::memset(bare_.alias(), bare_value, bare_.bytes());
    bare_.start_handlers(page_bytes, access::read_only);
  }

  double touch_managed(std::size_t threads) {
    const unsigned char value = next_value();
    memory_.fill(GM_HOST, value);
    memory_.prefetch(device_node);
    memory_.expect_valid(0b11);
    const std::uint64_t before = host_faults();
    const double ns = touch_from_threads(threads, memory_.data(), order_, value);
    expect_faults(host_faults_settled(before + order_.size()) - before);
    return ns / pages();
  }

  double touch_bare(std::size_t threads) {
    bare_.drop(0, bare_.bytes());
    const std::uint64_t before = bare_.faults();
    const double ns = touch_from_threads(threads, bare_.user(), order_, bare_value);
    expect_faults(bare_.faults() - before);
    return ns / pages();
  }

 private:
  static constexpr unsigned char bare_value = 3;

  double pages() const { return static_cast<double>(order_.size()); }

  void expect_faults(std::uint64_t faults) const {
    expect(faults == order_.size(), std::to_string(faults) + " faults for " + std::to_string(order_.size()) +
                                        " pages: this is not one fault a page");
  }

  session runtime_;
  std::vector<std::uint32_t> order_;
  managed_memory memory_;
  bare_pager bare_;
};

class page_fault : public measurement {
 public:
  sample run(bool floor_first) override {
    return time_both(
        floor_first, [&] { return pages_.touch_managed(1); }, [&] { return pages_.touch_bare(1); });
  }

 private:
  unmapped_pages pages_{1024};
};

// The floor is gmem itself with one thread; how far the bare pages grow is kept beside it.
class faults_from_threads : public measurement {
 public:
  explicit faults_from_threads(std::size_t threads) : threads_(threads) {}

  sample run(bool floor_first) override {
    sample result = time_both(
        floor_first, [&] { return pages_.touch_managed(threads_); }, [&] { return pages_.touch_managed(1); });
    const double bare_one_ns = pages_.touch_bare(1);
    const double bare_ns = pages_.touch_bare(threads_);
    result.counters = {{"faults_per_second", 1e9 / result.ours_ns},
                       {"bare_faults_per_second", 1e9 / bare_ns},
                       {"bare_ratio", bare_one_ns / bare_ns}};
    return result;
  }

 private:
  std::size_t threads_;
  unmapped_pages pages_{2048};
};

// The CPU walks over 256 MiB that only the device holds. Floor: what the walk cannot do without, in one thread and
// without any fault: copy a block into the host's pages, map it, read it.
class read_back : public measurement {
 public:
  read_back() { std::memset(floor_device_.data(), floor_value, bytes); }

  sample run(bool floor_first) override {
    sample result = time_both(
        floor_first, [&] { return ours(); }, [&] { return floor(); });
    result.counters = {{"bytes_per_second", static_cast<double>(bytes) * 1e9 / result.ours_ns},
                       {"faults", static_cast<double>(faults_)}};
    return result;
  }

 private:
  static constexpr std::size_t bytes = 256 * MiB;
  static constexpr unsigned char floor_value = 5;

  double ours() {
    const unsigned char value = next_value();
    memory_.fill(device_node, value);
    const std::uint64_t before = host_faults();
    std::uint64_t sum = 0;
    const double ns = time_ns([&] { sum = sum_words(memory_.data(), bytes); });
    expect(sum == expected_sum(bytes, value), "the CPU read wrong words");
    faults_ = host_faults() - before;
    return ns;
  }

  double floor() {
    floor_.drop(0, bytes);
    std::uint64_t sum = 0;
    const double ns = time_ns([&] {
      for (std::size_t offset = 0; offset < bytes; offset += block_bytes) {
        std::memcpy(floor_.alias() + offset, floor_device_.data() + offset, block_bytes);
        floor_.map(offset, block_bytes, access::read_only);
        sum += sum_words(floor_.user() + offset, block_bytes);
      }
    });
    expect(sum == expected_sum(bytes, floor_value), "the floor read wrong words");
    return ns;
  }

  session runtime_;
  managed_memory memory_{bytes};
  bare_pager floor_{bytes};
  plain_memory floor_device_{bytes};
  std::uint64_t faults_ = 0;
};

}  // namespace

void add_cpu_fault(case_list& cases) {
  cases.push_back({"cpu_fault/page", 101, [] { return std::make_unique<page_fault>(); }});
  cases.push_back({"cpu_fault/read_back", 51, [] { return std::make_unique<read_back>(); }});
  for (const std::size_t threads : {1u, 2u, 4u, 8u}) {
    cases.push_back({"cpu_fault/threads:" + std::to_string(threads), 21,
                     [threads] { return std::make_unique<faults_from_threads>(threads); }});
  }
}

}  // namespace gm::bench
