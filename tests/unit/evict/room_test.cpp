// SPDX-License-Identifier: Apache-2.0
#include "evict/room.h"

#include <gtest/gtest.h>

#include <string>

#include "base/inject.h"
#include "migrate/host_pages.h"
#include "unit/small_vm.h"

namespace gm {
namespace {

// Device 1 with four frames over sixteen blocks.
class rooms : public test::small_vm {
 protected:
  void SetUp() override { start({.frames = 4}); }
  void start(const test::small_vm_options& how) {
    build(how);
    allocate(8 * block_bytes);
  }
  device_node& device(unsigned node = 1) const { return vm->device(node); }

  status acquire(std::uint64_t block, bool evict = true, victim_class which = victim_class::normal, unsigned node = 1) {
    lock_guard guard(device(node).admission);
    return acquire_piece(*vm, *moves, device(node), {{block}, 1}, which, evict);
  }
  status make(std::uint32_t frames) {
    lock_guard guard(device().admission);
    return make_room(*vm, *moves, device(), frames);
  }
  bool has_frame(std::uint64_t block, unsigned node = 1) const { return on({block}, node).has_frame(); }

  // Takes a frame and writes the pages there.
  void device_wrote(std::uint64_t block, page_mask pages, unsigned node = 1) {
    if (!has_frame(block, node)) ASSERT_EQ(acquire(block, true, victim_class::normal, node), status::ok);
    block_guard guard(at({block}).lock);
    ASSERT_EQ(revoke_cpu_locked(*vm, {block}, at({block}), pages), status::ok);
    make_exclusive_locked(*vm, {block}, at({block}), node, pages);
    for (unsigned page = 0; page < pages_per_block; ++page)
      if ((pages & one_page(page)) != 0) paint(device_page({block}, page, node), value(block, page));
  }
  // A clean copy of what the CPU has written, or of zeroes.
  void device_reads(std::uint64_t block, page_mask pages, unsigned node = 1) {
    if (!has_frame(block, node)) ASSERT_EQ(acquire(block, true, victim_class::normal, node), status::ok);
    move* m = moves->take(false);
    copy_plan plan;
    {
      block_guard guard(at({block}).lock);
      ASSERT_EQ(begin_move_locked(*vm, {block}, at({block}), {.destination = node, .pages = pages}, *m, plan),
                status::ok);
    }
    ASSERT_EQ(submit_move(*moves, m, plan, nullptr), status::ok);
  }
  void cpu_wrote(std::uint64_t block, page_mask pages) {
    block_guard guard(at({block}).lock);
    ASSERT_EQ(grant_zero_pages_locked(*vm, {block}, at({block}), pages), status::ok);
    for (unsigned page = 0; page < pages_per_block; ++page)
      if ((pages & one_page(page)) != 0) paint(host_page({block}, page), value(block, page));
  }
  static int value(std::uint64_t block, unsigned page) { return static_cast<int>(block * 7 + page + 1); }

  const node_counters& stats(unsigned node = 1) const { return vm->stats.node[node]; }
};

TEST_F(rooms, a_piece_gives_its_block_a_frame_and_an_address) {
  ASSERT_EQ(acquire(2, false), status::ok);
  EXPECT_TRUE(has_frame(2));
  EXPECT_EQ(on({2}, 1).address, fake(1).window_base() + offset_of(block_index{2}));
  EXPECT_EQ(device().pool.owner(on({2}, 1).frame()), block_index{2});
  EXPECT_EQ(device().pool.free_frames(), 3U);
  EXPECT_EQ(fake(1).pieces(), 1U);
}

TEST_F(rooms, nothing_is_evicted_onto_host_memory_that_the_host_works_on) {
  for (const std::uint64_t block : {0, 1, 2, 3}) device_wrote(block, 0x1);
  at({0}).leases = at({0}).host().leases = 1;
  ASSERT_EQ(acquire(4), status::ok);
  EXPECT_TRUE(has_frame(0)) << "the oldest, and spoken for";
  EXPECT_FALSE(has_frame(1));
  EXPECT_EQ(make(4), status::no_memory);
  at({0}).leases = at({0}).host().leases = 0;
  EXPECT_EQ(make(4), status::ok);
}

TEST_F(rooms, a_pin_ends_with_its_allocation) {
  for (const std::uint64_t block : {0, 1, 2, 3}) ASSERT_EQ(acquire(block), status::ok);
  on({0}, 1).pinned = 0x1;
  EXPECT_EQ(make(4), status::no_memory);
  at({0}).allocated = no_pages;  // freed, and held up by something
  EXPECT_EQ(make(4), status::ok);
  EXPECT_FALSE(has_frame(0));
  at({0}).allocated = all_pages;
  on({0}, 1).pinned = no_pages;
}

TEST_F(rooms, without_leave_to_evict_it_takes_only_free_frames) {
  for (const std::uint64_t block : {0, 1, 2, 3}) ASSERT_EQ(acquire(block, false), status::ok);
  EXPECT_EQ(acquire(4, false), status::no_memory);
  for (const std::uint64_t block : {0, 1, 2, 3}) EXPECT_TRUE(has_frame(block));
  EXPECT_FALSE(has_frame(4));
  EXPECT_EQ(stats().evictions.get(), 0U);
}

TEST_F(rooms, the_least_recently_used_gives_way) {
  for (const std::uint64_t block : {0, 1, 2, 3}) ASSERT_EQ(acquire(block), status::ok);
  device().pool.touch(on({0}, 1).frame(), victim_class::normal);
  ASSERT_EQ(acquire(4), status::ok);
  EXPECT_FALSE(has_frame(1));
  for (const std::uint64_t block : {0, 2, 3, 4}) EXPECT_TRUE(has_frame(block)) << block;
  EXPECT_EQ(stats().evictions.get(), 1U);
}

TEST_F(rooms, what_the_device_wrote_goes_home_and_nothing_else) {
  cpu_wrote(0, 0x0f);
  device_reads(0, 0x0f);
  device_wrote(0, 0x03);
  device_wrote(0, 0x30);  // never on the host
  ASSERT_EQ(make(4), status::ok);
  EXPECT_FALSE(has_frame(0));
  EXPECT_EQ(at({0}).host().valid, 0x3fU);
  for (const unsigned page : {0U, 1U, 2U, 3U, 4U, 5U}) EXPECT_TRUE(painted(host_page({0}, page), value(0, page)));
  EXPECT_EQ(on({0}, 1).valid | on({0}, 1).dirty | on({0}, 1).writable, 0U);
  EXPECT_EQ(stats().writebacks.get(), 4U);
  EXPECT_EQ(stats().writebacks_skipped.get(), 2U) << "two pages were clean";
  EXPECT_EQ(stats().evictions.get(), 1U);
  EXPECT_EQ(fake(1).copied_bytes, (4U + 4U) * page_bytes) << "four in, four home";
}

TEST_F(rooms, clean_blocks_leave_without_a_copy) {
  cpu_wrote(0, all_pages);
  device_reads(0, all_pages);
  const std::uint64_t before = fake(1).copied_bytes;
  ASSERT_EQ(make(4), status::ok);
  EXPECT_EQ(fake(1).copied_bytes, before);
  EXPECT_EQ(stats().writebacks.get(), 0U);
  EXPECT_EQ(stats().writebacks_skipped.get(), 32U);
  EXPECT_TRUE(painted(host_page({0}, 31), value(0, 31)));
}

TEST_F(rooms, zeroes_that_nobody_wrote_become_nobodys) {
  device_reads(0, 0xff);
  ASSERT_EQ(make(4), status::ok);
  EXPECT_EQ(valid_anywhere(at({0}), vm->nodes), 0U);
  EXPECT_EQ(vm->host.used(), 0U);
  EXPECT_EQ(stats().writebacks.get(), 0U);
}

TEST_F(rooms, a_page_that_another_device_holds_is_not_copied_home) {
  start({.devices = 2, .frames = 4});
  device_wrote(0, 0x1);
  device_reads(0, 0x1, 2);
  on({0}, 2).dirty = no_pages;  // whichever had the dirt, one of the two keeps it
  ASSERT_EQ(make(4), status::ok);
  EXPECT_EQ(stats().writebacks.get(), 0U);
  EXPECT_EQ(on({0}, 2).valid, 0x1U);
  EXPECT_EQ(on({0}, 2).dirty, 0x1U) << "it is the newest copy now";
  EXPECT_EQ(at({0}).backed, 0U);
}

TEST_F(rooms, leased_and_pinned_blocks_stay) {
  for (const std::uint64_t block : {0, 1, 2, 3}) device_wrote(block, 0x1);
  on({0}, 1).leases = at({0}).leases = 1;
  on({1}, 1).pinned = 0x8000;  // one page is enough
  ASSERT_EQ(make(2), status::ok);
  EXPECT_TRUE(has_frame(0));
  EXPECT_TRUE(has_frame(1));
  EXPECT_FALSE(has_frame(2));
  EXPECT_FALSE(has_frame(3));
  EXPECT_EQ(make(3), status::no_memory);
  EXPECT_TRUE(has_frame(0));
  EXPECT_TRUE(has_frame(1));
  const std::string why = last_error();
  EXPECT_NE(why.find("2 of 4 frames are free"), std::string::npos) << why;
  on({0}, 1).leases = at({0}).leases = 0;
}

TEST_F(rooms, another_devices_lease_does_not_hold_this_ones_frame) {
  start({.devices = 2, .frames = 4});
  device_reads(0, 0x1, 1);
  device_reads(0, 0x1, 2);
  on({0}, 2).leases = at({0}).leases = 1;
  ASSERT_EQ(make(4), status::ok);
  EXPECT_FALSE(has_frame(0, 1));
  EXPECT_TRUE(has_frame(0, 2));
  on({0}, 2).leases = at({0}).leases = 0;
}

TEST_F(rooms, what_cannot_suffice_evicts_nothing) {
  for (const std::uint64_t block : {0, 1, 2, 3}) device_wrote(block, 0x1);
  for (const std::uint64_t block : {1, 2, 3}) on({block}, 1).pinned = 0x1;
  EXPECT_EQ(make(2), status::no_memory);
  EXPECT_TRUE(has_frame(0));
  EXPECT_EQ(stats().evictions.get(), 0U);
  EXPECT_EQ(stats().writebacks.get(), 0U);
}

TEST_F(rooms, what_is_being_copied_may_come_free_later) {
  start({.frames = 1});
  device_wrote(0, 0x3);
  fake(1).hold = true;
  move* m = moves->take(false);
  copy_plan plan;
  {
    block_guard guard(at({0}).lock);
    ASSERT_EQ(begin_move_locked(*vm, {0}, at({0}), {.destination = host_node, .source = 1, .pages = 0x1}, *m, plan),
              status::ok);
  }
  ASSERT_EQ(submit_move(*moves, m, plan, nullptr), status::ok);
  EXPECT_EQ(make(1), status::busy) << "not: there is no room";
  EXPECT_TRUE(has_frame(0));
  fake(1).run_all();
  fake(1).hold = false;
  EXPECT_EQ(make(1), status::ok);
  EXPECT_TRUE(painted(host_page({0}, 1), value(0, 1)));
}

TEST_F(rooms, no_more_is_evicted_than_is_needed) {
  for (const std::uint64_t block : {0, 1, 2, 3}) device_wrote(block, 0x1);
  ASSERT_EQ(make(2), status::ok);
  EXPECT_EQ(stats().evictions.get(), 2U);
  ASSERT_EQ(make(2), status::ok);
  ASSERT_EQ(make(0), status::ok);
  EXPECT_EQ(stats().evictions.get(), 2U) << "there is room already";
}

TEST_F(rooms, a_write_back_that_fails_keeps_the_block_and_its_bytes) {
  device_wrote(0, 0x3);
  device_wrote(1, 0x3);
  ASSERT_EQ(acquire(2), status::ok);
  ASSERT_EQ(acquire(3), status::ok);
  fake(1).next_result = GM_ERROR_DEVICE;
  ASSERT_EQ(make(1), status::ok) << "another block gives way";
  EXPECT_TRUE(has_frame(0));
  EXPECT_EQ(on({0}, 1).valid, 0x3U);
  EXPECT_EQ(on({0}, 1).dirty, 0x3U);
  EXPECT_TRUE(painted(device_page({0}, 1, 1), value(0, 1)));
}

TEST_F(rooms, when_no_write_back_works_the_failure_is_told) {
  start({.frames = 1});
  device_wrote(0, 0x3);
  fake(1).refuse = GM_ERROR_DEVICE;
  EXPECT_EQ(acquire(1), status::device);
  EXPECT_NE(std::string(last_error()).find("the fake refuses"), std::string::npos) << last_error();
  EXPECT_TRUE(has_frame(0));
  EXPECT_EQ(on({0}, 1).dirty, 0x3U);
  EXPECT_FALSE(has_frame(1));
  EXPECT_EQ(acquire(1), status::ok) << "and the next try succeeds";
}

TEST_F(rooms, without_host_memory_for_the_write_back_there_is_no_room) {
  start({.frames = 1});
  device_wrote(0, 0x3);
  ASSERT_TRUE(vm->host.charge(vm->host.limit()));
  EXPECT_EQ(acquire(1), status::no_memory);
  EXPECT_NE(std::string(last_error()).find("GM_HOST_BUDGET"), std::string::npos) << last_error();
  EXPECT_TRUE(has_frame(0));
  EXPECT_EQ(on({0}, 1).valid, 0x3U);
  vm->host.uncharge(vm->host.limit());
  EXPECT_EQ(acquire(1), status::ok);
  EXPECT_TRUE(painted(host_page({0}, 1), value(0, 1)));
}

TEST_F(rooms, a_clean_block_behind_one_that_cannot_go_home_gives_way) {
  start({.frames = 2, .host_pages = 2});
  device_wrote(0, 0x3);
  cpu_wrote(1, 0x3);  // all that the host may hold
  device_reads(1, 0x3);
  ASSERT_EQ(acquire(2), status::ok) << last_error();
  EXPECT_TRUE(has_frame(0));
  EXPECT_FALSE(has_frame(1));
  EXPECT_TRUE(painted(host_page({1}, 1), value(1, 1)));
}

TEST_F(rooms, memory_of_a_page_written_back_is_used_again) {
  start({.frames = 1, .host_pages = 2});
  cpu_wrote(0, 0x3);
  device_reads(0, 0x3);
  device_wrote(0, 0x3);
  EXPECT_EQ(vm->host.used(), 2U) << "the budget is full, and the pages' own memory is in it";
  ASSERT_EQ(acquire(1), status::ok);
  EXPECT_TRUE(painted(host_page({0}, 0), value(0, 0)));
}

TEST_F(rooms, a_device_without_memory_evicts_and_asks_again) {
  ASSERT_EQ(acquire(0), status::ok);
  fake(1).refused_pieces = 1;  // the budget has room and the device has not
  ASSERT_EQ(acquire(1), status::ok);
  EXPECT_FALSE(has_frame(0));
  EXPECT_TRUE(has_frame(1));
  fake(1).refused_pieces = 1;
  EXPECT_EQ(acquire(2, false), status::no_memory);
  EXPECT_FALSE(has_frame(2));
  EXPECT_TRUE(has_frame(1));
  EXPECT_EQ(device().pool.free_frames(), 3U) << "the frame went back";
}

TEST_F(rooms, a_device_without_any_memory_says_so) {
  fake(1).refused_pieces = 100;
  EXPECT_EQ(acquire(0), status::no_memory);
  EXPECT_EQ(device().pool.free_frames(), 4U);
  fake(1).refused_pieces = 0;
}

TEST_F(rooms, released_pieces_go_back_once) {
  ASSERT_EQ(acquire(0), status::ok);
  release_piece(*vm, device(), {{0}, 1});
  EXPECT_FALSE(has_frame(0));
  EXPECT_EQ(on({0}, 1).address, 0U);
  EXPECT_EQ(fake(1).pieces(), 0U);
  EXPECT_EQ(device().pool.free_frames(), 4U);
  release_piece(*vm, device(), {{0}, 1});  // whoever comes second finds it gone
  EXPECT_EQ(device().pool.free_frames(), 4U);
}

TEST_F(rooms, an_unused_frame_is_given_back_only_when_nobody_has_the_block) {
  ASSERT_EQ(acquire(0), status::ok);
  ASSERT_EQ(acquire(9), status::ok);  // a block of nobody's
  release_unused_frame(*vm, device(), {0});
  EXPECT_TRUE(has_frame(0)) << "it is allocated";
  on({9}, 1).leases = at({9}).leases = 1;
  release_unused_frame(*vm, device(), {9});
  EXPECT_TRUE(has_frame(9)) << "it is leased";
  on({9}, 1).leases = at({9}).leases = 0;
  release_unused_frame(*vm, device(), {9});
  EXPECT_FALSE(has_frame(9));
  EXPECT_EQ(fake(1).pieces(), 1U);
}

TEST_F(rooms, a_piece_is_a_block_with_a_window_and_an_allocation_without) {
  extent& small = allocate(3 * page_bytes);
  extent& large = allocate(3 * block_bytes);
  const piece windowed = piece_for(device(), large, {large.first_block().value + 1});
  EXPECT_EQ(windowed.first.value, large.first_block().value + 1);
  EXPECT_EQ(windowed.blocks, 1U);
  start({.frames = 4, .window = false});
  extent& again = allocate(3 * block_bytes);
  const piece whole = piece_for(device(), again, {again.first_block().value + 1});
  EXPECT_EQ(whole.first, again.first_block());
  EXPECT_EQ(whole.blocks, 3U);
  (void)small;
}

class mirrors : public rooms {
 protected:
  void SetUp() override { start({.frames = 4, .window = false}); }
  status acquire_mirror(std::uint64_t first, std::uint32_t blocks, bool evict = true) {
    lock_guard guard(device().admission);
    return acquire_piece(*vm, *moves, device(), {{first}, blocks}, victim_class::normal, evict);
  }
};

TEST_F(mirrors, are_one_contiguous_piece) {
  ASSERT_EQ(acquire_mirror(2, 3), status::ok);
  EXPECT_EQ(fake(1).pieces(), 1U);
  for (const std::uint64_t i : {0, 1, 2}) {
    EXPECT_TRUE(has_frame(2 + i));
    EXPECT_EQ(on({2 + i}, 1).address, on({2}, 1).address + i * block_bytes);
  }
  EXPECT_EQ(device().pool.free_frames(), 1U);
}

TEST_F(mirrors, come_and_go_whole) {
  ASSERT_EQ(acquire_mirror(0, 3), status::ok);
  device_wrote(1, 0x5);
  ASSERT_EQ(acquire_mirror(4, 2), status::ok);
  for (const std::uint64_t block : {0, 1, 2}) EXPECT_FALSE(has_frame(block));
  EXPECT_TRUE(painted(host_page({1}, 2), value(1, 2)));
  EXPECT_EQ(stats().evictions.get(), 3U) << "in blocks";
  EXPECT_EQ(fake(1).pieces(), 1U);
  EXPECT_EQ(device().pool.free_frames(), 2U);
}

TEST_F(mirrors, one_leased_block_holds_all_of_it) {
  ASSERT_EQ(acquire_mirror(0, 3), status::ok);
  on({2}, 1).leases = at({2}).leases = 1;
  EXPECT_EQ(acquire_mirror(4, 2), status::no_memory);
  for (const std::uint64_t block : {0, 1, 2}) EXPECT_TRUE(has_frame(block));
  on({2}, 1).leases = at({2}).leases = 0;
}

TEST_F(mirrors, one_write_back_that_fails_keeps_all_of_it) {
  ASSERT_EQ(acquire_mirror(0, 3), status::ok);
  device_wrote(0, 0x1);
  device_wrote(2, 0x1);
  fake(1).next_result = GM_ERROR_DEVICE;
  (void)acquire_mirror(4, 2);
  // Whether or not the next round succeeded, no byte is lost and nothing is in part.
  for (const std::uint64_t block : {0, 2}) {
    if (has_frame(block))
      EXPECT_TRUE(painted(device_page({block}, 0, 1), value(block, 0)));
    else
      EXPECT_TRUE(painted(host_page({block}, 0), value(block, 0)));
  }
  EXPECT_EQ(has_frame(0), has_frame(1));
  EXPECT_EQ(has_frame(0), has_frame(2));
}

// ---- Host memory for write-backs ----------------------------------------------------------------------------------

TEST_F(rooms, memory_that_the_host_need_not_hold_makes_way_for_what_comes_home) {
  start({.frames = 4, .host_pages = 8});
  cpu_wrote(5, 0xff);
  device_wrote(5, 0xff);  // the host's pages hold nothing now
  on({5}, 1).leases = at({5}).leases = 1;
  device_wrote(0, 0x3f);
  ASSERT_EQ(make(3), status::ok) << last_error();
  EXPECT_EQ(at({0}).host().valid, 0x3fU);
  for (unsigned page = 0; page < 6; ++page) EXPECT_TRUE(painted(host_page({0}, page), value(0, page))) << page;
  on({5}, 1).leases = at({5}).leases = 0;
}

TEST_F(rooms, so_do_copies_that_stay_on_a_device) {
  start({.frames = 4, .host_pages = 8});
  cpu_wrote(5, 0xff);
  device_reads(5, 0xff);
  on({5}, 1).leases = at({5}).leases = 1;
  device_wrote(0, 0x3f);
  ASSERT_EQ(make(3), status::ok) << last_error();
  EXPECT_EQ(at({0}).host().valid, 0x3fU);
  EXPECT_EQ(count_pages(at({5}).host().valid), 2U);
  EXPECT_EQ(count_pages(on({5}, 1).dirty), 6U) << "the only copies now";
  on({5}, 1).leases = at({5}).leases = 0;
}

// Without a window a piece has several blocks: what one of them has brought home is not taken for the next.
TEST_F(rooms, a_piece_that_cannot_come_home_as_a_whole_is_refused_and_does_not_go_to_and_fro) {
  build({.frames = 4, .window = false, .host_pages = 8});
  const extent& e = allocate(2 * block_bytes);
  const std::uint64_t first = e.first_block().value;
  {
    lock_guard guard(device().admission);
    ASSERT_EQ(acquire_piece(*vm, *moves, device(), {e.first_block(), 2}, victim_class::normal, true), status::ok);
  }
  for (const std::uint64_t block : {first, first + 1}) device_wrote(block, 0x3f);
  EXPECT_EQ(make(4), status::no_memory);
  EXPECT_TRUE(has_frame(first));
  EXPECT_LE(fake(1).copied_bytes, 6 * page_bytes);
}

TEST_F(rooms, memory_held_by_a_copy_in_flight_is_a_reason_to_wait) {
  start({.devices = 2, .frames = 4, .host_pages = 8});
  device_wrote(5, 0xff, 2);
  fake(2).hold = true;
  move* m = moves->take(false);
  copy_plan plan;
  {
    block_guard guard(at({5}).lock);
    ASSERT_EQ(begin_move_locked(*vm, {5}, at({5}), {.source = 2, .pages = 0xff}, *m, plan), status::ok);
  }
  ASSERT_EQ(submit_move(*moves, m, plan, nullptr), status::ok);
  device_wrote(0, 0x3f);
  EXPECT_EQ(make(4), status::busy);
  fake(2).run_all();
  EXPECT_EQ(make(4), status::ok) << "the second device has them as well";
  EXPECT_EQ(at({0}).host().valid, 0x3fU);
}

}  // namespace
}  // namespace gm
