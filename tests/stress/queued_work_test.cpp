// SPDX-License-Identifier: Apache-2.0
// queued_work_test.cpp - what must not wait for queued work, and what must: a gate holds a stream meanwhile. Whatever
// waited although it must not would wait for ever: the watchdog ends it.
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "model/oracle_kernel.h"
#include "model/watchdog.h"
#include "model/gate.h"
#include "stress/stress_flavours.h"

namespace gm::test {
namespace {

constexpr unsigned hang_seconds = 30;

class queued_work : public testing::TestWithParam<flavour> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(live_.started());
    for (int d = 0; d < 2; ++d) ASSERT_EQ(gm_stream_create(d + 1, &streams_[d]), GM_OK) << gm_last_error();
  }
  void TearDown() override {
    for (gm_stream s : streams_) {
      EXPECT_EQ(gm_stream_synchronize(s), GM_OK) << gm_last_error();
      EXPECT_EQ(gm_stream_destroy(s), GM_OK) << gm_last_error();
    }
    EXPECT_TRUE(table_is_valid_at_rest());
  }

  std::uint8_t* filled(std::size_t bytes, std::uint64_t seed) {
    auto* made = static_cast<std::uint8_t*>(gm_malloc(bytes));
    EXPECT_NE(made, nullptr) << gm_last_error();
    fill_with(made, bytes, seed);
    return made;
  }

  // A scope whose kernel expects what `before` wrote (0: nothing) and writes `after`, the gate in front if there is
  // one.
  void queue(unsigned stream, std::uint8_t* p, std::size_t bytes, gm_mode mode, std::uint64_t before,
             std::uint64_t after, gate* g = nullptr) {
    const gm_access access{p, bytes, mode};
    gm_scope scope = nullptr;
    ASSERT_EQ(gm_access_begin(streams_[stream], &access, 1, &scope), GM_OK) << gm_last_error();
    if (g != nullptr) ASSERT_EQ(g->hold(streams_[stream]), GM_OK) << gm_last_error();
    auto& k = kernels_.emplace_back(std::make_unique<oracle_kernel>());
    oracle_kernel::piece piece;
    piece.device = static_cast<std::uint8_t*>(gm_device_pointer(p, gm_stream_node(streams_[stream])));
    piece.bytes = bytes;
    piece.mode = mode;
    piece.seed = after;
    piece.expected.resize(bytes);
    fill_with(piece.expected.data(), bytes, before);
    k->pieces.push_back(std::move(piece));
    ASSERT_EQ(k->launch(streams_[stream]), GM_OK) << gm_last_error();
    ASSERT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
  }

  void expect_kernels() {
    for (gm_stream s : streams_) ASSERT_EQ(gm_stream_synchronize(s), GM_OK) << gm_last_error();
    for (const auto& k : kernels_) {
      EXPECT_TRUE(k->finished.load() && k->ran.load());
      EXPECT_EQ(k->wrong.load(), 0u) << k->message();
    }
  }

  static void expect_contents(const std::uint8_t* p, std::size_t bytes, std::uint64_t seed) {
    std::vector<std::uint8_t> wanted(bytes);
    fill_with(wanted.data(), bytes, seed);
    EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), p));
  }

  static std::uint64_t parked() {
    gm_stats stats{};
    stats.size = sizeof stats;
    EXPECT_EQ(gm_stats_get(&stats), GM_OK);
    return stats.parked_faults;
  }

  live_runtime live_{GetParam()};
  watchdog dog_{"stress: queued work", hang_seconds};
  gm_stream streams_[2] = {};
  std::vector<std::unique_ptr<oracle_kernel>> kernels_;
};

// A scope on the other device, behind one that is held, is begun and ended without waiting; so are those on the same
// device. (The host does wait where pages that one queued scope still hands over are handed over again: gmem.h.)
TEST_P(queued_work, a_scope_behind_one_on_another_device_is_queued_without_waiting) {
  constexpr std::size_t bytes = block_size + 3 * page_size + 17;
  for (const gm_mode mode : {GM_READ, GM_READ_WRITE, GM_WRITE}) {
    std::uint8_t* p = filled(bytes, 1);
    gate g;
    queue(0, p, bytes, GM_READ_WRITE, 1, 2, &g);
    queue(0, p, bytes, GM_READ_WRITE, 2, 3);
    queue(1, p, bytes, mode, 3, 4);
    for (const auto& k : kernels_) EXPECT_FALSE(k->ran.load());
    g.open();
    expect_kernels();
    expect_contents(p, bytes, mode == GM_READ ? 3 : 4);
    kernels_.clear();
    gm_free(p);
  }
}

// The same, where the next scope on the other device shares pages, not bytes, with the first.
TEST_P(queued_work, scopes_that_share_a_page_are_queued_without_waiting) {
  constexpr std::size_t half = page_size / 2 + 100;
  std::uint8_t* p = filled(2 * half, 1);
  fill_with(p + half, half, 1);
  gate g;
  queue(0, p, half, GM_READ_WRITE, 1, 2, &g);
  queue(1, p + half, half, GM_READ_WRITE, 1, 3);
  g.open();
  expect_kernels();
  expect_contents(p, half, 2);
  expect_contents(p + half, half, 3);
  gm_free(p);
}

// Work of the two streams on different memory has nothing to wait for.
TEST_P(queued_work, what_is_not_behind_the_gate_goes_on) {
  constexpr std::size_t bytes = 5 * page_size + 1;
  std::uint8_t* p = filled(bytes, 1);
  std::uint8_t* q = filled(bytes, 2);
  gate g;
  queue(0, p, bytes, GM_READ_WRITE, 1, 3, &g);
  queue(1, q, bytes, GM_READ_WRITE, 2, 4);
  ASSERT_EQ(gm_stream_synchronize(streams_[1]), GM_OK) << gm_last_error();
  expect_contents(q, bytes, 4);
  EXPECT_FALSE(kernels_[0]->ran.load());
  g.open();
  expect_kernels();
  expect_contents(p, bytes, 3);
  gm_free(p);
  gm_free(q);
}

TEST_P(queued_work, copies_fills_and_prefetches_are_queued_without_waiting) {
  constexpr std::size_t bytes = 5 * page_size + 1;
  std::vector<std::uint8_t> plain(bytes);
  const std::vector<std::function<gm_status(std::uint8_t*)>> calls = {
      [&](std::uint8_t* p) { return gm_prefetch(p, bytes, 2, streams_[1]); },
      [&](std::uint8_t* p) { return gm_prefetch(p, bytes, GM_HOST, streams_[1]); },
      [&](std::uint8_t* p) { return gm_memcpy(plain.data(), p, bytes, 2, streams_[1]); },
      [&](std::uint8_t* p) { return gm_memcpy(plain.data(), p, bytes, GM_HOST, streams_[1]); },
      [&](std::uint8_t* p) { return gm_memset(p, 7, page_size + 1, 1, streams_[0]); },
      [&](std::uint8_t* p) { return gm_memset(p, 7, page_size + 1, 2, streams_[1]); },
      [&](std::uint8_t* p) { return gm_memset(p, 7, page_size + 1, GM_HOST, streams_[1]); },
  };
  for (std::size_t i = 0; i < calls.size(); ++i) {
    std::uint8_t* p = filled(bytes, 1);
    gate g;
    queue(0, p, bytes, GM_READ_WRITE, 1, 2, &g);
    EXPECT_EQ(calls[i](p), GM_OK) << i << ": " << gm_last_error();
    EXPECT_FALSE(kernels_.back()->ran.load());
    g.open();
    expect_kernels();
    std::vector<std::uint8_t> wanted(bytes);
    fill_with(wanted.data(), bytes, 2);
    if (i == 2 || i == 3) EXPECT_EQ(plain, wanted) << i;
    if (i >= 4) std::fill(wanted.begin(), wanted.begin() + page_size + 1, 7);
    EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), p)) << i;
    gm_free(p);
  }
}

// CPU threads that touch what queued work writes sleep, and wake when it is done.
TEST_P(queued_work, faults_are_parked_and_resumed) {
  constexpr std::size_t bytes = 6 * page_size;
  constexpr unsigned readers = 6;
  std::uint8_t* p = filled(bytes, 1);
  std::uint8_t* beside = filled(page_size, 5);
  gate g;
  queue(0, p, bytes, GM_READ_WRITE, 1, 2, &g);
  const std::uint64_t before = parked();
  std::atomic<unsigned> passed{0};
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < readers; ++i)
    threads.emplace_back([&, i] {
      const std::size_t at = i * page_size + 100 * i;
      const std::uint8_t seen = static_cast<volatile std::uint8_t*>(p)[at];
      passed.fetch_add(1);
      if (seen != written_byte(2, at)) wrong.fetch_add(1);
      static_cast<volatile std::uint8_t*>(p)[at] = 77;
    });
  while (parked() < before + readers) std::this_thread::yield();
  // The handlers serve others meanwhile.
  expect_contents(beside, page_size, 5);
  EXPECT_EQ(passed.load(), 0u);
  g.open();
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong.load(), 0u);
  for (unsigned i = 0; i < readers; ++i) EXPECT_EQ(p[i * page_size + 100 * i], 77);
  expect_kernels();
  gm_free(p);
  gm_free(beside);
}

// A prefetch to the host maps what it brings, but not what queued work of somebody else still writes or reads.
TEST_P(queued_work, a_prefetch_does_not_open_what_queued_work_needs) {
  std::vector<std::uint8_t> plain(page_size);
  const struct {
    const char* what;
    bool queued_writes;
    bool cpu_writes;
  } cases[] = {{"a CPU write before a queued write", true, true},
               {"a CPU read before a queued write", true, false},
               {"a CPU write before a queued read", false, true}};
  for (const auto& each : cases) {
    std::uint8_t* p = filled(page_size, 1);
    gate g;
    ASSERT_EQ(g.hold(streams_[0]), GM_OK);
    if (each.queued_writes)
      ASSERT_EQ(gm_memset(p, 7, page_size, GM_HOST, streams_[0]), GM_OK) << gm_last_error();
    else
      ASSERT_EQ(gm_memcpy(plain.data(), p, page_size, GM_HOST, streams_[0]), GM_OK) << gm_last_error();
    ASSERT_EQ(gm_prefetch(p, page_size, GM_HOST, streams_[1]), GM_OK) << gm_last_error();
    const std::uint64_t before = parked();
    std::atomic<bool> passed{false};
    std::uint8_t seen = 0;
    std::thread toucher([&] {
      volatile std::uint8_t* at = p + 5;
      if (each.cpu_writes)
        *at = 99;
      else
        seen = *at;
      passed.store(true);
    });
    while (parked() == before && !passed.load()) std::this_thread::yield();
    EXPECT_FALSE(passed.load()) << each.what;
    g.open();
    toucher.join();
    ASSERT_EQ(gm_stream_synchronize(streams_[0]), GM_OK) << gm_last_error();
    EXPECT_EQ(p[5], each.cpu_writes ? 99 : 7) << each.what;
    if (!each.cpu_writes) EXPECT_EQ(seen, 7) << each.what;
    if (!each.queued_writes) EXPECT_EQ(plain[5], written_byte(1, 5)) << each.what;
    gm_free(p);
  }
}

// A scope that another thread has open: begin waits for its end, no longer.
TEST_P(queued_work, a_scope_waits_for_the_end_of_another_threads) {
  constexpr std::size_t bytes = 2 * page_size;
  std::uint8_t* p = filled(bytes, 1);
  gate g;
  const gm_access access{p, bytes, GM_READ_WRITE};
  gm_scope mine = nullptr;
  ASSERT_EQ(gm_access_begin(streams_[0], &access, 1, &mine), GM_OK);
  std::atomic<bool> had{false};
  std::thread other([&] {
    gm_scope theirs = nullptr;
    EXPECT_EQ(gm_access_begin(streams_[1], &access, 1, &theirs), GM_OK) << gm_last_error();
    had.store(true);
    EXPECT_EQ(gm_access_end(theirs), GM_OK) << gm_last_error();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(had.load());
  ASSERT_EQ(g.hold(streams_[0]), GM_OK);
  ASSERT_EQ(gm_access_end(mine), GM_OK);
  other.join();  // although the stream is still held
  EXPECT_TRUE(had.load());
  g.open();
  gm_free(p);
}

// Memory freed while its work is queued: free waits for nobody, nobody gets the addresses, and all comes back in the
// end.
TEST_P(queued_work, free_during_a_lease) {
  constexpr std::size_t bytes = 2 * block_size;
  std::uint8_t* p = filled(bytes, 1);
  gate g;
  queue(0, p, bytes, GM_READ_WRITE, 1, 2, &g);
  gm_free(p);
  std::vector<std::uint8_t*> others;
  for (int i = 0; i < 20; ++i) {
    auto* other = static_cast<std::uint8_t*>(gm_calloc(bytes, 1));
    ASSERT_NE(other, nullptr);
    EXPECT_TRUE(other + bytes <= p || p + bytes <= other) << "the addresses were given away";
    others.push_back(other);
  }
  gm_mapping m{};
  EXPECT_EQ(gm_query(p, &m), GM_ERROR_NOT_MANAGED);
  g.open();
  for (std::uint8_t* other : others) gm_free(other);
  expect_kernels();
  EXPECT_TRUE(table_is_valid_at_rest());
  gm_stats stats{};
  stats.size = sizeof stats;
  ASSERT_EQ(gm_stats_get(&stats), GM_OK);
  EXPECT_EQ(stats.node[0].frames_used, 0u);
  EXPECT_EQ(stats.node[1].frames_used, 0u);
  EXPECT_EQ(stats.allocated_bytes, 0u);
}

// Freed with the scope still open, on both sides of a copy.
TEST_P(queued_work, free_in_an_open_scope) {
  std::uint8_t* p = filled(3 * page_size, 1);
  const gm_access access{p, 3 * page_size, GM_READ_WRITE};
  gm_scope scope = nullptr;
  ASSERT_EQ(gm_access_begin(streams_[0], &access, 1, &scope), GM_OK);
  gm_free(p);
  EXPECT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
}

TEST_P(queued_work, shutdown_is_busy_while_something_lives) {
  std::uint8_t* p = filled(page_size, 1);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY);
  gm_free(p);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY) << "streams live";
  p = filled(page_size, 1);
  gate g;
  queue(0, p, page_size, GM_READ_WRITE, 1, 2, &g);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY);
  const gm_access access{p, page_size, GM_READ};
  gm_scope scope = nullptr;
  ASSERT_EQ(gm_access_begin(streams_[1], &access, 1, &scope), GM_OK);
  EXPECT_EQ(gm_stream_destroy(streams_[1]), GM_ERROR_BUSY) << "a scope is open on it";
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY);
  EXPECT_EQ(gm_access_end(scope), GM_OK);
  g.open();
  expect_contents(p, page_size, 2);
  gm_free(p);
}

// An impossible scope moves nothing; a possible one beside an open one of the same thread says so.
TEST_P(queued_work, a_scope_that_does_not_fit_changes_nothing) {
  gm_node_info info{};
  ASSERT_EQ(gm_node_info_get(1, &info), GM_OK);
  const std::size_t budget = info.budget_bytes;
  std::uint8_t* p = filled(budget + block_size, 1);
  const gm_access all{p, budget + block_size, GM_READ_WRITE};
  gm_scope scope = nullptr;
  EXPECT_EQ(gm_access_begin(streams_[0], &all, 1, &scope), GM_ERROR_NO_MEMORY);
  gm_stats stats{};
  stats.size = sizeof stats;
  ASSERT_EQ(gm_stats_get(&stats), GM_OK);
  EXPECT_EQ(stats.node[1].pages_in, 0u);
  EXPECT_EQ(stats.node[1].frames_used, 0u);
  expect_contents(p, budget + block_size, 1);
  gm_free(p);
}

INSTANTIATE_TEST_SUITE_P(stress, queued_work,
                         testing::Values(stress_flavour("window", true, "thread", 32 * mebibyte),
                                         stress_flavour("window_inline", true, "inline", 32 * mebibyte),
                                         stress_flavour("no_window", false, "thread", 32 * mebibyte)),
                         flavour_name);

}  // namespace
}  // namespace gm::test
