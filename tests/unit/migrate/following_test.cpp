// SPDX-License-Identifier: Apache-2.0
// following_test.cpp - moves of pages that others still move: devices hold their copies until the test lets them go.
#include <gtest/gtest.h>

#include <vector>

#include "evict/room.h"
#include "migrate/host_pages.h"
#include "migrate/move.h"
#include "unit/small_vm.h"

namespace gm {
namespace {

using test::mapped;

constexpr block_index here{2};

class following_moves : public test::small_vm {
 protected:
  void SetUp() override {
    build({.devices = 3});
    allocate(8 * block_bytes);
    for (unsigned n = 1; n < vm->nodes; ++n) {
      ASSERT_EQ(acquire_piece(*vm, *moves, vm->device(n), {here, 1}, victim_class::normal, false), status::ok);
      fake(n).hold = true;
    }
  }
  block& b() const { return at(here); }

  // Pages that the CPU wrote, and that device 1 then took: painted 10.
  void device_1_has(page_mask pages) {
    block_guard guard(b().lock);
    make_exclusive_locked(*vm, here, b(), 1, pages);
    for (unsigned page = 0; page < pages_per_block; ++page)
      if ((pages & one_page(page)) != 0) paint(device_page(here, page, 1), 10);
  }

  static void note(void* self, const move& m, status result) {
    static_cast<following_moves*>(self)->ended.emplace_back(m.destination, result);
  }
  status go(move_request request) {
    request.done = note;
    request.owner = this;
    if (request.follows) {
      request.stream = fake(request.destination != host_node ? request.destination : request.source).to_device();
      request.api = test::fake_device::table();
    }
    move* m = moves->take(false);
    copy_plan plan;
    {
      block_guard guard(b().lock);
      if (const status s = begin_move_locked(*vm, here, b(), request, *m, plan); s != status::ok) {
        moves->give_back(m);
        return s;
      }
    }
    return submit_move(*moves, m, plan, nullptr);
  }

  std::vector<std::pair<unsigned, status>> ended;
};

TEST_F(following_moves, pages_go_from_device_to_device_to_device) {
  device_1_has(0x3);
  ASSERT_EQ(go({.destination = 2, .pages = 0x3, .exclusive = 0x3}), status::ok);
  ASSERT_EQ(go({.destination = 3, .source = 2, .pages = 0x3, .exclusive = 0x1, .follows = true}), status::ok);
  EXPECT_EQ(b().busy.load(), 0x3U);
  EXPECT_EQ(vm->moves_in_flight.load(), 2U);
  ASSERT_EQ(fake(3).awaited.size(), 1U) << "behind the first";
  expect_valid(false);
  fake(2).run_all();
  EXPECT_EQ(on(here, 2).valid, 0x3U) << "recorded";
  EXPECT_EQ(b().busy.load(), 0x3U) << "and not yet at rest";
  fake(3).run_all();
  EXPECT_EQ(b().busy.load(), 0U);
  EXPECT_EQ(on(here, 1).valid, 0U);
  EXPECT_EQ(on(here, 2).valid, 0x2U);
  EXPECT_EQ(on(here, 2).writable, 0U) << "two have page 1 now";
  EXPECT_EQ(on(here, 3).valid, 0x3U);
  EXPECT_EQ(on(here, 3).writable, 0x1U);
  EXPECT_EQ(on(here, 3).dirty, 0x3U) << "newer than what the host has, both";
  EXPECT_TRUE(painted(device_page(here, 0, 3), 10));
  EXPECT_TRUE(painted(device_page(here, 1, 3), 10));
  EXPECT_EQ(vm->stats.node[2].pages_in.get(), 2U);
  EXPECT_EQ(vm->stats.node[2].pages_out.get(), 2U);
  EXPECT_EQ(vm->stats.node[3].pages_in.get(), 2U);
}

TEST_F(following_moves, and_back_to_where_they_came_from) {
  device_1_has(0x1);
  ASSERT_EQ(go({.destination = 2, .pages = 0x1, .exclusive = 0x1}), status::ok);
  ASSERT_EQ(go({.destination = 1, .source = 2, .pages = 0x1, .exclusive = 0x1, .follows = true}), status::ok);
  fake(2).run_all();
  paint(device_page(here, 0, 2), 20);  // a kernel there
  fake(1).run_all();
  EXPECT_EQ(on(here, 1).valid, 0x1U);
  EXPECT_EQ(on(here, 2).valid, 0U);
  EXPECT_TRUE(painted(device_page(here, 0, 1), 20));
}

TEST_F(following_moves, when_the_one_ahead_fails_it_fails_and_its_destination_keeps_what_it_had) {
  device_1_has(0x1);
  ASSERT_EQ(go({.destination = 2, .pages = 0x1, .exclusive = 0x1}), status::ok);
  ASSERT_EQ(go({.destination = 1, .source = 2, .pages = 0x1, .exclusive = 0x1, .follows = true}), status::ok);
  paint(device_page(here, 0, 2), 99);  // what the frame happens to hold
  fake(2).run_all(GM_ERROR_DEVICE);
  fake(1).run_all();
  ASSERT_EQ(ended.size(), 2U);
  EXPECT_EQ(ended[0], (std::pair{2U, status::device}));
  EXPECT_EQ(ended[1], (std::pair{1U, status::device})) << "asked before its first copy";
  EXPECT_EQ(on(here, 1).valid, 0x1U);
  EXPECT_TRUE(painted(device_page(here, 0, 1), 10)) << "nothing was copied over it";
  EXPECT_EQ(b().busy.load(), 0U);
}

TEST_F(following_moves, home_the_cpu_gets_them_when_the_last_has_ended) {
  device_1_has(0x3);
  ASSERT_EQ(go({.destination = host_node, .source = 1, .pages = 0x3, .grant = 0x3}), status::ok);
  ASSERT_EQ(go({.destination = 2, .source = host_node, .pages = 0x1, .exclusive = 0x1, .follows = true}), status::ok);
  b().parked = 0x3;
  kernel->forget_wakes();
  fake(1).run_all();
  EXPECT_EQ(b().readable, 0x2U) << "page 0 goes on to device 2";
  EXPECT_EQ(b().parked, 0x1U);
  EXPECT_EQ(kernel->page_at(first_page(here)), mapped::absent);
  fake(2).run_all();
  EXPECT_EQ(b().parked, 0U);
  EXPECT_TRUE(kernel->woke(offset_of(here)));
  EXPECT_EQ(b().host().valid, 0x2U);
  EXPECT_EQ(on(here, 2).valid, 0x1U);
  EXPECT_TRUE(painted(device_page(here, 0, 2), 10));
}

TEST_F(following_moves, to_the_host_memory_is_backed_at_once) {
  device_1_has(0x1);
  ASSERT_EQ(go({.destination = 2, .pages = 0x1, .exclusive = 0x1}), status::ok);
  ASSERT_EQ(go({.destination = host_node, .source = 2, .pages = 0x1, .grant = 0x1, .follows = true}), status::ok);
  EXPECT_EQ(b().backed, 0x1U);
  fake(2).run_all();
  EXPECT_EQ(b().host().valid, 0x1U);
  EXPECT_EQ(b().readable, 0x1U);
  EXPECT_EQ(b().host().writable | on(here, 2).writable | on(here, 2).dirty, 0U);
  EXPECT_TRUE(painted(host_page(here, 0), 10));
}

TEST_F(following_moves, pages_that_are_on_their_way_are_waited_for_and_not_copied_again) {
  device_1_has(0x1);
  ASSERT_EQ(go({.destination = 2, .pages = 0x1}), status::ok);
  const std::uint64_t copied = fake(2).copied_bytes;
  ASSERT_EQ(go({.destination = 2, .source = 2, .pages = 0x1, .exclusive = 0x1, .follows = true}), status::ok);
  EXPECT_EQ(fake(2).copied_bytes, copied);
  fake(2).run_all();
  EXPECT_EQ(on(here, 2).valid, 0x1U);
  EXPECT_EQ(on(here, 2).writable, 0x1U);
  EXPECT_EQ(on(here, 1).valid, 0U);
  EXPECT_EQ(vm->stats.node[2].pages_in.get(), 1U);
}

TEST_F(following_moves, what_is_overwritten_changes_owner_even_if_it_never_arrived) {
  device_1_has(0x3);
  ASSERT_EQ(go({.destination = 2, .pages = 0x3, .exclusive = 0x3}), status::ok);
  ASSERT_EQ(go({.destination = 3, .source = 3, .pages = 0x1, .exclusive = 0x1, .overwritten = 0x1, .follows = true}),
            status::ok);
  EXPECT_EQ(fake(3).copied_bytes, 0U);
  fake(2).run_all(GM_ERROR_DEVICE);
  fake(3).run_all();
  EXPECT_EQ(ended[1].second, status::ok);
  EXPECT_EQ(on(here, 3).valid, 0x1U);
  EXPECT_EQ(on(here, 1).valid, 0x2U);
  EXPECT_EQ(on(here, 2).valid, 0U);
}

TEST_F(following_moves, a_refused_wait_cancels_it_and_leaves_the_one_ahead) {
  device_1_has(0x1);
  ASSERT_EQ(go({.destination = 2, .pages = 0x1}), status::ok);
  fake(3).refuse_wait = GM_ERROR_DEVICE;
  EXPECT_EQ(go({.destination = 3, .source = 1, .pages = 0x1, .follows = true}), status::device);
  EXPECT_EQ(ended, (std::vector<std::pair<unsigned, status>>{{3U, status::device}}));
  EXPECT_EQ(b().busy.load(), 0x1U);
  EXPECT_EQ(fake(3).held(), 0U);
  fake(2).run_all();
  EXPECT_EQ(on(here, 2).valid, 0x1U);
  EXPECT_EQ(b().busy.load(), 0U);
}

TEST_F(following_moves, they_can_follow_what_has_been_submitted_on_the_same_backend) {
  const device::backend_table& api = *test::fake_device::table();
  device_1_has(0x1);
  device::backend_table other{};
  move* m = moves->take(false);
  copy_plan plan;
  {
    block_guard guard(b().lock);
    EXPECT_EQ(may_follow_locked(b(), all_pages, api), following::possible);
    ASSERT_EQ(begin_move_locked(*vm, here, b(), {.destination = 2, .pages = 0x1}, *m, plan), status::ok);
    EXPECT_EQ(may_follow_locked(b(), 0x1, api), following::not_submitted);
    EXPECT_EQ(may_follow_locked(b(), 0x2, api), following::possible);
  }
  const std::uint32_t before = vm->submissions.now();
  ASSERT_EQ(submit_move(*moves, m, plan, nullptr), status::ok);
  EXPECT_NE(vm->submissions.now(), before) << "whoever waits for it is woken";
  block_lock lock(b().lock);
  EXPECT_EQ(may_follow_locked(b(), 0x1, api), following::possible);
  EXPECT_EQ(may_follow_locked(b(), 0x1, other), following::impossible);
  lock.unlock();
  fake(2).run_all();
}

TEST_F(following_moves, what_a_scope_overwrites_is_not_mapped_by_a_move_that_ends) {
  device_1_has(0x3);
  ASSERT_EQ(go({.destination = host_node, .source = 1, .pages = 0x3, .grant = 0x3}), status::ok);
  lease writer;
  const leased_range ranges[] = {{vm->bytes_of(here, 0, 1), GM_WRITE}};
  writer.ranges = ranges;
  writer.node = 1;
  lease_order order;
  ASSERT_EQ(vm->leases.begin_or_wait(writer, conflicts::order, order), status::ok);
  ++on(here, 1).leases;
  ++b().leases;
  fake(1).run_all();
  EXPECT_EQ(b().readable, 0x2U);
  EXPECT_EQ(b().host().valid, 0x3U);
  --on(here, 1).leases;
  --b().leases;
  vm->leases.remove(writer);
}

}  // namespace
}  // namespace gm
