// SPDX-License-Identifier: Apache-2.0
#include "evict/reclaim.h"

#include <gtest/gtest.h>

#include "base/inject.h"
#include "evict/room.h"
#include "migrate/host_pages.h"
#include "unit/memory_in_core.h"
#include "unit/small_vm.h"

namespace gm {
namespace {

class reclaiming : public test::small_vm {
 protected:
  void cpu_wrote(block_index index, page_mask pages) {
    block_guard guard(at(index).lock);
    ASSERT_EQ(grant_zero_pages_locked(*vm, index, at(index), pages), status::ok);
    for (unsigned page = 0; page < pages_per_block; ++page)
      if ((pages & one_page(page)) != 0) paint(host_page(index, page), int(page) + 1);
  }
  void give_frame(block_index index, unsigned node = 1) {
    if (on(index, node).has_frame()) return;
    lock_guard guard(vm->device(node).admission);
    ASSERT_EQ(acquire_piece(*vm, *moves, vm->device(node), {index, 1}, victim_class::normal, false), status::ok);
  }
  status start_move(block_index index, const move_request& request) {
    move* m = moves->take(false);
    copy_plan plan;
    {
      block_guard guard(at(index).lock);
      if (const status s = begin_move_locked(*vm, index, at(index), request, *m, plan); s != status::ok) return s;
    }
    return submit_move(*moves, m, plan, nullptr);
  }
  void device_reads(block_index index, page_mask pages, unsigned node = 1) {
    give_frame(index, node);
    ASSERT_EQ(start_move(index, {.destination = node, .pages = pages}), status::ok);
  }
  void device_wrote(block_index index, page_mask pages, unsigned node = 1) {
    give_frame(index, node);
    block_guard guard(at(index).lock);
    ASSERT_EQ(revoke_cpu_locked(*vm, index, at(index), pages), status::ok);
    make_exclusive_locked(*vm, index, at(index), node, pages);
  }
  std::uint64_t os_pages() const { return test::os_pages_in_core(vm->memory, {0, vm->memory.bytes()}); }
};

TEST_F(reclaiming, a_freed_extent_leaves_nothing_anywhere) {
  extent& e = allocate(2 * block_bytes);
  const block_index first = e.first_block();
  const block_index second{first.value + 1};
  cpu_wrote(first, all_pages);
  device_reads(first, 0xff);
  device_wrote(second, 0xff00);
  at(second).willneed = 0x1;
  on(second, 1).pinned = 0x2;
  ASSERT_EQ(vm->advices.update({e.first, {e.first.value + e.pages}}, [](advice& a) { a.cold = true; }), status::ok);
  ASSERT_TRUE(retire(e));
  reclaim(*vm, e);
  EXPECT_EQ(os_pages(), 0U);
  EXPECT_EQ(vm->host.used(), 0U);
  EXPECT_EQ(vm->device(1).pool.free_frames(), 8U);
  EXPECT_EQ(fake(1).pieces(), 0U);
  EXPECT_EQ(vm->advices.intervals(), 0U);
  for (const block_index index : {first, second}) {
    const block& b = at(index);
    EXPECT_EQ(b.backed | b.readable | b.willneed | b.parked | valid_anywhere(b, 2), 0U);
    EXPECT_EQ(b.node(0).writable | b.node(1).writable | b.node(1).dirty | b.node(1).pinned, 0U);
    EXPECT_FALSE(b.node(1).has_frame());
  }
  EXPECT_EQ(vm->deferred_frees.load(), 0U);
  EXPECT_EQ(vm->extents.allocate(15 * block_bytes, 16)->first_block(), block_index{0}) << "the addresses are free";
}

TEST_F(reclaiming, a_neighbour_in_the_block_keeps_everything) {
  extent& gone = allocate(4 * page_bytes);
  extent& stays = allocate(4 * page_bytes);
  const block_index index = gone.first_block();
  ASSERT_EQ(stays.first_block(), index);
  cpu_wrote(index, 0xff);
  device_reads(index, 0xff);
  ASSERT_TRUE(retire(gone));
  reclaim(*vm, gone);
  EXPECT_EQ(at(index).backed, 0xf0U);
  EXPECT_EQ(at(index).host().valid, 0xf0U);
  EXPECT_EQ(on(index, 1).valid, 0xf0U);
  EXPECT_TRUE(on(index, 1).has_frame()) << "its memory there is still somebody's";
  EXPECT_TRUE(painted(host_page(index, 5), 6));
  EXPECT_TRUE(painted(device_page(index, 7, 1), 8));
  ASSERT_TRUE(retire(stays));
  reclaim(*vm, stays);
  EXPECT_FALSE(on(index, 1).has_frame());
  EXPECT_EQ(os_pages(), 0U);
}

TEST_F(reclaiming, a_move_in_flight_holds_it_up_until_its_end) {
  extent& e = allocate(block_bytes);
  const block_index index = e.first_block();
  cpu_wrote(index, 0xff);
  give_frame(index);
  fake(1).hold = true;
  ASSERT_EQ(start_move(index, {.destination = 1, .pages = 0x0f}), status::ok);
  ASSERT_TRUE(retire(e));
  reclaim(*vm, e);
  EXPECT_EQ(vm->deferred_frees.load(), 1U);
  EXPECT_EQ(at(index).backed, 0xffU) << "the copy's source stands";
  EXPECT_TRUE(on(index, 1).has_frame());
  retry_deferred_frees(*vm);
  EXPECT_EQ(vm->deferred_frees.load(), 1U) << "trying again does not help while it copies";
  fake(1).run_all();
  EXPECT_EQ(vm->deferred_frees.load(), 0U);
  EXPECT_EQ(os_pages(), 0U);
  EXPECT_FALSE(on(index, 1).has_frame());
}

TEST_F(reclaiming, a_move_of_other_pages_in_the_block_does_not) {
  extent& gone = allocate(4 * page_bytes);
  extent& stays = allocate(4 * page_bytes);
  const block_index index = gone.first_block();
  ASSERT_EQ(stays.first_block(), index);
  cpu_wrote(index, 0xff);
  give_frame(index);
  fake(1).hold = true;
  ASSERT_EQ(start_move(index, {.destination = 1, .pages = 0xf0}), status::ok);
  ASSERT_TRUE(retire(gone));
  reclaim(*vm, gone);
  EXPECT_EQ(vm->deferred_frees.load(), 0U);
  EXPECT_EQ(at(index).backed, 0xf0U);
  fake(1).run_all();
}

TEST_F(reclaiming, a_frame_stays_while_a_move_of_freed_pages_uses_it) {
  build({.devices = 2});
  extent& gone = allocate(4 * page_bytes);
  extent& last = allocate(4 * page_bytes);
  const block_index index = gone.first_block();
  device_wrote(index, 0x0f, 2);
  give_frame(index, 1);
  fake(1).hold = true;
  ASSERT_EQ(start_move(index, {.destination = 1, .pages = 0x0f}), status::ok);  // from device 2
  ASSERT_TRUE(retire(gone));
  reclaim(*vm, gone);
  ASSERT_TRUE(retire(last));
  reclaim(*vm, last);  // nobody's block now, but for the copy
  EXPECT_TRUE(on(index, 2).has_frame()) << "the copy's source";
  EXPECT_TRUE(on(index, 1).has_frame()) << "the copy's destination";
  fake(1).run_all();
  EXPECT_EQ(vm->deferred_frees.load(), 0U);
  EXPECT_FALSE(on(index, 1).has_frame());
  EXPECT_FALSE(on(index, 2).has_frame());
}

TEST_F(reclaiming, memory_that_the_system_does_not_take_back_is_offered_again) {
  extent& e = allocate(block_bytes);
  const block_index index = e.first_block();
  cpu_wrote(index, 0xf);
  ASSERT_TRUE(retire(e));
  inject::fail_nth(inject::point::punch_pages, 1);
  testing::internal::CaptureStderr();
  reclaim(*vm, e);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("gmem: warning: "), std::string::npos) << said;
  retry_deferred_frees(*vm);
  EXPECT_EQ(vm->deferred_frees.load(), 0U);
  EXPECT_EQ(os_pages(), 0U);
}

TEST_F(reclaiming, the_next_free_tries_what_was_put_aside) {
  extent& held = allocate(block_bytes);
  extent& other = allocate(block_bytes);
  const block_index index = held.first_block();
  cpu_wrote(index, 0x1);
  at(index).busy = 0x1;
  ASSERT_TRUE(retire(held));
  reclaim(*vm, held);
  ASSERT_EQ(vm->deferred_frees.load(), 1U);
  at(index).busy = 0;
  ASSERT_TRUE(retire(other));
  reclaim(*vm, other);
  EXPECT_EQ(vm->deferred_frees.load(), 0U);
  EXPECT_EQ(os_pages(), 0U);
}

TEST_F(reclaiming, frees_of_another_runtime_are_left_alone) {
  extent& mine = allocate(block_bytes);
  at(mine.first_block()).busy = 0x1;
  ASSERT_TRUE(retire(mine));
  reclaim(*vm, mine);
  vm_object other;
  other.cpu = kernel.get();
  other.deferred_frees = 1;
  retry_deferred_frees(other);
  EXPECT_EQ(vm->deferred_frees.load(), 1U);
  at(mine.first_block()).busy = 0;
  retry_deferred_frees(*vm);
  EXPECT_EQ(vm->deferred_frees.load(), 0U);
}

TEST_F(reclaiming, a_mirror_goes_back_in_one_piece) {
  build({.window = false});
  extent& e = allocate(3 * block_bytes);
  {
    lock_guard guard(vm->device(1).admission);
    ASSERT_EQ(acquire_piece(*vm, *moves, vm->device(1), {e.first_block(), 3}, victim_class::normal, false), status::ok);
  }
  ASSERT_TRUE(retire(e));
  reclaim(*vm, e);
  EXPECT_EQ(fake(1).pieces(), 0U);
  EXPECT_EQ(vm->device(1).pool.free_frames(), 8U);
}

// ---- Room in the host's budget ------------------------------------------------------------------------------------

TEST_F(reclaiming, memory_without_contents_goes_first) {
  const block_index stale = allocate(block_bytes).first_block();
  const block_index copied = allocate(block_bytes).first_block();
  cpu_wrote(stale, 0xf);
  device_wrote(stale, 0xf);  // the host's pages hold nothing now
  cpu_wrote(copied, 0xf);
  device_reads(copied, 0xf);
  EXPECT_EQ(reclaim_host_pages(*vm, 4), 4U);
  EXPECT_EQ(at(stale).backed, 0U);
  EXPECT_EQ(at(copied).backed, 0xfU);
  EXPECT_EQ(vm->host.used(), 4U);
}

TEST_F(reclaiming, then_copies_that_a_device_holds_too_and_those_become_dirty) {
  const block_index index = allocate(block_bytes).first_block();
  cpu_wrote(index, 0xff);
  device_reads(index, 0x0f);
  EXPECT_EQ(reclaim_host_pages(*vm, 100), 4U) << "all there is";
  EXPECT_EQ(at(index).host().valid, 0xf0U) << "the host's own stay";
  EXPECT_EQ(on(index, 1).valid, 0x0fU);
  EXPECT_EQ(on(index, 1).dirty, 0x0fU) << "or an eviction would lose them";
  EXPECT_TRUE(painted(device_page(index, 2, 1), 3));
}

TEST_F(reclaiming, of_two_devices_one_keeps_the_only_newest_copy) {
  build({.devices = 2});
  const block_index index = allocate(block_bytes).first_block();
  cpu_wrote(index, 0x1);
  device_reads(index, 0x1, 1);
  device_reads(index, 0x1, 2);
  EXPECT_EQ(reclaim_host_pages(*vm, 1), 1U);
  EXPECT_NE(on(index, 1).dirty | on(index, 2).dirty, 0U);
  // Whichever goes first, the bytes come home from the last.
  for (const unsigned node : {2U, 1U}) {
    lock_guard guard(vm->device(node).admission);
    ASSERT_EQ(make_room(*vm, *moves, vm->device(node), 8), status::ok);
  }
  EXPECT_TRUE(painted(host_page(index, 0), 1));
}

TEST_F(reclaiming, leased_pinned_and_busy_pages_keep_their_memory) {
  const block_index leased = allocate(block_bytes).first_block();
  const block_index pinned = allocate(block_bytes).first_block();
  const block_index busy = allocate(block_bytes).first_block();
  for (const block_index index : {leased, pinned, busy}) {
    cpu_wrote(index, 0x3);
    device_reads(index, 0x3);
  }
  leased_range range{{offset_of(leased), offset_of(leased) + page_bytes}, GM_READ};
  lease call;
  call.ranges = {&range, 1};
  call.node = host_node;
  lease_order order;
  ASSERT_EQ(vm->leases.begin_or_wait(call, conflicts::order, order), status::ok);
  at(leased).host().leases = at(leased).leases = 1;
  at(pinned).host().pinned = 0x1;
  at(busy).busy = 0x2;
  EXPECT_EQ(reclaim_host_pages(*vm, 100), 3U);
  EXPECT_EQ(at(leased).backed, 0x1U);
  EXPECT_EQ(at(pinned).backed, 0x1U);
  EXPECT_EQ(at(busy).backed, 0x2U);
  vm->leases.remove(call);
  at(leased).host().leases = at(leased).leases = 0;
  at(busy).busy = 0;
}

TEST_F(reclaiming, the_blocks_give_in_turn) {
  const block_index first = allocate(block_bytes).first_block();
  const block_index second = allocate(block_bytes).first_block();
  for (const block_index index : {first, second}) {
    cpu_wrote(index, 0x7);
    device_reads(index, 0x7);
  }
  EXPECT_EQ(reclaim_host_pages(*vm, 1), 1U);
  EXPECT_EQ(count_pages(at(first).backed), 2U) << "no more than asked for";
  EXPECT_EQ(reclaim_host_pages(*vm, 1), 1U);
  EXPECT_EQ(count_pages(at(second).backed), 2U) << "the other one's turn";
  EXPECT_EQ(reclaim_host_pages(*vm, 100), 4U) << "all the way round";
}

TEST_F(reclaiming, what_is_being_written_home_from_a_device_is_not_taken_for_it) {
  build({.devices = 2});
  const block_index going = allocate(block_bytes).first_block();
  const block_index staying = allocate(block_bytes).first_block();
  for (const block_index index : {going, staying}) {
    cpu_wrote(index, 0x3);
    device_reads(index, 0x3);
  }
  device_reads(going, 0x1, 2);
  on(staying, 1).leases = at(staying).leases = 1;
  EXPECT_EQ(reclaim_host_pages(*vm, 100, 1), 3U);
  EXPECT_EQ(at(going).backed, 0x2U) << "the page that the other device has as well may go";
  EXPECT_EQ(at(staying).backed, 0U) << "this block is not evicted";
  on(staying, 1).leases = at(staying).leases = 0;
}

TEST_F(reclaiming, what_gives_memory_back_raises_the_count_of_who_waits_for_some) {
  const block_index index = allocate(block_bytes).first_block();
  cpu_wrote(index, 0x3);
  device_reads(index, 0x3);
  const std::uint32_t seen = vm->starved.now();
  EXPECT_EQ(reclaim_host_pages(*vm, 1), 1U);
  EXPECT_NE(vm->starved.now(), seen);
}

TEST_F(reclaiming, memory_is_coming_while_a_copy_of_the_runtime_s_own_is_in_flight) {
  const block_index index = allocate(block_bytes).first_block();
  EXPECT_FALSE(host_memory_is_coming(*vm, true));
  fake(1).hold = true;
  cpu_wrote(index, 0x1);
  device_reads(index, 0x1);
  EXPECT_TRUE(host_memory_is_coming(*vm, false));
  const std::uint32_t seen = vm->starved.now();
  fake(1).run_all();
  EXPECT_FALSE(host_memory_is_coming(*vm, true));
  EXPECT_NE(vm->starved.now(), seen);
}

TEST_F(reclaiming, with_nothing_to_give_there_is_nothing) {
  const block_index index = allocate(block_bytes).first_block();
  cpu_wrote(index, all_pages);
  EXPECT_EQ(reclaim_host_pages(*vm, 10), 0U);
  EXPECT_EQ(at(index).host().valid, all_pages);
}

TEST_F(reclaiming, a_system_that_does_not_take_them_leaves_them) {
  const block_index index = allocate(block_bytes).first_block();
  cpu_wrote(index, 0x1);
  device_reads(index, 0x1);
  inject::fail_nth(inject::point::punch_pages, 1);
  EXPECT_EQ(reclaim_host_pages(*vm, 1), 0U);
  EXPECT_EQ(at(index).host().valid, 0x1U);
  EXPECT_EQ(on(index, 1).dirty, 0U);
}

}  // namespace
}  // namespace gm
