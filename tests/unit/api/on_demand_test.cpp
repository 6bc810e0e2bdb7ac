// SPDX-License-Identifier: Apache-2.0
// On-demand scopes beside everything else of the interface, and what they end in where a page cannot be had.
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "gmem/gmem.hpp"
#include "gmem/parallel.hpp"
#include "gmem/view.hpp"
#include "unit/must_end.h"
#include "unit/running_gmem.h"

namespace gm::test {
namespace {

using word = std::uint32_t;
constexpr std::size_t page_words = page / sizeof(word);
constexpr std::size_t block_words = block / sizeof(word);
constexpr gm_mode demand_reads = static_cast<gm_mode>(GM_READ | GM_ON_DEMAND);
constexpr gm_mode demand_writes = static_cast<gm_mode>(GM_READ_WRITE | GM_ON_DEMAND);

class on_demand_test : public running_gmem {
 protected:
  word* make_words(std::size_t count) { return reinterpret_cast<word*>(make(count * sizeof(word))); }
  // A kernel of one lane.
  template <class F>
  static void kernel(gm_stream s, F work) {
    gm::parallel_for(s, 1, [=](std::size_t) { work(); });
  }
  // Wakes whoever waits in a kernel.
  static void wait_for(const std::atomic<bool>& flag) {
    while (!flag) std::this_thread::yield();
  }

  const must_end end_{testing::UnitTest::GetInstance()->current_test_info()->name()};
};

class on_demand_scopes : public on_demand_test {
 protected:
  void SetUp() override { start(small_options()); }
};

// ---- Other uses of the memory ----

TEST_F(on_demand_scopes, declaring_the_memory_in_the_same_thread_is_busy_until_the_scope_is_ended) {
  word* x = make_words(4 * page_words);
  gm_stream s = stream();
  gm_scope open = begin(s, x, 4 * page, demand_writes);
  EXPECT_EQ(try_begin(s, x + page_words, page, GM_READ), GM_ERROR_BUSY);
  EXPECT_EQ(try_begin(stream(2), x, page, GM_WRITE), GM_ERROR_BUSY);
  EXPECT_EQ(try_begin(s, x, page, demand_reads), GM_OK) << "two on-demand scopes share pages";
  EXPECT_EQ(gm_prefetch(x, page, 1, nullptr), GM_ERROR_BUSY);
  EXPECT_EQ(gm_prefetch(x, page, GM_HOST, nullptr), GM_ERROR_BUSY);
  EXPECT_EQ(gm_pin(x, page, GM_HOST), GM_ERROR_BUSY);
  EXPECT_EQ(gm_pin(x, page, 1), GM_ERROR_BUSY);
  EXPECT_EQ(gm_discard(x, page), GM_ERROR_BUSY);
  EXPECT_EQ(gm_memset(x, 1, page, 1, nullptr), GM_ERROR_BUSY);
  EXPECT_EQ(gm_memcpy(x, x + page_words, page, 2, nullptr), GM_ERROR_BUSY);
  end(open);
  EXPECT_EQ(try_begin(s, x, page, GM_READ), GM_OK) << gm_last_error();
  EXPECT_EQ(gm_memset(x, 1, page, 1, nullptr), GM_OK) << gm_last_error();
  EXPECT_EQ(x[0], 0x01010101u);
}

TEST_F(on_demand_scopes, memory_declared_in_the_same_thread_is_busy) {
  word* x = make_words(page_words);
  gm_stream s = stream();
  gm_scope open = begin(s, x, page, GM_READ);
  EXPECT_EQ(try_begin(s, x, page, demand_reads), GM_ERROR_BUSY);
  end(open);
  EXPECT_EQ(try_begin(s, x, page, demand_reads), GM_OK) << gm_last_error();
}

TEST_F(on_demand_scopes, what_is_declared_later_waits_for_the_kernels) {
  word* x = make_words(block_words);
  gm_stream s = stream();
  gm_stream other = stream(2);
  for (int what = 0; what < 6; ++what) {
    std::atomic<bool> go{false};
    std::atomic<bool> written{false};
    {
      gm::scope use(s, gm::on_demand(x, block_words));
      const gm::view<word> v(use, x, block_words);
      kernel(s, [=, &go, &written] {
        wait_for(go);
        for (std::size_t i = 0; i < block_words; i += page_words) v[i] = static_cast<word>(what + 1);
        written = true;
      });
    }
    std::thread later([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      go = true;
    });
    switch (what) {
      case 0:
        EXPECT_EQ(try_begin(other, x, block, GM_READ), GM_OK) << gm_last_error();
        break;
      case 1:
        EXPECT_EQ(gm_prefetch(x, block, 2, nullptr), GM_OK) << gm_last_error();
        break;
      case 2:
        EXPECT_EQ(gm_pin(x, block, GM_HOST), GM_OK) << gm_last_error();
        EXPECT_EQ(gm_unpin(x, block, GM_HOST), GM_OK);
        break;
      case 3:
        EXPECT_EQ(gm_memset(x + 1, 0x77, 4, GM_HOST, nullptr), GM_OK) << gm_last_error();
        break;
      case 4:
        EXPECT_EQ(gm_memcpy(x + 2, x, 4, 1, nullptr), GM_OK) << gm_last_error();
        break;
      default:
        EXPECT_EQ(gm_discard(x, block), GM_OK) << gm_last_error();
    }
    EXPECT_TRUE(written) << what;
    later.join();
    finish(s);
    finish(other);
    for (std::size_t i = 0; i < block_words; i += page_words)
      ASSERT_EQ(x[i], what == 5 ? 0u : static_cast<word>(what + 1)) << what << " at " << i;
    if (what == 3) EXPECT_EQ(x[1], 0x77777777u);
    if (what == 4) EXPECT_EQ(x[2], 5u);
  }
}

TEST_F(on_demand_scopes, pages_pinned_to_the_host_are_busy) {
  word* x = make_words(2 * page_words);
  ASSERT_EQ(gm_pin(x + page_words, page, GM_HOST), GM_OK);
  EXPECT_EQ(try_begin(stream(), x, 2 * page, demand_reads), GM_ERROR_BUSY);
  expect_error("pinned");
  EXPECT_EQ(try_begin(stream(), x, page, demand_reads), GM_OK) << gm_last_error();
  EXPECT_EQ(gm_unpin(x + page_words, page, GM_HOST), GM_OK);
  EXPECT_EQ(try_begin(stream(), x, 2 * page, demand_reads), GM_OK) << gm_last_error();
}

TEST_F(on_demand_scopes, memory_may_be_freed_while_a_kernel_fetches_it) {
  word* x = make_words(2 * block_words);
  for (std::size_t i = 0; i < 2 * block_words; i += page_words) x[i] = static_cast<word>(i);
  gm_stream s = stream();
  std::atomic<bool> freed{false};
  std::atomic<bool> started{false};
  std::atomic<std::size_t> wrong{0};
  {
    gm::scope use(s, gm::on_demand(x, 2 * block_words));
    const gm::view<word> v(use, x, 2 * block_words);
    kernel(s, [=, &freed, &started, &wrong] {
      for (std::size_t i = 0; i < block_words; i += page_words) v[i] += 1;
      started = true;
      wait_for(freed);
      for (std::size_t i = 0; i < 2 * block_words; i += page_words)
        if (v[i] != static_cast<word>(i) + (i < block_words ? 1 : 0)) ++wrong;
      for (std::size_t i = 0; i < 2 * block_words; i += page_words) v[i] += 1;
    });
  }
  wait_for(started);
  free(x);
  freed = true;
  finish(s);
  EXPECT_EQ(wrong, 0u);
}

TEST_F(on_demand_scopes, a_device_has_64_at_a_time) {
  word* x = make_words(page_words);
  gm_stream s = stream();
  std::vector<gm_scope> all;
  for (int i = 0; i < GM_MAP_SCOPES; ++i) all.push_back(begin(s, x, page, demand_reads));
  EXPECT_EQ(try_begin(s, x, page, demand_reads), GM_ERROR_NO_MEMORY);
  expect_error("64 on-demand scopes");
  EXPECT_EQ(try_begin(stream(2), x, page, demand_reads), GM_OK) << gm_last_error();
  end(all.back());
  all.pop_back();
  bool began = false;
  EXPECT_TRUE(soon([&] { return began = began || try_begin(s, x, page, demand_reads) == GM_OK; })) << gm_last_error();
  for (gm_scope each : all) end(each);
}

TEST_F(on_demand_scopes, without_a_stream_the_view_is_good_when_begin_returns) {
  word* x = make_words(page_words);
  x[3] = 4;
  {
    gm::scope use(nullptr, gm::on_demand(x, page_words));
    const gm::view<word> v(use, x, page_words);
    gm::parallel_for(nullptr, page_words, [=](std::size_t i) { v[i] = v[3] + static_cast<word>(i); });
  }
  EXPECT_EQ(x[1], 5u);
}

TEST_F(on_demand_scopes, mixed_with_writing_alone_is_no_mode) {
  word* x = make_words(page_words);
  EXPECT_EQ(try_begin(stream(), x, page, static_cast<gm_mode>(GM_WRITE | GM_ON_DEMAND)), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(try_begin(stream(), x, page, GM_ON_DEMAND), GM_ERROR_INVALID_ARGUMENT);
}

// ---- Scopes one after the other ----

// What device 1's kernels found is stale when another device has written it in between, in stream order.
TEST_F(on_demand_scopes, a_kernel_sees_what_a_scope_queued_before_it_writes_elsewhere) {
  gm_stream s = stream();
  gm_stream other = stream(2);
  word* x = make_words(block_words);
  for (word round = 1; round <= 30; ++round) {
    std::atomic<std::size_t> wrong{0};
    std::atomic<bool> go{false};
    {
      gm::scope use(s, gm::on_demand(static_cast<const word*>(x), block_words));
      const gm::view<const word> v(use, x, block_words);
      kernel(s, [=, &wrong] {
        for (std::size_t i = 0; i < block_words; i += page_words) wrong += v[i] != (round - 1) * 0x01010101u ? 1 : 0;
      });
    }
    finish(s);
    // Its kernel is still to run when the next scope of device 1 begins.
    ASSERT_EQ(gm_stream_call(
                  other, [](void* flag) { wait_for(*static_cast<std::atomic<bool>*>(flag)); }, &go),
              GM_OK);
    gm_scope writing = begin(other, x, block, round % 2 == 0 ? GM_WRITE : GM_READ_WRITE);
    kernel_set(other, x, block, static_cast<int>(round));
    end(writing);
    {
      gm::scope use(s, gm::on_demand(static_cast<const word*>(x), block_words));
      const gm::view<const word> v(use, x, block_words);
      go = true;
      kernel(s, [=, &wrong] {
        for (std::size_t i = 0; i < block_words; i += page_words) wrong += v[i] != round * 0x01010101u ? 1 : 0;
      });
    }
    finish(s);
    finish(other);
    ASSERT_EQ(wrong, 0u) << "round " << round;
  }
}

// ---- What cannot be had ----

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

// ---- Devices without access maps ----

class without_maps : public on_demand_test {
 protected:
  void SetUp() override { start(small_options({.name = "no_window", .window = false})); }
};

TEST_F(without_maps, a_range_on_demand_is_declared_instead) {
  gm_node_info info{};
  ASSERT_EQ(gm_node_info_get(1, &info), GM_OK);
  word* x = make_words(4 * page_words);
  gm_stream s = stream();
  {
    gm::scope use(s, gm::on_demand(x, 4 * page_words));
    const gm::view<word> v(use, x, 4 * page_words);
    EXPECT_EQ(info.has_access_map, 0);
    kernel(s, [=] {
      for (const auto& span : v.pages(5, v.size()))
        for (word& each : span) each = 3;
      v[0].fetch_add(2);
      v[1] = v[4 * page_words - 1] + 1;
    });
  }
  finish(s);
  EXPECT_EQ(x[0], 2u);
  EXPECT_EQ(x[1], 4u);
  EXPECT_EQ(x[page_words], 3u);
}

// ---- The life of the runtime ----

TEST_F(on_demand_test, shutting_down_after_use_and_starting_again) {
  for (int round = 0; round < 3; ++round) {
    start(small_options());
    auto* x = static_cast<word*>(gm_malloc(2 * block));
    ASSERT_NE(x, nullptr);
    for (int node = 1; node <= 2; ++node) {
      gm::stream s(node);
      gm::scope use(s, gm::on_demand(x, 2 * block_words));
      const gm::view<word> v(use, x, 2 * block_words);
      gm::parallel_for(s, 64, [=](std::size_t i) { v[i * page_words] += 1; });
    }
    EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY) << "an allocation lives";
    EXPECT_EQ(x[63 * page_words], 2u);
    gm_free(x);
    settle();
    EXPECT_EQ(gm_shutdown(), GM_OK) << gm_last_error();
  }
}

}  // namespace
}  // namespace gm::test
