// SPDX-License-Identifier: Apache-2.0
// oversubscribe.cpp - kernels over more data than the device may hold, on demand, over a slow link:
// oversubscribe/stream, oversubscribe/random; and what leaves without a copy: evict/clean.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <utility>
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

constexpr std::size_t budget = 64 * MiB;

word* words(const managed_memory& memory) { return reinterpret_cast<word*>(memory.data()); }
word* words(const plain_memory& memory) { return reinterpret_cast<word*>(memory.data()); }

void write_from(word* to, std::size_t count, word first) { std::iota(to, to + count, first); }
word sum_from(word first, std::size_t count) { return count * first + count * (count - 1) / 2; }

gm_node_stats device_stats() { return stats_now().node[device_node]; }

std::size_t in_blocks(double times) {
  return static_cast<std::size_t>(times * static_cast<double>(budget) / static_cast<double>(block_bytes)) * block_bytes;
}

// Passes over data of so many times the budget, which add one to each word. Floor: what a program does that knows: up
// to the budget one copy in, and then it stays; beyond, pieces through two buffers, copies and kernels beside each
// other, in every pass.
class streaming : public measurement {
 public:
  explicit streaming(double times)
      : bytes_(in_blocks(times)), memory_(bytes_), host_(bytes_), there_(std::max(bytes_, 2 * piece)) {}

  sample run(bool floor_first) override {
    sample result = time_both(
        floor_first, [&] { return ours(); }, [&] { return floor(); });
    result.counters = {{"bytes_per_second", passes * static_cast<double>(bytes_) * 1e9 / result.ours_ns},
                       {"faults", static_cast<double>(moved_.faults)},
                       {"bytes_in", static_cast<double>(moved_.bytes_in)},
                       {"bytes_out", static_cast<double>(moved_.bytes_out)}};
    return result;
  }

 private:
  static constexpr std::size_t passes = 3, piece = 4 * MiB;

  double ours() {
    const std::size_t count = bytes_ / sizeof(word);
    write_from(words(memory_), count, ++first_);
    gm::reset_stats();
    const double ns = time_ns([&] {
      {
        gm::scope use(stream_.get(), gm::on_demand(words(memory_), count));
        const gm::view<word> there(use, words(memory_), count);
        for (std::size_t pass = 0; pass < passes; ++pass)
          gm::parallel_for(stream_.get(), bytes_ / page_bytes, add_one<gm::view<word>>{there});
      }
      stream_.synchronize();
    });
    moved_ = device_stats();
    expect(std::accumulate(words(memory_), words(memory_) + count, word{0}) == sum_from(first_ + passes, count),
           "a pass was lost");
    return ns;
  }

  double floor() {
    const std::size_t count = bytes_ / sizeof(word);
    write_from(words(host_), count, ++first_);
    const double ns = time_ns([&] {
      if (bytes_ <= budget)
        keep_all();
      else
        for (std::size_t pass = 0; pass < passes; ++pass) through_two_buffers();
      floor_.synchronize(floor_.behind(floor_.kernels()));
      floor_.synchronize(floor_.behind(floor_.out()));
    });
    const word* const made = bytes_ <= budget ? words(there_) : words(host_);
    expect(std::accumulate(made, made + count, word{0}) == sum_from(first_ + passes, count),
           "a pass was lost by explicit copies");
    return ns;
  }

  void keep_all() {
    const add_one<word*> kernel{words(there_)};
    for (std::size_t at = 0; at < bytes_; at += block_bytes)
      floor_.copy_in(there_.data() + at, host_.data() + at, block_bytes);
    floor_.wait(floor_.kernels(), floor_.behind(floor_.in()));
    for (std::size_t pass = 0; pass < passes; ++pass) floor_.launch(bytes_ / page_bytes, kernel);
    floor_.synchronize(floor_.behind(floor_.kernels()));
  }

  void through_two_buffers() {
    const add_one<word*> kernels[] = {{words(there_)}, {words(there_) + piece / sizeof(word)}};
    device::fence home[2];
    for (std::size_t at = 0; at < bytes_; at += piece) {
      const std::size_t part = std::min(piece, bytes_ - at);
      const std::size_t buffer = at / piece % 2;
      std::byte* const there = there_.data() + buffer * piece;
      floor_.wait(floor_.in(), home[buffer]);
      floor_.copy_in(there, host_.data() + at, part);
      floor_.wait(floor_.kernels(), floor_.behind(floor_.in()));
      floor_.launch(part / page_bytes, kernels[buffer]);
      floor_.wait(floor_.out(), floor_.behind(floor_.kernels()));
      floor_.copy_out(host_.data() + at, there, part);
      home[buffer] = floor_.behind(floor_.out());
    }
    floor_.synchronize(floor_.behind(floor_.out()));
  }

  std::size_t bytes_;
  session runtime_{slow_link, budget};
  device_stream stream_;
  managed_memory memory_;
  bare_device floor_{slow_link};
  plain_memory host_, there_;
  word first_ = 0;
  gm_node_stats moved_{};
};

// Reads of single words of twice the budget; nine of ten lie in a fifth of the data, spread over whole blocks. Each
// launch reads other words. Floor: the same kernel while that fifth is pinned to the device, which is the best that
// could be decided beforehand. Both have run once before, unmeasured, so that what stays has come.
class random_reads : public measurement {
 public:
  random_reads() { write_from(words(memory_), bytes / sizeof(word), 0); }

  sample run(bool floor_first) override {
    sample result = time_both(
        floor_first, [&] { return ours(); }, [&] { return floor(); });
    result.counters = {{"faults", static_cast<double>(moved_.faults)},
                       {"floor_faults", static_cast<double>(floor_moved_.faults)},
                       {"bytes_in", static_cast<double>(moved_.bytes_in)},
                       {"floor_bytes_in", static_cast<double>(floor_moved_.bytes_in)}};
    return result;
  }

 private:
  static constexpr std::size_t bytes = 2 * budget, hot_bytes = bytes / 5 / block_bytes * block_bytes;
  static constexpr std::size_t reads = 20'000, warming = 20'000;

  double ours() {
    static_cast<void>(gather(warming));
    const double ns = gather(reads);
    moved_ = device_stats();
    return ns / reads;
  }

  double floor() {
    check(gm_pin(memory_.data(), hot_bytes, device_node), "gm_pin");
    static_cast<void>(gather(warming));
    const double ns = gather(reads);
    floor_moved_ = device_stats();
    check(gm_unpin(memory_.data(), hot_bytes, device_node), "gm_unpin");
    return ns / reads;
  }

  double gather(std::size_t count) {
    std::vector<std::uint32_t> places(count);
    for (std::uint32_t& place : places) {
      const bool is_hot = random_() % 10 != 0;
      const std::size_t first = is_hot ? 0 : hot_bytes, last = is_hot ? hot_bytes : bytes;
      place = static_cast<std::uint32_t>((first + random_() % (last - first)) / sizeof(word));
    }
    std::vector<word> got(count);
    const std::uint32_t* const from = places.data();
    word* const to = got.data();
    gm::reset_stats();
    const double ns = time_ns([&] {
      {
        gm::scope use(stream_.get(), gm::on_demand(static_cast<const word*>(words(memory_)), bytes / sizeof(word)));
        const gm::view<const word> there(use, words(memory_), bytes / sizeof(word));
        gm::parallel_for(
            stream_.get(), count, GM_LAMBDA(std::size_t i) { to[i] = there[from[i]]; });
      }
      stream_.synchronize();
    });
    for (std::size_t i = 0; i < count; ++i) expect(got[i] == places[i], "the kernel read a wrong word");
    return ns;
  }

  session runtime_{slow_link, budget};
  device_stream stream_;
  managed_memory memory_{bytes};
  std::mt19937_64 random_{1};
  gm_node_stats moved_{}, floor_moved_{};
};

// Two passes that only read, over twice the budget: what makes room has a copy at home.
class clean : public measurement {
 public:
  clean() { write_from(words(memory_), bytes / sizeof(word), 1); }

  sample run(bool) override {
    gm::reset_stats();
    sample result;
    result.ours_ns = time_ns([&] {
      {
        gm::scope use(stream_.get(), gm::on_demand(static_cast<const word*>(words(memory_)), bytes / sizeof(word)));
        const gm::view<const word> there(use, words(memory_), bytes / sizeof(word));
        for (int pass = 0; pass < 2; ++pass)
          gm::parallel_for(stream_.get(), bytes / page_bytes, sum_page<gm::view<const word>>{there, sums_.data()});
      }
      stream_.synchronize();
    });
    const gm_node_stats moved = device_stats();
    expect(std::accumulate(sums_.begin(), sums_.end(), word{0}) == sum_from(1, bytes / sizeof(word)),
           "the kernel read wrong words");
    expect(moved.evictions != 0, "nothing was evicted");
    result.counters = {{"bytes_written_back", static_cast<double>(moved.bytes_out)},
                       {"evictions", static_cast<double>(moved.evictions)},
                       {"pages_dropped", static_cast<double>(moved.writebacks_skipped)}};
    return result;
  }

 private:
  static constexpr std::size_t bytes = 2 * budget;

  session runtime_{{}, budget};
  device_stream stream_;
  managed_memory memory_{bytes};
  std::vector<word> sums_ = std::vector<word>(bytes / page_bytes);
};

}  // namespace

void add_oversubscribe(case_list& cases) {
  for (const auto& [name, times] :
       {std::pair{"0.9x", 0.9}, {"1.0x", 1.0}, {"1.1x", 1.1}, {"1.5x", 1.5}, {"2x", 2.0}, {"4x", 4.0}}) {
    cases.push_back({std::string("oversubscribe/stream_") + name, 5,
                     [times = times] { return std::make_unique<streaming>(times); }});
  }
  cases.push_back({"oversubscribe/random", 7, [] { return std::make_unique<random_reads>(); }});
  cases.push_back({"evict/clean", 5, [] { return std::make_unique<clean>(); }});
}

}  // namespace gm::bench
