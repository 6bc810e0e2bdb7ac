// SPDX-License-Identifier: Apache-2.0
// Host memory that moves again and again is registered with the fake driver, which ends the program if such memory is
// given back or unlocked while a copy uses it.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "fake_gpu/fake_gpu_fixture.h"
#include "unit/running_gmem.h"
#include "unit/seeded.h"

namespace gm::test {
namespace {

using conformance::load_controls;

class registered_memory : public running_gmem {
 protected:
  void start_on(const char* machine, std::uint64_t host_bytes = 64 * mib, std::uint64_t registered_bytes = 0,
                const char* fault_mode = "thread") {
    setenv("GM_FAKE_GPU", machine, 1);
    gpu = load_controls();
    ASSERT_NE(gpu, nullptr);
    gm_options options = small_options();
    options.backend = "cuda";
    options.host_budget_bytes = host_bytes;
    options.registered_budget_bytes = registered_bytes;
    options.fault_mode = fault_mode;
    start(options);
  }
  void TearDown() override {
    running_gmem::TearDown();
    if (gpu != nullptr) {
      EXPECT_EQ(gpu->count(), fake_gpu::census{});
    }
  }
  // There and back: after two of these the block is worth registering, and one more uses that.
  static void ping_pong(byte* p, std::size_t bytes, int rounds) {
    for (int i = 0; i < rounds; ++i) {
      ASSERT_EQ(gm_prefetch(p, bytes, 1, nullptr), GM_OK) << gm_last_error();
      for (std::size_t at = 0; at < bytes; at += page) p[at] = static_cast<byte>(p[at] + 1);
    }
  }
  static std::uint64_t registered() { return stats().registered_bytes; }

  const fake_gpu::controls* gpu = nullptr;
};

TEST_F(registered_memory, memory_that_keeps_moving_ends_on_the_fast_way) {
  ASSERT_NO_FATAL_FAILURE(start_on(""));
  byte* const p = make_written(8 * mib);
  ping_pong(p, 8 * mib, 1);
  EXPECT_EQ(registered(), 0U);
  ping_pong(p, 8 * mib, 4);
  EXPECT_TRUE(soon([] { return registered() == 8 * mib; })) << registered();
  const std::uint64_t slow = gpu->blocked_calls() + gpu->pinned_copies();
  const std::uint64_t direct = gpu->direct_copies();
  ping_pong(p, 8 * mib, 2);
  settle();
  EXPECT_EQ(gpu->blocked_calls() + gpu->pinned_copies(), slow) << "nothing is copied the slow way any more";
  EXPECT_GE(gpu->direct_copies() - direct, 8U);
  for (std::size_t at = 0; at < 8 * mib; at += page) ASSERT_EQ(p[at], static_cast<byte>(1 + at / page + 7));
  free(p);
  EXPECT_TRUE(soon([] { return registered() == 0; }));
  settle();
  EXPECT_EQ(gpu->count().locked_ranges, 0);
}

TEST_F(registered_memory, a_budget_below_a_block_is_none) {
  ASSERT_NO_FATAL_FAILURE(start_on("", 64 * mib, mib));
  byte* const p = make_written(4 * mib);
  ping_pong(p, 4 * mib, 6);
  EXPECT_EQ(registered(), 0U);
}

TEST_F(registered_memory, what_cannot_be_locked_is_copied_all_the_same) {
  ASSERT_NO_FATAL_FAILURE(start_on("lockable=4M"));
  byte* const p = make_written(12 * mib);
  testing::internal::CaptureStderr();
  ping_pong(p, 12 * mib, 8);
  settle();
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("of host memory are registered with the copy engines, and no more will be"), std::string::npos)
      << said;
  EXPECT_LE(registered(), 4 * mib);
  for (std::size_t at = 0; at < 12 * mib; at += page) ASSERT_EQ(p[at], static_cast<byte>(1 + at / page + 8));
}

TEST_F(registered_memory, discarded_memory_is_given_back) {
  ASSERT_NO_FATAL_FAILURE(start_on(""));
  byte* const p = make_written(6 * mib);
  ping_pong(p, 6 * mib, 5);
  ASSERT_TRUE(soon([] { return registered() == 6 * mib; }));
  ASSERT_EQ(gm_discard(p, 6 * mib), GM_OK) << gm_last_error();
  EXPECT_EQ(flags(p) & GM_PAGE_NOMAP, GM_PAGE_NOMAP);
  EXPECT_EQ(resident(p, 6 * mib, GM_HOST), 0U);
  EXPECT_EQ(registered(), 0U);
  EXPECT_TRUE(all_are(p, 6 * mib, 0));
}

TEST_F(registered_memory, an_allocation_that_shares_a_block_with_a_registered_one_is_freed) {
  ASSERT_NO_FATAL_FAILURE(start_on(""));
  byte* const one = make_written(mib);
  byte* const other = make_written(mib, 100);
  ASSERT_EQ(reinterpret_cast<std::uintptr_t>(one) / block, reinterpret_cast<std::uintptr_t>(other) / block);
  for (int i = 0; i < 6; ++i) {
    ping_pong(one, mib, 1);
    ping_pong(other, mib, 1);
  }
  ASSERT_TRUE(soon([] { return registered() == block; }));
  free(one);
  EXPECT_TRUE(soon([] { return registered() == 0; }));
  for (std::size_t at = 0; at < mib; at += page) ASSERT_EQ(other[at], static_cast<byte>(100 + at / page + 6));
}

TEST_F(registered_memory, under_pressure_it_is_unregistered_and_given_to_those_who_need_it) {
  // Host memory for 6 blocks: all of it registered and kept for what lives on the device, then needed by the CPU.
  ASSERT_NO_FATAL_FAILURE(start_on("", 12 * mib, 12 * mib));
  byte* const moving = make_written(8 * mib);
  ping_pong(moving, 8 * mib, 5);
  ASSERT_TRUE(soon([] { return registered() >= 6 * mib; })) << registered();
  gm_stream s = stream();
  ASSERT_EQ(gm_memset(moving, 9, 8 * mib, 1, s), GM_OK);
  finish(s);
  byte* const fresh = make(10 * mib);
  for (std::size_t at = 0; at < 10 * mib; at += page) fresh[at] = 3;
  EXPECT_LE(registered(), 2 * mib);
  for (std::size_t at = 0; at < 10 * mib; at += page) ASSERT_EQ(fresh[at], 3);
  free(fresh);
  settle();
  EXPECT_TRUE(all_are(moving, 8 * mib, 9));
}

// What is freed is on its way back, and whoever needs it waits for that.
TEST_F(registered_memory, freed_memory_can_be_used_at_once) {
  for (const char* mode : {"thread", "inline"}) {
    ASSERT_NO_FATAL_FAILURE(start_on("unlock_us=200", 12 * mib, 12 * mib, mode));
    for (int round = 0; round < 10; ++round) {
      byte* const p = make_written(10 * mib);
      ping_pong(p, 10 * mib, 4);
      ASSERT_TRUE(soon([] { return registered() >= 8 * mib; })) << registered();
      free(p);
      byte* const fresh = make(10 * mib);
      if (round % 2 == 0) {
        for (std::size_t at = 0; at < 10 * mib; at += page) fresh[at] = 3;
      } else {
        EXPECT_EQ(gm_memset(fresh, 1, 10 * mib, GM_HOST, nullptr), GM_OK) << gm_last_error();
      }
      free(fresh);
      settle();
    }
    ASSERT_NO_FATAL_FAILURE(TearDown());
  }
}

TEST_F(registered_memory, calls_that_need_host_memory_wait_for_it_to_be_unregistered) {
  ASSERT_NO_FATAL_FAILURE(start_on("unlock_us=200", 8 * mib, 8 * mib));
  byte* const p = make_written(6 * mib);
  ping_pong(p, 6 * mib, 4);
  ASSERT_TRUE(soon([] { return registered() == 6 * mib; })) << registered();
  gm_stream s = stream();
  ASSERT_EQ(gm_memset(p, 9, 6 * mib, 1, s), GM_OK);
  finish(s);
  byte* const q = make(4 * mib);
  EXPECT_EQ(gm_memset(q, 1, 4 * mib, GM_HOST, nullptr), GM_OK) << gm_last_error();
  EXPECT_TRUE(all_are(q, 4 * mib, 1));
}

// Else a function of a stream that waits for host memory would wait for what waits for the function.
TEST_F(registered_memory, a_driver_that_waits_when_it_unlocks_is_not_asked_to_lock) {
  ASSERT_NO_FATAL_FAILURE(start_on("unlock_waits=1"));
  const std::uint64_t direct = gpu->direct_copies();
  const std::uint64_t staged = gpu->pinned_copies();
  byte* const p = make_written(6 * mib);
  ping_pong(p, 6 * mib, 6);
  settle();
  EXPECT_EQ(registered(), 0U);
  EXPECT_EQ(gpu->direct_copies(), direct);
  EXPECT_GT(gpu->pinned_copies(), staged);
}

TEST_F(registered_memory, a_discard_beside_a_neighbours_copy_zeroes_in_place) {
  ASSERT_NO_FATAL_FAILURE(start_on(""));
  byte* const one = make_written(mib);
  byte* const other = make_written(mib, 100);
  ASSERT_EQ(reinterpret_cast<std::uintptr_t>(one) / block, reinterpret_cast<std::uintptr_t>(other) / block);
  for (int i = 0; i < 6; ++i) {
    ping_pong(one, mib, 1);
    ping_pong(other, mib, 1);
  }
  ASSERT_TRUE(soon([] { return registered() == block; }));
  // The neighbour's copy to the device comes behind a function that is held up.
  gm_stream s = stream();
  std::atomic<bool> go{false};
  gm_scope held = begin(s, other, mib, GM_READ_WRITE);
  ASSERT_EQ(gm_stream_call(
                s, [](void* flag) { static_cast<std::atomic<bool>*>(flag)->wait(false); }, &go),
            GM_OK);
  end(held);
  gm_stream second = stream();
  gm_scope behind = begin(second, other, mib, GM_READ);
  end(behind);
  ASSERT_EQ(gm_prefetch(other, mib, GM_HOST, second), GM_OK) << gm_last_error();
  EXPECT_EQ(gm_discard(one, mib), GM_OK) << gm_last_error();
  EXPECT_EQ(registered(), block);
  EXPECT_TRUE(all_are(one, mib, 0));
  go = true;
  go.notify_all();
  finish(second);
  for (std::size_t at = 0; at < mib; at += page) ASSERT_EQ(other[at], static_cast<byte>(100 + at / page + 6));
}

TEST_F(registered_memory, a_lost_device_does_not_keep_it) {
  ASSERT_NO_FATAL_FAILURE(start_on(""));
  byte* const p = make_written(4 * mib);
  ping_pong(p, 4 * mib, 5);
  ASSERT_TRUE(soon([] { return registered() == 4 * mib; }));
  gpu->lose(0);
  EXPECT_EQ(p[page], 2 + 5) << "the host has it";
  free(p);
  EXPECT_TRUE(soon([] { return registered() == 0; }));
}

// ---- Many at once --------------------------------------------------------------------------------------------------

struct pressure {
  const char* name;
  const char* machine;
  std::uint64_t host_bytes;
  std::uint64_t registered_bytes;
  bool frees_wait = false;  // for the stream: a touch does not wait for memory that queued work of the program holds
};
void PrintTo(const pressure& p, std::ostream* out) { *out << p.name; }

class registered_random : public registered_memory, public testing::WithParamInterface<pressure> {
 protected:
  // Moves, frees, discards and checks an array of its own, all the time.
  void live(std::uint64_t seed, int steps) {
    rng random(seed);
    gm_stream s = nullptr;
    ASSERT_EQ(
        gm_stream_create(1 + static_cast<int>(test::below(random, static_cast<std::size_t>(gm_node_count() - 1))), &s),
        GM_OK);
    byte* p = nullptr;
    std::size_t bytes = 0;
    std::vector<byte> plain;
    for (int step = 0; step < steps; ++step) {
      if (p == nullptr) {
        bytes =
            test::below(random, 3) == 0 ? mib - page * test::below(random, 4) : 2 * mib * (1 + test::below(random, 2));
        p = static_cast<byte*>(gm_malloc(bytes));
        ASSERT_NE(p, nullptr) << gm_last_error();
        for (std::size_t at = 0; at < bytes; at += page) p[at] = static_cast<byte>(step + at / page);
        plain.clear();
        for (std::size_t at = 0; at < bytes; at += page) plain.push_back(static_cast<byte>(step + at / page));
      }
      switch (test::below(random, 12)) {
        case 0:
          if (GetParam().frees_wait) EXPECT_EQ(gm_stream_synchronize(s), GM_OK) << gm_last_error();
          gm_free(p);
          p = nullptr;
          break;
        case 1:
          ASSERT_EQ(gm_discard(p, bytes), GM_OK) << gm_last_error();
          std::fill(plain.begin(), plain.end(), byte{0});
          break;
        case 2:
          ASSERT_EQ(gm_memset(p, step, bytes, gm_stream_node(s), s), GM_OK) << gm_last_error();
          std::fill(plain.begin(), plain.end(), static_cast<byte>(step));
          break;
        case 3:
        case 4:
        case 5:
        case 6:
        case 7: {
          const gm_access access{p, bytes, GM_READ_WRITE};
          gm_scope scope = nullptr;
          ASSERT_EQ(gm_access_begin(s, &access, 1, &scope), GM_OK) << gm_last_error();
          ASSERT_EQ(gm_access_end(scope), GM_OK);
          break;
        }
        default:
          for (std::size_t i = 0; i < plain.size(); ++i) {
            ASSERT_EQ(p[i * page], plain[i]) << "step " << step << " page " << i;
            p[i * page] = ++plain[i];
          }
      }
    }
    gm_free(p);
    EXPECT_EQ(gm_stream_synchronize(s), GM_OK) << gm_last_error();
    EXPECT_EQ(gm_stream_destroy(s), GM_OK);
  }
};

TEST_P(registered_random, nothing_is_lost_and_nothing_stays) {
  ASSERT_NO_FATAL_FAILURE(start_on(GetParam().machine, GetParam().host_bytes, GetParam().registered_bytes));
  const std::uint64_t direct = gpu->direct_copies();
  const std::uint64_t first = seed();
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 4; ++i) threads.emplace_back([&, i] { live(first + i, scaled(300)); });
  std::atomic<bool> stop{false};
  std::thread validator([&] {
    while (!stop) {
      char why[256] = {};
      EXPECT_TRUE(debug_validate(why, sizeof why)) << why;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  for (std::thread& each : threads) each.join();
  stop = true;
  validator.join();
  settle();
  EXPECT_EQ(registered(), 0U);
  EXPECT_EQ(gpu->count().locked_ranges, 0);
  EXPECT_GT(gpu->direct_copies(), direct);
}

INSTANTIATE_TEST_SUITE_P(
    fake_gpu, registered_random,
    testing::Values(pressure{"roomy", "", 64 * mib, 0}, pressure{"tight", "memory=12M", 17 * mib, 17 * mib, true},
                    pressure{"small_budget", "delay_us=20", 24 * mib, 4 * mib, true},
                    pressure{"two_devices", "devices=2,memory=8M", 18 * mib, 18 * mib, true},
                    pressure{"no_pinned_memory", "pins=0", 24 * mib, 24 * mib, true},
                    pressure{"slow_to_unlock", "unlock_us=300,delay_us=1000", 20 * mib, 20 * mib, true},
                    pressure{"no_window", "maps=0", 24 * mib, 24 * mib, true}),
    [](const auto& which) { return std::string(which.param.name); });

}  // namespace
}  // namespace gm::test
