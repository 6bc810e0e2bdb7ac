// SPDX-License-Identifier: Apache-2.0
// scope_order_test.cpp - scopes in each other's way. Behind an ended one the stream waits and the host does not; behind
// an open one the host waits, for its end and no longer.
#include <unistd.h>

#include <fstream>
#include <thread>

#include "stress/queued_work.h"

namespace gm::test {
namespace {

class scope_order : public queued_work {};

// Does the thread of this process sleep?
bool asleep(pid_t thread) {
  std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/stat");
  std::string text;
  std::getline(stat, text);
  const std::size_t name_ends = text.rfind(')');
  return name_ends != std::string::npos && text.compare(name_ends, 3, ") S") == 0;
}

// (The host does wait where pages that one queued scope still hands over are handed over again: gmem.h.)
TEST_P(scope_order, behind_an_ended_one_the_stream_waits_and_the_host_does_not) {
  constexpr std::size_t bytes = block_size + 3 * page_size + 17;
  for (const bool from_device : {false, true})
    for (const gm_mode mode : {GM_READ, GM_READ_WRITE, GM_WRITE}) {
      std::uint8_t* p = filled(bytes, 1);
      gate g;
      if (from_device) {
        // It is there already, and the stream is held before the scope begins.
        queue(first_, p, bytes, GM_READ_WRITE, 1, 1);
        expect_kernels_were_right();
        ASSERT_EQ(g.hold(first_.get()), GM_OK) << gm_last_error();
        queue(first_, p, bytes, GM_READ_WRITE, 1, 2);
      } else {
        queue(first_, p, bytes, GM_READ_WRITE, 1, 2, &g);
      }
      queue(first_, p, bytes, GM_READ_WRITE, 2, 3);
      queue(same_device_, p, bytes, GM_READ_WRITE, 3, 4);
      queue(other_device_, p, bytes, mode, 4, 5);
      gm_mapping page{};
      ASSERT_EQ(gm_query(p, &page), GM_OK) << gm_last_error();
      EXPECT_NE(page.flags & GM_PAGE_LEASED, 0u);
      expect_no_kernel_ran();
      g.open();
      expect_contents(p, bytes, mode == GM_READ ? 4 : 5);
      expect_kernels_were_right();
      gm_free(p);
    }
}

// The same, where the next scope shares a page, not bytes, with the first.
TEST_P(scope_order, of_scopes_that_share_a_page) {
  constexpr std::size_t half = page_size / 2 + 100;
  std::uint8_t* p = filled(2 * half, 1);
  fill_with(p + half, half, 1);
  gate g;
  queue(first_, p, half, GM_READ_WRITE, 1, 2, &g);
  queue(other_device_, p + half, half, GM_READ_WRITE, 1, 3);
  expect_no_kernel_ran();
  g.open();
  expect_kernels_were_right();
  expect_contents(p, half, 2);
  expect_contents(p + half, half, 3);
  gm_free(p);
}

// Scopes over different memory have nothing to wait for.
TEST_P(scope_order, there_is_none_between_strangers) {
  constexpr std::size_t bytes = 5 * page_size + 1;
  std::uint8_t* p = filled(bytes, 1);
  std::uint8_t* q = filled(bytes, 2);
  gate g;
  queue(first_, p, bytes, GM_READ_WRITE, 1, 3, &g);
  queue(other_device_, q, bytes, GM_READ_WRITE, 2, 4);
  ASSERT_EQ(other_device_.wait(), GM_OK) << gm_last_error();
  expect_contents(q, bytes, 4);
  EXPECT_FALSE(kernels_[0]->ran.load());
  g.open();
  expect_kernels_were_right();
  expect_contents(p, bytes, 3);
  gm_free(p);
  gm_free(q);
}

TEST_P(scope_order, behind_an_open_one_of_another_thread_begin_waits_for_its_end) {
  std::uint8_t* p = filled(block_size, 1);
  gate g;
  const open_scope mine = begin(first_, p, block_size, GM_READ_WRITE);
  std::atomic<pid_t> who{0};
  std::atomic<bool> had{false};
  std::thread other([&] {
    who.store(gettid());
    const open_scope theirs = begin(other_device_, p, block_size, GM_READ_WRITE);
    had.store(true);
    launch(theirs, 2, 3);
    end(theirs);
  });
  while (!had.load() && !(who.load() != 0 && asleep(who.load()))) std::this_thread::yield();
  EXPECT_FALSE(had.load());
  // The thread that has it open would wait for itself.
  const gm_access access{p, block_size, GM_READ_WRITE};
  gm_scope again = nullptr;
  EXPECT_EQ(gm_access_begin(first_.get(), &access, 1, &again), GM_ERROR_BUSY);
  EXPECT_STRNE(gm_last_error(), "");
  ASSERT_EQ(g.hold(first_.get()), GM_OK) << gm_last_error();
  launch(mine, 1, 2);
  EXPECT_FALSE(had.load());
  end(mine);
  other.join();  // although the stream is still held
  EXPECT_TRUE(had.load());
  expect_no_kernel_ran();
  g.open();
  expect_contents(p, block_size, 3);
  expect_kernels_were_right();
  gm_free(p);
}

// More than the device may hold: nothing moves.
TEST_P(scope_order, a_scope_that_does_not_fit_changes_nothing) {
  gm_node_info info{};
  ASSERT_EQ(gm_node_info_get(1, &info), GM_OK);
  const std::size_t bytes = info.budget_bytes + block_size;
  std::uint8_t* p = filled(bytes, 1);
  const gm_access all{p, bytes, GM_READ_WRITE};
  gm_scope scope = nullptr;
  EXPECT_EQ(gm_access_begin(first_.get(), &all, 1, &scope), GM_ERROR_NO_MEMORY);
  EXPECT_STRNE(gm_last_error(), "");
  EXPECT_EQ(stats_now().node[1].pages_in, 0u);
  EXPECT_EQ(stats_now().node[1].frames_used, 0u);
  expect_contents(p, bytes, 1);
  gm_free(p);
}

INSTANTIATE_TEST_SUITE_P(stress, scope_order, testing::ValuesIn(every_flavour(0, {tight})), flavour_name);

}  // namespace
}  // namespace gm::test
