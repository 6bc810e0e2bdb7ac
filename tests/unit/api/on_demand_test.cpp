// SPDX-License-Identifier: Apache-2.0
// On-demand scopes beside everything else of the interface.
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "unit/api/on_demand.h"

namespace gm::test {
namespace {

class on_demand_scopes : public on_demand_test {
 protected:
  static constexpr unsigned block_pages = block / page;
  void SetUp() override { start(small_options()); }
  static std::uint64_t faults_of(unsigned node) { return stats().node[node].faults; }
  // As a kernel does, save that it does not look whether anybody has asked already.
  static void post_request(const gm_view_data& view, std::uint64_t page_of_view, bool to_write) {
    const std::uint64_t ticket = device_word::take_ticket(&view.control->tickets);
    auto* const ring = reinterpret_cast<std::uint64_t*>(view.control->ring);
    const std::uint64_t slots = device_word::peek(&view.control->slots);
    const std::uint64_t turn = (ticket / slots + 1) & GM_REQUEST_TURN_MASK;
    device_word::post(ring + ticket % slots,
                      (view.first_page + page_of_view) | std::uint64_t{to_write ? 1u : 0u} << GM_REQUEST_WRITE_SHIFT |
                          std::uint64_t{view.scope} << GM_REQUEST_SCOPE_SHIFT | turn << GM_REQUEST_TURN_SHIFT);
  }
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

// ---- What writing takes along ----

// One fault each would be 32 a block; a lane that reads before it writes would make it 64.
TEST_F(on_demand_scopes, a_kernel_that_writes_all_faults_a_few_times_a_block) {
  constexpr std::size_t blocks = 6;
  constexpr std::size_t count = blocks * block_words;
  for (const bool reads_first : {false, true}) {
    word* x = make_words(count);
    for (std::size_t i = 0; i < count; i += page_words) x[i] = static_cast<word>(i);
    gm_stream s = stream();
    const std::uint64_t before = faults_of(1);
    {
      gm::scope use(s, gm::on_demand(x, count));
      const gm::view<word> v(use, x, count);
      kernel(s, [=] {
        for (std::size_t i = 0; i < count; i += page_words) {
          if (reads_first)
            v[i] = v[i] + 1;
          else
            v[i] += 1;
        }
      });
    }
    finish(s);
    EXPECT_LE(faults_of(1) - before, blocks * 10) << (reads_first ? "reads first" : "writes");
    for (std::size_t i = 0; i < count; i += page_words) ASSERT_EQ(x[i], i + 1) << i;
    free(x);
  }
}

// Pages that another device's kernels are reading are theirs until they are really written.
TEST_F(on_demand_scopes, what_others_read_is_not_taken_along_to_write) {
  word* x = make_words(block_words);
  for (std::size_t i = 0; i < block_words; i += page_words) x[i] = 7;
  gm_stream s = stream();
  gm_stream other = stream(2);
  std::atomic<bool> started{false};
  std::atomic<bool> go{false};
  std::atomic<bool> done{false};
  std::atomic<word> sum{0};
  {
    gm::scope reading(other, gm::on_demand(static_cast<const word*>(x), block_words));
    const gm::view<const word> there(reading, x, block_words);
    kernel(other, [=, &started, &go, &sum] {
      for (const auto& span : there.pages(31 * page_words, 31 * page_words + 1)) {
        started = true;
        wait_for(go);
        sum += span[0];
      }
    });
    wait_for(started);
    gm::scope writing(s, gm::on_demand(x, block_words));
    const gm::view<word> v(writing, x, block_words);
    kernel(s, [=, &done] {
      for (std::size_t i = 0; i < 31 * page_words; i += page_words) v[i] += 1;
      done = true;
    });
    EXPECT_TRUE(soon([&] { return done.load(); })) << "it waits for nobody's page";
    EXPECT_NE(query(x + 31 * page_words).valid_nodes & 4u, 0u) << "device 2 has it still";
    go = true;
  }
  finish(s);
  finish(other);
  EXPECT_EQ(sum, 7u);
  for (std::size_t i = 0; i < block_words; i += page_words) ASSERT_EQ(x[i], i / page_words < 31 ? 8u : 7u) << i;
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

// A kernel may post for a page that comes at the same moment, and its request lie in the ring until long after its end.
TEST_F(on_demand_scopes, an_old_request_does_not_fetch_what_a_scope_is_still_to_write) {
  gm_stream s = stream();
  gm_stream other = stream(2);
  for (const bool to_write : {false, true}) {
    word* x = make_words(block_words);
    {
      gm::scope use(s, gm::on_demand(static_cast<const word*>(x), block_words));
      const gm::view<const word> v(use, x, block_words);
      kernel(s, [=] { (void)static_cast<word>(v[0]); });
    }
    finish(s);
    std::atomic<bool> owned{false};
    std::atomic<bool> go{false};
    std::atomic<bool>* flags[] = {&owned, &go};
    gm_scope writing = begin(other, x, block, GM_WRITE);
    ASSERT_EQ(gm_stream_call(
                  other,
                  [](void* both) {
                    auto** flag = static_cast<std::atomic<bool>**>(both);
                    *flag[0] = true;
                    wait_for(*flag[1]);
                  },
                  flags),
              GM_OK);
    kernel_set(other, x, block, 5);
    end(writing);
    std::atomic<std::size_t> wrong{0};
    {
      gm::scope use(s, gm::on_demand(x, block_words));
      gm_view_data old;
      ASSERT_EQ(gm_view_get(use.native(), x, block, &old), GM_OK);
      wait_for(owned);
      const std::uint64_t faults = faults_of(1);
      for (std::uint64_t page = 0; page < block_pages; page += 3) post_request(old, page, to_write);
      EXPECT_TRUE(soon([&] { return faults_of(1) >= faults + (block_pages + 2) / 3; }));
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      go = true;
      const gm::view<word> v(use, x, block_words);
      kernel(s, [=, &wrong] {
        for (std::size_t i = 0; i < block_words; i += page_words) wrong += v[i] != 0x05050505u ? 1 : 0;
      });
    }
    finish(s);
    finish(other);
    EXPECT_EQ(wrong, 0u) << (to_write ? "posted to write" : "posted to read");
    for (std::size_t i = 0; i < block_words; i += page_words) ASSERT_EQ(x[i], 0x05050505u) << i;
    free(x);
  }
}

// A scope may have a page both ways, where a range ends in it and the next begins.
TEST_F(on_demand_scopes, a_page_that_is_declared_too_is_fetched_all_the_same) {
  word* x = make_words(2 * page_words);
  for (std::size_t i = 0; i < 2 * page_words; ++i) x[i] = static_cast<word>(i);
  gm_stream s = stream();
  {
    gm::scope use(s, gm::write(x, page_words / 2), gm::on_demand(x + page_words / 2, page_words));
    auto* const own = static_cast<word*>(gm_device_pointer(x, gm_stream_node(s)));
    const gm::view<word> v(use, x + page_words / 2, page_words);
    kernel(s, [=] {
      for (std::size_t i = 0; i < page_words / 2; ++i) own[i] = 7;
      for (std::size_t i = 0; i < page_words; ++i) v[i] += 1;
    });
  }
  finish(s);
  for (std::size_t i = 0; i < 2 * page_words; ++i)
    ASSERT_EQ(x[i], i < page_words / 2 ? 7u : i < page_words / 2 + page_words ? i + 1 : i) << i;
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

// What writes the device's access map stands still.
TEST_F(on_demand_test, a_scope_without_a_stream_does_not_wait_for_a_silent_device) {
  start(small_options());
  word* x = make_words(page_words);
  x[3] = 4;
  device_faults* faults = nullptr;
  ASSERT_EQ(running()->demand_on(1, faults), status::ok) << gm_last_error();
  faults->answers().within_ns = 300'000'000;
  std::atomic<bool> silent{true};
  const auto stand_still = [](void* flag, std::size_t, std::size_t) {
    while (*static_cast<std::atomic<bool>*>(flag)) std::this_thread::yield();
  };
  const device_node& device = running()->vm.device(1);
  ASSERT_EQ(device.api->launch(device.to_map, 1, stand_still, nullptr, &silent), GM_OK);
  EXPECT_EQ(try_begin(nullptr, x, page, demand_reads), GM_ERROR_DEVICE);
  EXPECT_NE(std::string(gm_last_error()).find("has not answered"), std::string::npos) << gm_last_error();
  silent = false;
  EXPECT_EQ(try_begin(nullptr, x, page, demand_reads), GM_OK) << gm_last_error();
  EXPECT_EQ(x[3], 4u);
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
