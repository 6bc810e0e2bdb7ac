// SPDX-License-Identifier: Apache-2.0
#include "migrate/remapping.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "unit/mapped_vm.h"

namespace gm {
namespace {

constexpr page_mask some = 0b1011;

class remappings : public test::mapped_vm {
 protected:
  void SetUp() override {
    mapped_vm::SetUp();
    cover(true);
  }
  void hold() const { fake(1).hold = true; }
  // The next unit of the map's stream.
  void step(gm_status result = GM_OK) const { fake(1).run_next(fake(1).to_map(), result); }
  std::size_t units() const { return fake(1).held_on(fake(1).to_map()); }
  static void wait_out_patience() { std::this_thread::sleep_for(std::chrono::nanoseconds(2 * patience_ns)); }
};

TEST_F(remappings, kernels_find_what_is_shown_where_it_is) {
  device_shows(some, 0b0011);
  EXPECT_EQ(entries().present, some);
  EXPECT_EQ(entries().writable, 0b0011u);
  for (unsigned page = 0; page < 5; ++page) {
    EXPECT_EQ(finds(page), (some & one_page(page)) != 0) << page;
    EXPECT_EQ(may_write(page), page < 2) << page;
    if (finds(page)) EXPECT_TRUE(painted(place(entry(page)), static_cast<int>(page) + 1)) << page;
  }
  EXPECT_EQ(busy(), 0u);
}

TEST_F(remappings, pages_are_busy_from_begin_to_end_of_showing) {
  device_shows(0, 0);
  give_frame();
  {
    block_guard guard(b().lock);
    make_exclusive_locked(*vm, here, b(), 1, some);
  }
  hold();
  ASSERT_EQ(show(some, no_pages), status::ok);
  EXPECT_EQ(busy(), some);
  EXPECT_EQ(entries().present, 0u) << "not before the words are written";
  step();
  EXPECT_EQ(busy(), 0u);
  EXPECT_EQ(entries().present, some);
}

TEST_F(remappings, words_that_fail_show_nothing) {
  device_shows(0, 0);
  {
    block_guard guard(b().lock);
    make_exclusive_locked(*vm, here, b(), 1, some);
  }
  fake(1).refuse_words = GM_ERROR_DEVICE;
  EXPECT_EQ(show(some, no_pages), status::device);
  EXPECT_EQ(entries().present | busy(), 0u);
  hold();
  ASSERT_EQ(show(some, no_pages), status::ok);
  step(GM_ERROR_DEVICE);
  EXPECT_EQ(entries().present | busy(), 0u);
  EXPECT_FALSE(finds(0));
  fake(1).hold = false;
  ASSERT_EQ(show(some, some), status::ok);
  EXPECT_EQ(entries().writable, some);
}

TEST_F(remappings, no_two_words_of_a_page_are_alike) {
  device_shows(1, 1);
  const std::uint64_t first = entry(0);
  taken result;
  ASSERT_EQ(take(1, result), status::ok);
  const std::uint64_t second = entry(0);
  ASSERT_EQ(show(1, 1), status::ok);
  const std::uint64_t third = entry(0);
  EXPECT_NE(first, second);
  EXPECT_NE(first, third);
  EXPECT_EQ(place(first), place(third));
}

TEST_F(remappings, pages_that_nobody_holds_are_gone_when_their_pins_are_read) {
  device_shows(some, some);
  hold();
  taken result;
  ASSERT_EQ(take(some, result), status::ok);
  EXPECT_EQ(busy(), some);
  EXPECT_EQ(entries().present | entries().writable, 0u) << "nobody counts on them from now on";
  EXPECT_TRUE(finds(0)) << "the word is still to be written";
  step();
  EXPECT_FALSE(finds(0));
  EXPECT_EQ(result.told, 0);
  step();
  EXPECT_EQ(result.told, 1);
  EXPECT_TRUE(result.gone);
  EXPECT_EQ(busy(), 0u);
  EXPECT_EQ(on(here, 1).valid, some) << "the device keeps its copies";
  EXPECT_EQ(units(), 0u);
}

TEST_F(remappings, a_pinned_page_is_waited_for) {
  device_shows(some, some);
  pins(1) = 1;
  pins(2) = 1;  // of another page
  hold();
  taken result;
  ASSERT_EQ(take(some, result), status::ok);
  step();
  for (int i = 0; i < 5 && result.told == 0; ++i) {
    if (i == 3) pins(1) = 0;
    step();
  }
  // On a machine that stands still for longer than patience lasts it is given up: both are right.
  EXPECT_EQ(result.told + static_cast<int>(units()), 1);
  fake(1).run_all();
  EXPECT_EQ(result.told, 1);
  EXPECT_EQ(result.gone, !finds(0));
  pins(2) = 0;
}

TEST_F(remappings, a_page_that_is_held_for_long_stays_as_it_was) {
  device_shows(some, 0b0001);
  const std::uint64_t before = entry(0);
  pins(3) = 2;
  hold();
  taken result;
  ASSERT_EQ(take(some, result), status::ok);
  step();
  wait_out_patience();
  step();
  EXPECT_EQ(result.told, 0) << "not before kernels find the pages again";
  EXPECT_EQ(units(), 1u);
  step();
  EXPECT_EQ(result.told, 1);
  EXPECT_FALSE(result.gone);
  EXPECT_EQ(entries().present, some);
  EXPECT_EQ(entries().writable, 0b0001u);
  EXPECT_TRUE(finds(3));
  EXPECT_TRUE(may_write(0));
  EXPECT_NE(entry(0), before);
  EXPECT_EQ(busy(), 0u);
  pins(3) = 0;
}

TEST_F(remappings, pages_that_cannot_be_shown_again_stay_hidden) {
  device_shows(some, some);
  pins(0) = 1;
  hold();
  taken result;
  ASSERT_EQ(take(some, result), status::ok);
  step();
  wait_out_patience();
  fake(1).refuse_words = GM_ERROR_DEVICE;
  step();
  EXPECT_EQ(result.told, 1);
  EXPECT_FALSE(result.gone);
  EXPECT_EQ(entries().present | busy(), 0u);
  EXPECT_FALSE(finds(0));
  pins(0) = 0;
}

TEST_F(remappings, a_refused_word_takes_nothing) {
  device_shows(some, 0b0010);
  const std::uint64_t before = entry(0);
  fake(1).refuse_words = GM_ERROR_DEVICE;
  taken result;
  EXPECT_EQ(take(some, result), status::device);
  EXPECT_EQ(result.told, 1);
  EXPECT_FALSE(result.gone);
  EXPECT_EQ(entry(0), before);
  EXPECT_EQ(entries().present, some);
  EXPECT_EQ(entries().writable, 0b0010u);
  EXPECT_EQ(busy(), 0u);
}

TEST_F(remappings, a_refused_reading_of_pins_shows_the_pages_again) {
  device_shows(some, some);
  hold();
  // The word goes through, what follows does not.
  taken result;
  fake(1).hold = false;
  fake(1).refuse_next_but = 1;
  EXPECT_NE(take(some, result), status::ok);
  EXPECT_EQ(result.told, 1);
  EXPECT_FALSE(result.gone);
  EXPECT_TRUE(finds(0));
  EXPECT_EQ(entries().writable, some);
}

TEST_F(remappings, pins_that_cannot_be_read_are_read_again_and_then_of_a_lost_device) {
  device_shows(some, some);
  hold();
  taken result;
  ASSERT_EQ(take(some, result), status::ok);
  step();
  step(GM_ERROR_DEVICE);
  EXPECT_EQ(result.told, 0);
  pins(0) = 1;
  step();  // read, and held
  pins(0) = 0;
  step(GM_ERROR_DEVICE);
  step(GM_ERROR_DEVICE);
  EXPECT_EQ(result.told, 0) << "only three in a row count";
  step(GM_ERROR_DEVICE);
  EXPECT_EQ(result.told, 1);
  EXPECT_TRUE(result.gone);
}

TEST_F(remappings, a_cpu_that_wants_to_write_gets_the_page_before_anybody_else) {
  device_shows(some, some);
  fake(1).hold = false;
  taken result;
  ASSERT_EQ(take(1, result, cpu_wish::write), status::ok);
  EXPECT_TRUE(result.gone);
  EXPECT_EQ(kernel->page_at(first_page(here)), test::mapped::writable);
  EXPECT_TRUE(painted(host_page(here, 0), 1));
  EXPECT_EQ(on(here, 1).valid, some & ~1u);
  EXPECT_GT(entries().hold_until_ns, 0u);
}

TEST_F(remappings, a_cpu_that_wants_to_read_shares_the_page) {
  device_shows(some, some);
  taken result;
  ASSERT_EQ(take(2, result, cpu_wish::read), status::ok);
  EXPECT_EQ(kernel->page_at({first_page(here).value + 1}), test::mapped::read_only);
  EXPECT_EQ(on(here, 1).valid, some);
  EXPECT_EQ(on(here, 1).writable & 2u, 0u);
  EXPECT_FALSE(finds(1));
}

TEST_F(remappings, what_no_kernel_can_touch_is_flushed_by_the_next_scope) {
  device_shows(some, some);
  cover(false);
  {
    block_guard guard(b().lock);
    forget_mappings_locked(*vm, 1, here, 0b0001);
    map->renew_locked(here, 0b10000);
  }
  EXPECT_EQ(entries().present, some & ~1u);
  EXPECT_TRUE(finds(0)) << "stale until kernels may look";
  const std::uint64_t other = entry(1);
  const std::uint64_t absent = entry(4);
  cover(true);
  EXPECT_FALSE(finds(0));
  EXPECT_EQ(entry(1), other);
  EXPECT_NE(entry(4), absent) << "what was asked for then is asked for again";
  EXPECT_FALSE(finds(4));
  EXPECT_EQ(entries().stale, 0u);
}

TEST_F(remappings, a_flush_that_is_refused_is_for_the_next_scope) {
  device_shows(some, some);
  cover(false);
  {
    block_guard guard(b().lock);
    forget_mappings_locked(*vm, 1, here, some);
  }
  fake(1).refuse_words = GM_ERROR_DEVICE;
  device::fence ready;
  EXPECT_EQ(map->prepare_kernels(1, ready), status::device);
  EXPECT_EQ(entries().stale, some);
  EXPECT_TRUE(finds(0));
  ASSERT_EQ(map->prepare_kernels(1, ready), status::ok);
  EXPECT_FALSE(finds(0));
}

// A move that leaves the page to another node: before it is recorded a scope of kernels may begin.
TEST_F(remappings, a_move_that_takes_pages_away_forgets_them_when_it_begins) {
  device_shows(some, no_pages);
  cover(false);
  hold();
  move* m = moves->take(false);
  copy_plan plan;
  {
    block_guard guard(b().lock);
    ASSERT_EQ(begin_move_locked(*vm, here, b(),
                                {.destination = host_node, .source = 1, .pages = some, .exclusive = some}, *m, plan),
              status::ok);
  }
  ASSERT_EQ(submit_move(*moves, m, plan, nullptr), status::ok);
  fake(1).hold = false;
  cover(true);
  EXPECT_FALSE(finds(0));
  fake(1).run_all();
  EXPECT_EQ(on(here, 1).valid, 0u);
}

TEST_F(remappings, frames_that_change_show_elsewhere) {
  device_shows(some, some);
  const std::byte* const before = place(entry(0));
  taken result;
  ASSERT_EQ(take(some, result), status::ok);
  {
    lock_guard guard(vm->device(1).admission);
    EXPECT_EQ(evict_some(*vm, *moves, vm->device(1), 1), 1u);
  }
  EXPECT_EQ(entries().place_plus_one, 0u) << "whoever shows pages asks for the place again";
  EXPECT_EQ(b().host().valid, some);
  EXPECT_NE(before, nullptr);
}

TEST_F(remappings, records_come_back) {
  device_shows(1, 1);
  for (unsigned i = 0; i < 3 * access_map::remappings_max; ++i) {
    taken result;
    ASSERT_EQ(take(1, result), status::ok);
    ASSERT_EQ(show(1, 1), status::ok);
  }
  std::vector<remapping*> all;
  while (remapping* r = map->take_remapping()) all.push_back(r);
  EXPECT_EQ(all.size(), access_map::remappings_max);
  {
    block_guard guard(b().lock);
    EXPECT_EQ(begin_showing_locked(*vm, *map, here, b(), {.pages = 1}), nullptr);
  }
  EXPECT_EQ(busy(), 0u);
  for (remapping* r : all) map->give_back(r);
}

}  // namespace
}  // namespace gm
