// SPDX-License-Identifier: Apache-2.0
// nested_scopes_test.cpp - threads that open scopes over the same memory in any order, one inside the other: each begin
// succeeds or is BUSY, and none waits in a circle. Every scope that was had adds one to a counter on the device, so
// that the counters tell whether any two overlapped.
#include <thread>
#include <vector>

#include "model/watchdog.h"
#include "stress/stress_flavours.h"

namespace gm::test {
namespace {

constexpr unsigned threads_each = 4;
constexpr unsigned counters_count = 6;
constexpr std::size_t depth_max = 3;

void count_up(void* counter, std::size_t, std::size_t) {
  // Not atomic: that is what the scopes are for.
  auto* c = static_cast<volatile std::uint64_t*>(counter);
  const std::uint64_t seen = *c;
  std::this_thread::yield();
  *c = seen + 1;
}

struct shared_counters {
  std::uint64_t* at[counters_count] = {};
  std::atomic<std::uint64_t> expected[counters_count] = {};
  std::atomic<std::uint64_t> refused{0};
};

class nester {
 public:
  nester(shared_counters& all, unsigned number, watchdog& dog) : all_(all), random_(number + 77), dog_(dog) {}
  const std::string& message() const { return message_; }

  void run(std::uint64_t rounds) {
    for (int d = 0; d < 2; ++d) must(gm_stream_create(d + 1, &streams_[d]), "gm_stream_create");
    for (std::uint64_t i = 0; i < rounds && message_.empty(); ++i) {
      nest(0);
      dog_.progress();
      // A CPU thread's own write is one more way to be in somebody's way.
      if (random_.chance(20)) read(random_.below(counters_count));
    }
    for (gm_stream s : streams_) {
      must(gm_stream_synchronize(s), "gm_stream_synchronize");
      must(gm_stream_destroy(s), "gm_stream_destroy");
    }
  }

 private:
  void must(gm_status got, const char* call) {
    if (got != GM_OK && message_.empty()) message_ = std::string(call) + ": " + gm_last_error();
  }
  void read(std::size_t which) {
    const volatile std::uint64_t* c = all_.at[which];
    if (*c > all_.expected[which].load() + 1000000) message_ = "a counter is wild";
  }

  void nest(std::size_t depth) {
    // One or two counters at once.
    const std::size_t first = random_.below(counters_count);
    const std::size_t second = random_.below(counters_count);
    std::vector<gm_access> accesses = {{all_.at[first], sizeof(std::uint64_t), GM_READ_WRITE}};
    if (second != first) accesses.push_back({all_.at[second], sizeof(std::uint64_t), GM_READ_WRITE});
    gm_stream stream = streams_[random_.below(2)];
    gm_scope scope = nullptr;
    const gm_status got = gm_access_begin(stream, accesses.data(), accesses.size(), &scope);
    // Inside another of ours: somebody may wait for that one, and its frames may be the ones that are wanted.
    if ((got == GM_ERROR_BUSY || got == GM_ERROR_NO_MEMORY) && depth > 0) {
      all_.refused.fetch_add(1);
      return;
    }
    // With nothing open nobody can be waiting for us.
    must(got, "gm_access_begin");
    if (got != GM_OK) return;
    for (const gm_access& a : accesses) {
      void* there = gm_device_pointer(a.ptr, gm_stream_node(stream));
      must(gm_stream_launch(stream, 1, count_up, nullptr, there), "gm_stream_launch");
    }
    all_.expected[first].fetch_add(1);
    if (second != first) all_.expected[second].fetch_add(1);
    if (depth + 1 < depth_max && random_.chance(60)) nest(depth + 1);
    must(gm_access_end(scope), "gm_access_end");
  }

  shared_counters& all_;
  random_source random_;
  watchdog& dog_;
  gm_stream streams_[2] = {};
  std::string message_;
};

class nested_scopes : public testing::TestWithParam<flavour> {};

TEST_P(nested_scopes, succeed_or_are_busy) {
  const live_runtime live(GetParam());
  ASSERT_TRUE(live.started());
  watchdog dog("stress: nested scopes");
  shared_counters all;
  // Some share a page with a neighbour in the arena, some have a block of their own.
  for (unsigned i = 0; i < counters_count; ++i)
    all.at[i] = static_cast<std::uint64_t*>(gm_calloc(1, i % 2 == 0 ? sizeof(std::uint64_t) : block_size));
  std::vector<std::unique_ptr<nester>> nesters;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < threads_each; ++i) nesters.push_back(std::make_unique<nester>(all, i, dog));
  for (const auto& n : nesters) threads.emplace_back([&n] { n->run(scaled(1500)); });
  for (std::thread& t : threads) t.join();
  for (const auto& n : nesters) EXPECT_EQ(n->message(), "");
  for (unsigned i = 0; i < counters_count; ++i) EXPECT_EQ(*all.at[i], all.expected[i].load()) << "counter " << i;
  EXPECT_TRUE(table_is_valid_at_rest());
  std::printf("[          ] %llu refused\n", static_cast<unsigned long long>(all.refused.load()));
  for (std::uint64_t* c : all.at) gm_free(c);
}

INSTANTIATE_TEST_SUITE_P(stress, nested_scopes,
                         testing::Values(stress_flavour("window", true, "thread", 32 * mebibyte),
                                         stress_flavour("window_inline", true, "inline", 32 * mebibyte),
                                         stress_flavour("tight", true, "thread", 4 * mebibyte),
                                         stress_flavour("no_window", false, "thread", 32 * mebibyte)),
                         flavour_name);

}  // namespace
}  // namespace gm::test
