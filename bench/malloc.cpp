// SPDX-License-Identifier: Apache-2.0
// malloc.cpp - small objects: malloc/pair, malloc/churn, malloc/page_overhead. The floor is Debian's jemalloc as it is,
// linked under other names; both get the same calls, and neither's memory is touched.
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "managed.h"
#include "measure.h"

extern "C" {
void* plain_jemalloc_malloc(std::size_t);
void plain_jemalloc_free(void*);
// Its configuration is what the environment says, as it would be in a program of its own.
char* plain_jemalloc_setting(const char* name) { return std::getenv(name); }
long plain_jemalloc_link(const char*, char*, std::size_t) { return -1; }
int plain_jemalloc_atfork(void (*)(), void (*)(), void (*)()) { return 0; }
}

namespace gm::bench {
namespace {

struct managed_objects {
  static void* allocate(std::size_t bytes) { return gm_malloc(bytes); }
  static void free(void* p) { gm_free(p); }
};
struct plain_objects {
  static void* allocate(std::size_t bytes) { return plain_jemalloc_malloc(bytes); }
  static void free(void* p) { plain_jemalloc_free(p); }
};

inline void used(void* p) { asm volatile("" : : "r"(p) : "memory"); }

// Every thread does the work; the time of all together.
template <typename Work>
double time_threads(unsigned threads, Work&& work) {
  if (threads == 1) return time_ns([&] { work(0u); });
  return time_ns([&] {
    std::vector<std::thread> others;
    for (unsigned t = 1; t < threads; ++t) others.emplace_back([&work, t] { work(t); });
    work(0u);
    for (std::thread& each : others) each.join();
  });
}

class pair : public measurement {
 public:
  pair(std::size_t bytes, unsigned threads) : bytes_(bytes), threads_(threads) {}

  sample run(bool floor_first) override {
    return time_both(
        floor_first, [&] { return time<managed_objects>(); }, [&] { return time<plain_objects>(); });
  }

 private:
  static constexpr int pairs = 1'000'000;

  template <typename Objects>
  double time() const {
    const double all = time_threads(threads_, [&](unsigned) {
      for (int i = 0; i < pairs; ++i) {
        void* p = Objects::allocate(bytes_);
        used(p);
        Objects::free(p);
      }
    });
    return all / pairs;
  }

  session runtime_;
  std::size_t bytes_;
  unsigned threads_;
};

// A thousand live objects of 16 bytes to 32 KiB, small ones more often; one after the other, at random, makes way.
class churn : public measurement {
 public:
  explicit churn(unsigned threads) : threads_(threads) {
    std::mt19937 random(5);
    for (step& s : steps_) {
      const unsigned magnitude = 4 + static_cast<unsigned>(random() % 11);  // 16 .. 16 Ki, and as much again at most
      s = {(1u << magnitude) + static_cast<std::uint32_t>(random() % (1u << magnitude)),
           static_cast<std::uint32_t>(random() % live)};
    }
  }

  sample run(bool floor_first) override {
    return time_both(
        floor_first, [&] { return time<managed_objects>(); }, [&] { return time<plain_objects>(); });
  }

 private:
  static constexpr int turns = 300'000;
  static constexpr unsigned live = 1000;
  struct step {
    std::uint32_t bytes, slot;
  };

  template <typename Objects>
  double time() const {
    const double all = time_threads(threads_, [&](unsigned t) {
      std::vector<void*> objects(live, nullptr);
      std::size_t at = t * 977;
      for (int i = 0; i < turns; ++i, ++at) {
        const step& s = steps_[at % std::size(steps_)];
        if (objects[s.slot] != nullptr) Objects::free(objects[s.slot]);
        objects[s.slot] = Objects::allocate(s.bytes);
      }
      for (void* p : objects)
        if (p != nullptr) Objects::free(p);
    });
    return all / turns;
  }

  session runtime_;
  unsigned threads_;
  step steps_[4096];
};

// A million objects of 64 bytes, all written: what the host's pages hold beyond them.
class page_overhead : public measurement {
 public:
  sample run(bool) override {
    constexpr std::size_t count = 1'000'000, bytes = 64;
    std::vector<void*> objects(count);
    // What the run before has freed is given back within two seconds, and is not what is asked for.
    for (int i = 0; i < 300 && host_pages() != 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    sample result;
    result.ours_ns = time_ns([&] {
                       for (void*& p : objects) {
                         p = gm_malloc(bytes);
                         expect(p != nullptr, gm_last_error());
                         *static_cast<volatile char*>(p) = 1;
                       }
                     }) /
                     count;
    const double taken = static_cast<double>(host_pages()) * 65536;
    result.counters = {{"percent", (taken / (count * bytes) - 1) * 100}};
    for (void* p : objects) gm_free(p);
    return result;
  }

 private:
  static std::uint64_t host_pages() {
    gm_stats stats{};
    stats.size = sizeof stats;
    check(gm_stats_get(&stats), "gm_stats_get");
    return stats.node[GM_HOST].frames_used;
  }

  session runtime_;
};

}  // namespace

void add_malloc(case_list& all) {
  for (const std::size_t bytes : {16, 256, 4096, 32768})
    for (const unsigned threads : {1u, 2u})
      all.push_back({"malloc/pair:" + std::to_string(bytes) + "/threads:" + std::to_string(threads), 9,
                     [=] { return std::make_unique<pair>(bytes, threads); }});
  for (const unsigned threads : {1u, 2u})
    all.push_back(
        {"malloc/churn/threads:" + std::to_string(threads), 9, [=] { return std::make_unique<churn>(threads); }});
  all.push_back({"malloc/page_overhead", 3, [] { return std::make_unique<page_overhead>(); }});
}

}  // namespace gm::bench
