// SPDX-License-Identifier: Apache-2.0
// On-demand scopes where frames are few: what is served all the same, and what ends in words.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "api/debug.h"
#include "gmem/policy.h"
#include "unit/api/on_demand.h"

namespace gm::test {
namespace {

class few_frames : public on_demand_test {
 protected:
  static constexpr unsigned frames = 4;
  void SetUp() override {
    gm_options o = small_options();
    o.device_budget_bytes = frames * block;
    start(o);
  }
  // Holds a page in each of so many frames from a block on, and then calls.
  template <class F>
  static void hold(const gm::view<word>& v, std::size_t first_block, unsigned count, const F& then) {
    if (count == 0) {
      then();
      return;
    }
    const std::size_t at = first_block * block_words;
    for (const auto& span : v.pages(at, at + 1)) {
      span[0] += 1;
      hold(v, first_block + 1, count - 1, then);
    }
  }
};

TEST_F(few_frames, a_kernel_may_hold_all_but_one_and_go_through_everything) {
  constexpr std::size_t blocks = 3 * frames;
  word* x = make_words(blocks * block_words);
  gm_stream s = stream();
  {
    gm::scope use(s, gm::on_demand(x, blocks * block_words));
    const gm::view<word> v(use, x, blocks * block_words);
    kernel(s, [=] {
      hold(v, 0, frames - 1, [=] {
        for (std::size_t i = (frames - 1) * block_words; i < blocks * block_words; i += page_words) v[i] += 2;
      });
    });
  }
  finish(s);
  for (std::size_t i = 0; i < (frames - 1) * block_words; i += block_words) ASSERT_EQ(x[i], 1u);
  for (std::size_t i = (frames - 1) * block_words; i < blocks * block_words; i += page_words) ASSERT_EQ(x[i], 2u) << i;
}

TEST_F(few_frames, what_fits_exactly_stays) {
  constexpr std::size_t count = frames * block_words;
  word* x = make_words(count);
  for (std::size_t i = 0; i < count; i += page_words) x[i] = static_cast<word>(i);
  gm_stream s = stream();
  std::atomic<bool> all_there{false};
  std::atomic<bool> go{false};
  // The second scope begins when the first one's kernel has everything there, and still runs.
  for (const bool is_first : {true, false}) {
    gm::scope use(s, gm::on_demand(x, count));
    const gm::view<word> v(use, x, count);
    kernel(s, [=, &all_there, &go] {
      for (int pass = 0; pass < 3; ++pass)
        for (std::size_t i = 0; i < count; i += page_words) v[i] += 1;
      all_there = true;
      if (is_first) wait_for(go);
    });
    if (is_first) wait_for(all_there);
    if (!is_first) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (!is_first) go = true;
  }
  finish(s);
  EXPECT_EQ(stats().node[1].evictions, 0u);
  EXPECT_EQ(stats().node[1].pages_in, frames * block / page);
  for (std::size_t i = 0; i < count; i += page_words) ASSERT_EQ(x[i], i + 6) << i;
}

// What nobody writes stays nobody's, also beside what is written in order; the host's budget is half of it.
TEST_F(few_frames, a_kernel_that_writes_a_page_a_block_makes_memory_of_little_more) {
  constexpr std::size_t blocks = 64;
  word* x = make_words(blocks * block_words);
  gm_stream s = stream();
  {
    gm::scope use(s, gm::on_demand(x, blocks * block_words));
    const gm::view<word> v(use, x, blocks * block_words);
    kernel(s, [=] {
      for (std::size_t b = 0; b < blocks; ++b) v[b * block_words] = static_cast<word>(b) + 1;
    });
  }
  finish(s);
  EXPECT_LE(stats().node[1].pages_out, 2 * blocks);
  for (std::size_t b = 0; b < blocks; ++b) ASSERT_EQ(x[b * block_words], b + 1);
}

// The budget has room and the device has not.
TEST_F(few_frames, a_frame_without_memory_is_made_of_anothers) {
  word* x = make_words(2 * block_words);
  x[0] = 3;
  x[block_words] = 4;
  gm_stream s = stream();
  gm::scope use(s, gm::on_demand(static_cast<const word*>(x), 2 * block_words));
  const gm::view<const word> v(use, x, 2 * block_words);
  std::atomic<word> sum{0};
  kernel(s, [=, &sum] { sum += v[0]; });
  ASSERT_TRUE(soon([&] { return sum == 3; }));
  debug_fail_device(device::operation::piece_create, 1);
  kernel(s, [=, &sum] { sum += v[block_words]; });
  EXPECT_TRUE(soon([&] { return sum == 7 && stats().node[1].evictions != 0; }));
  debug_fail_device(device::operation::piece_create, 0);
  kernel(s, [=, &sum] { sum += v[0]; });
  EXPECT_TRUE(soon([&] { return sum == 10; }));
}

// All lanes of a kernel that is larger than the device wait at the same time.
TEST_F(few_frames, a_kernel_that_fills_the_device_is_served) {
  constexpr std::size_t count = 3 * frames * block_words;
  word* x = make_words(count);
  gm_stream s = stream();
  {
    gm::scope use(s, gm::on_demand(x, count));
    const gm::view<word> v(use, x, count);
    gm::parallel_for(s, count / 1024, [=](std::size_t i) {
      const std::size_t scattered = i * 7919 % (count / 1024);
      v[scattered * 1024].fetch_add(static_cast<word>(scattered));
    });
  }
  finish(s);
  for (std::size_t i = 0; i < count; i += 1024) ASSERT_EQ(x[i], i / 1024);
}

TEST_F(few_frames, a_kernel_that_holds_every_frame_and_wants_one_more_ends_in_words) {
  word* x = make_words((frames + 1) * block_words);
  gm_stream s = stream();
  std::atomic<bool> empty{false};
  {
    gm::scope use(s, gm::on_demand(x, (frames + 1) * block_words));
    const gm::view<word> v(use, x, (frames + 1) * block_words);
    kernel(s, [=, &empty] {
      hold(v, 0, frames, [=, &empty] {
        v[frames * block_words] = 5;
        empty = v[frames * block_words] == 0;
      });
    });
  }
  EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_NO_MEMORY);
  expect_error("frames has come free");
  EXPECT_TRUE(empty);
  settle();
  for (std::size_t i = 0; i < frames * block_words; i += block_words) EXPECT_EQ(x[i], 1u);
  EXPECT_EQ(x[frames * block_words], 0u);
}

// A write that follows may be of what was made of a page that was not had.
TEST_F(few_frames, a_scope_that_got_no_page_writes_no_more) {
  constexpr std::size_t words = (frames + 1) * block_words;
  word* x = make_words(words);
  x[3] = 8;
  gm_stream s = stream();
  {
    gm::scope use(s, gm::on_demand(x, words));
    const gm::view<word> v(use, x, words);
    kernel(s, [=] {
      v[3] = 9;
      hold(v, 0, frames, [=] {
        v[3] = v[frames * block_words];
        v[4].fetch_add(1);
        for (const auto& span : v.pages(5, 6)) span[0] = 1;
      });
    });
  }
  EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_NO_MEMORY);
  settle();
  EXPECT_EQ(x[3], 9u);
  EXPECT_EQ(x[4], 0u);
  EXPECT_EQ(x[5], 0u);
}

TEST_F(few_frames, the_page_that_was_not_had_is_had_by_a_later_scope) {
  constexpr std::size_t words = (frames + 1) * block_words;
  word* x = make_words(words);
  gm_stream s = stream();
  {
    gm::scope use(s, gm::on_demand(x, words));
    const gm::view<word> v(use, x, words);
    kernel(s, [=] { hold(v, 0, frames, [=] { v[frames * block_words] = 5; }); });
  }
  EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_NO_MEMORY);
  settle();
  {
    gm::scope use(s, gm::on_demand(x, words));
    const gm::view<word> v(use, x, words);
    kernel(s, [=] { v[frames * block_words] = 6; });
  }
  finish(s);
  EXPECT_EQ(x[frames * block_words], 6u);
}

TEST_F(few_frames, kernels_of_two_streams_that_hold_every_frame_between_them_end_in_words) {
  constexpr std::size_t words = (frames + 2) * block_words;
  word* x = make_words(words);
  gm_stream both[2] = {stream(), stream()};
  std::atomic<int> held{0};
  for (std::size_t k = 0; k < 2; ++k) {
    gm::scope use(both[k], gm::on_demand(x, words));
    const gm::view<word> v(use, x, words);
    kernel(both[k], [=, &held] {
      hold(v, k * frames / 2, frames / 2, [=, &held] {
        ++held;
        while (held < 2) std::this_thread::yield();
        v[(frames + k) * block_words] = 5;
      });
    });
  }
  const gm_status first = gm_stream_synchronize(both[0]);
  const gm_status second = gm_stream_synchronize(both[1]);
  EXPECT_TRUE(first == GM_ERROR_NO_MEMORY || second == GM_ERROR_NO_MEMORY) << first << " " << second;
}

// Both kernels wait for one page, and one of them has asked for it.
TEST_F(few_frames, all_who_wait_for_a_page_that_cannot_be_had_are_told) {
  constexpr std::size_t words = (frames + 1) * block_words;
  word* x = make_words(words);
  gm_stream s = stream();
  gm_stream other = stream();
  std::atomic<bool> asked{false};
  {
    gm::scope use(s, gm::on_demand(x, words));
    gm::scope beside(other, gm::on_demand(x, words));
    const gm::view<word> v(use, x, words);
    const gm::view<word> w(beside, x, words);
    kernel(s, [=, &asked] {
      hold(v, 0, frames, [=, &asked] {
        asked = true;
        v[frames * block_words] = 5;
      });
    });
    kernel(other, [=, &asked] {
      wait_for(asked);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      w[frames * block_words] = 6;
    });
  }
  const gm_status first = gm_stream_synchronize(s);
  const gm_status second = gm_stream_synchronize(other);
  EXPECT_EQ(first, GM_ERROR_NO_MEMORY);
  EXPECT_TRUE(second == GM_ERROR_NO_MEMORY || second == GM_OK) << gm_last_error();
  settle();
  EXPECT_EQ(x[frames * block_words], second == GM_OK ? 6u : 0u);
}

// The one that holds all frames waits for a page that somebody else has asked for.
TEST_F(few_frames, who_waits_for_what_another_asked_for_is_told_too) {
  constexpr std::size_t words = (frames + 1) * block_words;
  word* x = make_words(words);
  gm_stream s = stream();
  gm_stream other = stream();
  std::atomic<bool> held{false};
  std::atomic<bool> asking{false};
  {
    gm::scope use(s, gm::on_demand(x, words));
    gm::scope beside(other, gm::on_demand(x, words));
    const gm::view<word> v(use, x, words);
    const gm::view<word> w(beside, x, words);
    kernel(s, [=, &held, &asking] {
      hold(v, 0, frames, [=, &held, &asking] {
        held = true;
        wait_for(asking);
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        v[frames * block_words] = 5;
      });
    });
    kernel(other, [=, &held, &asking] {
      wait_for(held);
      asking = true;
      w[frames * block_words] = 6;
    });
  }
  EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(gm_stream_synchronize(other), GM_ERROR_NO_MEMORY);
}

// Each kernel's declared range is released behind the kernel itself: neither waits for the other's.
TEST_F(few_frames, kernels_with_declared_ranges_that_hold_every_frame_between_them_end_in_words) {
  constexpr std::size_t words = (frames + 2) * block_words;
  word* x = make_words(words);
  word* declared = make_words(2 * block_words);
  gm_stream both[2] = {stream(), stream()};
  std::atomic<int> held{0};
  {
    gm::scope first(both[0], gm::read_write(declared, block_words), gm::on_demand(x, words));
    gm::scope second(both[1], gm::read_write(declared + block_words, block_words), gm::on_demand(x, words));
    for (std::size_t k = 0; k < 2; ++k) {
      const gm::view<word> v(k == 0 ? first : second, x, words);
      kernel(both[k], [=, &held] {
        hold(v, k, 1, [=, &held] {
          ++held;
          while (held < 2) std::this_thread::yield();
          v[(frames + k) * block_words] = 5;
        });
      });
    }
  }
  const gm_status first = gm_stream_synchronize(both[0]);
  const gm_status second = gm_stream_synchronize(both[1]);
  EXPECT_TRUE(first == GM_ERROR_NO_MEMORY || second == GM_ERROR_NO_MEMORY) << first << " " << second;
}

// The frames are held by a scope whose work comes behind the kernel that waits for them.
TEST_F(few_frames, a_kernel_does_not_wait_for_frames_of_scopes_behind_itself) {
  word* x = make_words(block_words);
  word* declared = make_words(frames * block_words);
  gm_stream s = stream();
  gm_stream other = stream();
  std::atomic<bool> go{false};
  {
    gm::scope use(s, gm::on_demand(x, block_words), gm::read_write(declared, block_words));
    const gm::view<word> v(use, x, block_words);
    kernel(s, [=, &go] {
      wait_for(go);
      v[0] = 5;
    });
  }
  // Conflicts with the first one's declared range, so its work comes behind the kernel.
  gm_scope behind = begin(other, declared, frames * block, GM_READ_WRITE);
  end(behind);
  go = true;
  EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_NO_MEMORY);
  (void)gm_stream_synchronize(other);
  settle();
  EXPECT_EQ(x[0], 0u);
}

// Declared ranges of the scope itself leave nothing.
TEST_F(few_frames, a_scope_whose_declared_ranges_take_every_frame_ends_in_words) {
  word* declared = make_words(frames * block_words);
  word* x = make_words(page_words);
  gm_stream s = stream();
  {
    gm::scope use(s, gm::read_write(declared, frames * block_words), gm::on_demand(x, page_words));
    const gm::view<word> v(use, x, page_words);
    kernel(s, [=] { v[0] = 5; });
  }
  EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_NO_MEMORY);
  settle();
  EXPECT_EQ(x[0], 0u);
}

TEST_F(few_frames, without_a_stream_the_end_of_the_scope_says_it) {
  constexpr std::size_t words = (frames + 1) * block_words;
  word* x = make_words(words);
  gm::scope use(nullptr, gm::on_demand(x, words));
  const gm::view<word> v(use, x, words);
  gm::parallel_for(nullptr, 1, [=](std::size_t) { hold(v, 0, frames, [=] { v[frames * block_words] = 5; }); });
  EXPECT_THROW(
      {
        try {
          use.end();
        } catch (const gm::error& failure) {
          EXPECT_EQ(failure.status(), GM_ERROR_NO_MEMORY);
          throw;
        }
      },
      gm::error);
  expect_error("frames has come free");
}

// Frames that other scopes hold come back: their work is not behind this kernel.
TEST_F(few_frames, a_kernel_waits_for_frames_of_other_scopes) {
  word* declared = make_words(frames * block_words);
  word* x = make_words(page_words);
  gm_stream s = stream();
  gm_stream other = stream();
  std::atomic<bool> go{false};
  gm_scope holds = begin(other, declared, frames * block, GM_READ);
  {
    gm::scope use(s, gm::on_demand(x, page_words));
    const gm::view<word> v(use, x, page_words);
    kernel(s, [=] { v[0] = 5; });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(2500));  // longer than is waited for nobody
  end(holds);
  finish(s);
  EXPECT_EQ(x[0], 5u);
}

// ---- What stays of a loop ----

class loops : public on_demand_test {
 protected:
  static constexpr unsigned frames = 32;
  void SetUp() override {
    gm_options o = small_options();
    o.host_budget_bytes = 256 * mib;
    o.device_budget_bytes = o.sim_memory_bytes = frames * block;
    start(o);
  }
};

// Each lane goes through a part of its own, again and again, and all of it is one and a half times what fits. An order
// by age would bring every block in every pass.
TEST_F(loops, over_more_than_fits_bring_not_all_of_it_each_time) {
  constexpr std::size_t lanes = 2, lane_blocks = frames * 3 / 2 / lanes, passes = 4;
  constexpr std::size_t count = lanes * lane_blocks * block_words;
  word* x = make_words(count);
  gm_stream s = stream();
  for (word round = 1; round <= 3; ++round) {
    for (std::size_t i = 0; i < count; i += page_words) x[i] = 0;  // the device's frames hold nothing any more
    gm::reset_stats();
    {
      gm::scope use(s, gm::on_demand(x, count));
      const gm::view<word> v(use, x, count);
      for (std::size_t pass = 0; pass < passes; ++pass)
        gm::parallel_for(s, lanes, [=](std::size_t lane) {
          const std::size_t first = lane * lane_blocks * block_words;
          for (std::size_t i = first; i < first + lane_blocks * block_words; i += page_words) v[i] += 1;
        });
    }
    finish(s);
    EXPECT_LT(static_cast<double>(stats().node[1].bytes_in), 0.9 * passes * count * sizeof(word)) << round;
    for (std::size_t i = 0; i < count; i += page_words) ASSERT_EQ(x[i], passes) << i;
  }
}

// Pinned frames are never used again by the pool's clock, and so are first to go, and cannot.
TEST_F(loops, beside_pinned_frames_policy_is_asked_all_the_same) {
  constexpr std::size_t pinned_blocks = frames / 2, blocks = frames, passes = 6;
  word* pinned = make_words(pinned_blocks * block_words);
  word* x = make_words(blocks * block_words);
  ASSERT_EQ(gm_pin(pinned, pinned_blocks * block, 1), GM_OK) << gm_last_error();
  gm_stream s = stream();
  static std::atomic<unsigned> asked;
  gm_policy counting{};
  counting.size = sizeof counting;
  counting.victim = [](void*, const gm_policy_frame*, std::int32_t*) { ++asked; };
  ASSERT_EQ(gm_policy_set(&counting), GM_OK);
  for (std::size_t pass = 0; pass < passes; ++pass) {
    if (pass == 1) {  // by then the pool's clock has chosen the pinned ones, in vain
      gm::reset_stats();
      asked = 0;
    }
    {
      gm::scope use(s, gm::on_demand(x, blocks * block_words));
      const gm::view<word> v(use, x, blocks * block_words);
      kernel(s, [=] {
        for (std::size_t i = 0; i < blocks * block_words; i += page_words) v[i] += 1;
      });
    }
    finish(s);
  }
  const std::uint64_t evictions = stats().node[1].evictions;
  EXPECT_GT(evictions, blocks);
  EXPECT_GE(asked * 10, evictions * 9) << "of " << evictions << " evictions " << asked << " were asked for";
  ASSERT_EQ(gm_policy_set(nullptr), GM_OK);
  EXPECT_EQ(gm_unpin(pinned, pinned_blocks * block, 1), GM_OK) << gm_last_error();
  for (std::size_t i = 0; i < blocks * block_words; i += page_words) ASSERT_EQ(x[i], passes) << i;
}

}  // namespace
}  // namespace gm::test
