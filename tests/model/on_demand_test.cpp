// SPDX-License-Identifier: Apache-2.0
// on_demand_test.cpp - CPU threads and kernels of two devices at work on the same pages at the same time, on demand.
//
// Every word has one owner, a CPU thread or a lane of a kernel, and neighbours have different ones. The owner knows
// what the word holds, since nobody else writes it: it checks that and counts the word up. Of others' words it knows
// that they never count down. What is left at the end is checked by the CPU. Devices hold less than there is.
#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gmem/gmem.hpp"
#include "gmem/parallel.hpp"
#include "gmem/view.hpp"
#include "model/live_runtime.h"

namespace gm::test {
namespace {

constexpr unsigned cpu_workers = 2;
constexpr unsigned lanes_a_device = 3;

struct demand_flavour {
  const char* name;
  flavour on;
  std::size_t bytes;
};

// The words of one owner, and what they hold.
class worker {
 public:
  worker(unsigned number, unsigned workers, std::size_t words, std::uint64_t seed)
      : random_(seed * 1000 + number),
        first_(number),
        stride_(workers),
        values_((words - number + workers - 1) / workers),
        seen_(words) {}

  // Some steps through anything with [i]. Wrong words are counted.
  template <class Words>
  void work(const Words& words, unsigned steps) {
    for (unsigned i = 0; i < steps; ++i) {
      // Mostly in some region, as programs are.
      const std::size_t region = values_.size() / 8 * (random_.below(4) == 0 ? random_.below(8) : region_);
      const std::size_t mine = region + random_.below(values_.size() / 8);
      const std::size_t at = first_ + mine * stride_;
      const std::uint32_t found = words.read(at);
      if (found != values_[mine]) note(at, found, values_[mine]);
      words.write(at, ++values_[mine]);
      const std::size_t other = random_.below(seen_.size());
      const std::uint32_t there = words.read(other);
      if (there < seen_[other]) note(other, there, seen_[other]);
      seen_[other] = there;
      if (random_.below(256) == 0) region_ = random_.below(8);
    }
  }
  void check_with(const std::uint32_t* words) const {
    for (std::size_t i = 0; i < values_.size(); ++i)
      ASSERT_EQ(words[first_ + i * stride_], values_[i]) << "word " << first_ + i * stride_ << " at the end";
  }
  std::string wrong() const {
    if (wrong_ == 0) return "";
    return std::to_string(wrong_) + " wrong words, the first: word " + std::to_string(at_) + " was " +
           std::to_string(found_) + ", not " + std::to_string(expected_);
  }

 private:
  void note(std::size_t at, std::uint32_t found, std::uint32_t expected) {
    if (wrong_++ == 0) at_ = at, found_ = found, expected_ = expected;
  }

  random_source random_;
  std::size_t first_;
  std::size_t stride_;
  std::vector<std::uint32_t> values_;
  std::vector<std::uint32_t> seen_;
  std::size_t region_ = 0;
  std::size_t wrong_ = 0, at_ = 0;
  std::uint32_t found_ = 0, expected_ = 0;
};

struct cpu_words {
  std::uint32_t* words;
  std::uint32_t read(std::size_t i) const { return std::atomic_ref(words[i]).load(std::memory_order_relaxed); }
  void write(std::size_t i, std::uint32_t value) const {
    std::atomic_ref(words[i]).store(value, std::memory_order_relaxed);
  }
};

// By element, or by a span of one.
struct kernel_words {
  gm::view<std::uint32_t> words;
  gm::view<const std::uint32_t> readable;
  std::uint32_t read(std::size_t i) const {
    if (i % 16 != 0) return readable[i];
    std::uint32_t value = 0;
    for (const auto& span : readable.pages(i, i + 1))
      value = std::atomic_ref(const_cast<std::uint32_t&>(span[0])).load();
    return value;
  }
  void write(std::size_t i, std::uint32_t value) const {
    if (i % 16 != 0) {
      words[i].fetch_add(value - words[i].load());
    } else {
      // Held for a while: who takes the page meanwhile has to wait for the last store.
      for (const auto& span : words.pages(i, i + 1)) {
        for (unsigned pause = 0; pause < i / 16 % 8; ++pause) std::this_thread::yield();
        std::atomic_ref(span[0]).store(value);
      }
    }
  }
};

class on_demand : public testing::TestWithParam<demand_flavour> {};
void PrintTo(const demand_flavour& f, std::ostream* out) { *out << f.name; }

void run_crowd(const demand_flavour& f, std::uint64_t seed, unsigned launches, unsigned steps) {
  const std::size_t words = f.bytes / sizeof(std::uint32_t);
  gm::vector<std::uint32_t> memory(words);
  const unsigned devices = f.on.devices;
  const unsigned workers = cpu_workers + devices * lanes_a_device;
  std::vector<std::unique_ptr<worker>> all;
  for (unsigned w = 0; w < workers; ++w) all.push_back(std::make_unique<worker>(w, workers, words, seed));

  std::atomic<unsigned> at_work = devices;
  std::vector<std::thread> threads;
  for (unsigned w = 0; w < cpu_workers; ++w)
    threads.emplace_back([&, w] {
      while (at_work != 0) {
        all[w]->work(cpu_words{memory.data()}, 8);
        std::this_thread::yield();
      }
    });
  for (unsigned d = 0; d < devices; ++d) {
    threads.emplace_back([&, d] {
      gm::stream stream(static_cast<int>(d) + 1);
      for (unsigned i = 0; i < launches; ++i) {
        {
          gm::scope use(stream, gm::on_demand(memory));
          const kernel_words there{{use, memory}, {use, memory.data(), memory.size()}};
          worker* lanes[lanes_a_device];
          for (unsigned lane = 0; lane < lanes_a_device; ++lane)
            lanes[lane] = all[cpu_workers + d * lanes_a_device + lane].get();
          gm::parallel_for(stream, lanes_a_device, [=](std::size_t lane) { lanes[lane]->work(there, steps); });
        }
        if (i % 2 == 1) stream.synchronize();
      }
      stream.synchronize();
      --at_work;
    });
  }
  for (std::thread& t : threads) t.join();
  char why[256] = {};
  EXPECT_TRUE(debug_validate(why, sizeof why)) << why;
  for (const auto& w : all) {
    EXPECT_EQ(w->wrong(), "");
    w->check_with(memory.data());
  }
  EXPECT_TRUE(debug_settle(60 * second_ns));
  EXPECT_TRUE(debug_validate_at_rest(why, sizeof why)) << why;
}

TEST_P(on_demand, processors_agree_about_pages_they_use_at_once) {
  const live_runtime live(GetParam().on);
  ASSERT_TRUE(live.started());
  std::uint64_t seed = first_seed();
  const bool repeat = given_seed(seed);
  const std::uint64_t crowds = repeat ? 1 : scaled(2);
  for (std::uint64_t i = 0; i < crowds && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE("GM_TEST_SEED=" + std::to_string(seed + i));
    run_crowd(GetParam(), seed + i, 6, static_cast<unsigned>(scaled(250)));
  }
  gm_stats stats{};
  stats.size = sizeof stats;
  ASSERT_EQ(gm_stats_get(&stats), GM_OK);
  EXPECT_GT(stats.node[1].faults, 0u);
}

std::string name_of(const testing::TestParamInfo<demand_flavour>& which) { return which.param.name; }

demand_flavour named(const char* name, std::uint32_t devices, const char* mode, std::uint64_t device_frames,
                     std::uint64_t latency_ns = 0) {
  demand_flavour f{name, {}, 4 * block_size};
  f.on.name = name;
  f.on.devices = devices;
  f.on.fault_mode = mode;
  f.on.sim_memory_bytes = device_frames * block_size;
  f.on.device_budget_bytes = device_frames * block_size;
  f.on.latency_ns = latency_ns;
  return f;
}

// All at the same few pages: who takes one finds it in use.
demand_flavour of_bytes(std::size_t bytes, demand_flavour f) {
  f.bytes = bytes;
  return f;
}

INSTANTIATE_TEST_SUITE_P(model, on_demand,
                         testing::Values(named("roomy", 2, "thread", 8), named("tight", 2, "thread", 2),
                                         named("tight_inline", 2, "inline", 2), named("one_frame", 1, "thread", 1),
                                         named("slow_link", 2, "thread", 3, 10'000),
                                         of_bytes(2 * page_size, named("two_pages", 2, "thread", 2)),
                                         of_bytes(2 * page_size, named("two_pages_inline", 1, "inline", 1))),
                         name_of);

}  // namespace
}  // namespace gm::test
