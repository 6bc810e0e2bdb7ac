// SPDX-License-Identifier: Apache-2.0
#include "migrate/move.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>
#include <vector>

#include "base/inject.h"
#include "evict/room.h"
#include "migrate/host_pages.h"
#include "unit/small_vm.h"

namespace gm {
namespace {

using test::fake_user_mapping;
using test::mapped;

constexpr block_index here{2};

class moving : public test::small_vm {
 protected:
  void SetUp() override { start({.devices = 2}); }
  void start(const test::small_vm_options& how) {
    build(how);
    allocate(8 * block_bytes);
    for (unsigned n = 1; n < vm->nodes; ++n)
      ASSERT_EQ(acquire_piece(*vm, *moves, vm->device(n), {here, 1}, victim_class::normal, false), status::ok);
  }
  block& b() const { return at(here); }
  mapped kernel_has(unsigned page) const { return kernel->page_at({first_page(here).value + page}); }

  // Pages written by the CPU: mapped writable, each with its own number.
  void cpu_wrote(page_mask pages) {
    block_guard guard(b().lock);
    ASSERT_EQ(grant_zero_pages_locked(*vm, here, b(), pages), status::ok);
    for_each_page(pages, [&](unsigned page) { paint(host_page(here, page), int(page) + 1); });
  }
  // Pages that only that device holds, and has written.
  void device_wrote(unsigned node, page_mask pages) {
    {
      block_guard guard(b().lock);
      ASSERT_EQ(revoke_cpu_locked(*vm, here, b(), pages), status::ok);
      make_exclusive_locked(*vm, here, b(), node, pages);
    }
    for_each_page(pages, [&](unsigned page) { paint(device_page(here, page, node), int(page) + 100); });
  }
  template <typename F>
  static void for_each_page(page_mask pages, F&& each) {
    for (unsigned page = 0; page < pages_per_block; ++page)
      if ((pages & one_page(page)) != 0) each(page);
  }

  static void note(void* self, const move& m, status result) {
    auto* t = static_cast<moving*>(self);
    t->ended.push_back(result);
    t->moved_pages = m.pages;
  }
  // Begins under the lock, submits without it.
  status go(move_request request) {
    request.done = note;
    request.owner = this;
    move* m = moves->take(false);
    {
      block_guard guard(b().lock);
      if (const status s = begin_move_locked(*vm, here, b(), request, *m, plan); s != status::ok) {
        moves->give_back(m);
        return s;
      }
    }
    return submit_move(*moves, m, plan, nullptr);
  }
  std::uint64_t in(unsigned node) const { return vm->stats.node[node].pages_in.get(); }
  std::uint64_t out(unsigned node) const { return vm->stats.node[node].pages_out.get(); }

  copy_plan plan;
  std::vector<status> ended;
  page_mask moved_pages = 0;
};

TEST_F(moving, to_a_device_for_reading_leaves_two_copies_and_no_writer) {
  cpu_wrote(0xff);
  ASSERT_EQ(go({.destination = 1, .pages = 0x0f, .keep_cpu_mapping = true}), status::ok);
  EXPECT_EQ(ended, std::vector<status>{status::ok});
  EXPECT_EQ(on(here, 1).valid, 0x0fU);
  EXPECT_EQ(b().host().valid, 0xffU);
  EXPECT_EQ(b().readable, 0xffU) << "the CPU goes on reading";
  EXPECT_EQ(b().host().writable, 0xf0U) << "and writes only what it alone has";
  EXPECT_EQ(on(here, 1).writable | on(here, 1).dirty, 0U);
  EXPECT_EQ(kernel_has(0), mapped::read_only);
  for (const unsigned page : {0U, 3U}) EXPECT_TRUE(painted(device_page(here, page, 1), int(page) + 1));
  EXPECT_EQ(in(1), 4U);
  EXPECT_EQ(out(0), 4U);
}

TEST_F(moving, to_a_device_without_keeping_takes_the_cpus_mapping) {
  cpu_wrote(0x3);
  ASSERT_EQ(go({.destination = 1, .pages = 0x1}), status::ok);
  EXPECT_EQ(b().readable, 0x2U);
  EXPECT_EQ(b().host().valid, 0x3U);
  EXPECT_EQ(kernel_has(0), mapped::absent);
}

TEST_F(moving, to_a_device_for_writing_leaves_it_alone) {
  cpu_wrote(0x3);
  ASSERT_EQ(go({.destination = 1, .pages = 0x3, .exclusive = 0x1, .keep_cpu_mapping = true}), status::ok);
  EXPECT_EQ(on(here, 1).valid, 0x3U);
  EXPECT_EQ(on(here, 1).writable, 0x1U);
  EXPECT_EQ(on(here, 1).dirty, 0x1U);
  EXPECT_EQ(b().host().valid, 0x2U);
  EXPECT_EQ(b().readable, 0x2U) << "what is exclusive is not kept";
}

TEST_F(moving, pages_that_nobody_holds_are_filled_with_zero_and_copied_from_nowhere) {
  paint(device_page(here, 5, 1), 77);  // what the frame held before
  cpu_wrote(0x10);
  ASSERT_EQ(go({.destination = 1, .pages = 0x30}), status::ok);
  EXPECT_TRUE(painted(device_page(here, 4, 1), 5));
  EXPECT_TRUE(painted(device_page(here, 5, 1), 0));
  EXPECT_EQ(fake(1).filled_bytes, page_bytes);
  EXPECT_EQ(fake(1).copied_bytes, page_bytes);
  EXPECT_EQ(on(here, 1).dirty, 0U) << "zeroes that nobody wrote need not go home";
  EXPECT_EQ(in(1), 1U) << "only what was copied is counted";
  EXPECT_EQ(b().backed, 0x10U);
}

TEST_F(moving, to_the_host_brings_the_devices_bytes_and_grants) {
  device_wrote(1, 0x0f);
  ASSERT_EQ(go({.destination = host_node, .source = 1, .pages = 0x07, .grant = 0x03}), status::ok);
  EXPECT_EQ(b().host().valid, 0x07U);
  EXPECT_EQ(b().backed, 0x07U);
  EXPECT_EQ(b().readable, 0x03U);
  EXPECT_EQ(b().host().writable, 0U) << "the device has a copy too";
  EXPECT_EQ(on(here, 1).valid, 0x0fU);
  EXPECT_EQ(on(here, 1).dirty, 0x08U) << "what the host has now is dirty no more";
  EXPECT_EQ(on(here, 1).writable, 0x08U);
  EXPECT_TRUE(painted(host_page(here, 2), 102));
  EXPECT_EQ(in(0), 3U);
  EXPECT_EQ(out(1), 3U);
  EXPECT_EQ(vm->host.used(), 3U);
}

TEST_F(moving, to_the_host_for_writing_takes_it_from_the_device) {
  device_wrote(1, 0x3);
  ASSERT_EQ(go({.destination = host_node, .source = 1, .pages = 0x3, .exclusive = 0x3, .grant = 0x3}), status::ok);
  EXPECT_EQ(on(here, 1).valid | on(here, 1).dirty | on(here, 1).writable, 0U);
  EXPECT_EQ(b().host().writable, 0x3U);
  EXPECT_EQ(kernel_has(1), mapped::writable);
  EXPECT_TRUE(on(here, 1).has_frame()) << "the frame stays, first to be evicted";
}

TEST_F(moving, between_devices_goes_straight_and_dirt_goes_along) {
  device_wrote(1, 0x3);
  ASSERT_EQ(go({.destination = 2, .pages = 0x3, .exclusive = 0x1}), status::ok);
  ASSERT_EQ(fake(2).copies.size(), 1U);
  EXPECT_EQ(fake(2).copies[0].direction, device::direction::device_to_device);
  EXPECT_TRUE(painted(device_page(here, 1, 2), 101));
  EXPECT_EQ(b().backed, 0U) << "not through the host";
  EXPECT_EQ(on(here, 2).dirty, 0x3U) << "newer than the host's as well";
  EXPECT_EQ(on(here, 2).writable, 0x1U);
  EXPECT_EQ(on(here, 1).valid, 0x2U);
  EXPECT_EQ(on(here, 1).writable, 0U);
  EXPECT_EQ(out(1), 2U);
  EXPECT_EQ(in(2), 2U);
}

TEST_F(moving, one_move_gathers_from_host_and_peer_run_by_run) {
  cpu_wrote(0x03 | 0x30);
  device_wrote(1, 0x0c);
  ASSERT_EQ(go({.destination = 2, .pages = 0x3f}), status::ok);
  ASSERT_EQ(fake(2).copies.size(), 3U) << "two runs of the host's, one of the peer's";
  for (const unsigned page : {0U, 4U}) EXPECT_TRUE(painted(device_page(here, page, 2), int(page) + 1));
  EXPECT_TRUE(painted(device_page(here, 2, 2), 102));
  EXPECT_EQ(out(0), 4U);
  EXPECT_EQ(out(1), 2U);
}

TEST_F(moving, the_host_is_preferred_where_it_holds_the_page_too) {
  device_wrote(1, 0x1);
  ASSERT_EQ(go({.destination = host_node, .source = 1, .pages = 0x1}), status::ok);
  ASSERT_EQ(go({.destination = 2, .pages = 0x1}), status::ok);
  EXPECT_EQ(fake(2).copies.at(0).direction, device::direction::host_to_device);
  EXPECT_EQ(out(0), 1U);
}

TEST_F(moving, what_peers_cannot_reach_is_told) {
  start({.devices = 2, .peers = false});
  cpu_wrote(0x1);
  device_wrote(1, 0x6);
  block_guard guard(b().lock);
  EXPECT_EQ(unreachable_locked(*vm, b(), 2, 0xff), 0x6U) << "not the host's, not what nobody holds";
  EXPECT_EQ(unreachable_locked(*vm, b(), 1, 0xff), 0U) << "its own";
  EXPECT_EQ(unreachable_locked(*vm, b(), host_node, 0xff), 0U) << "the host reaches all";
}

TEST_F(moving, pages_are_busy_from_begin_to_end_and_sources_stay_readable) {
  cpu_wrote(0xff);
  fake(1).hold = true;
  ASSERT_EQ(go({.destination = 1, .pages = 0x0f, .exclusive = 0x01, .keep_cpu_mapping = true}), status::ok);
  EXPECT_EQ(b().busy.load(), 0x0fU);
  EXPECT_EQ(vm->moves_in_flight.load(), 1U);
  EXPECT_EQ(on(here, 1).valid, 0U) << "not before the copy is done";
  EXPECT_EQ(b().host().valid, 0xffU);
  EXPECT_EQ(kernel_has(1), mapped::read_only) << "readable, but not writable";
  EXPECT_EQ(kernel_has(0), mapped::absent);
  expect_valid(false);
  fake(1).run_all();
  EXPECT_EQ(b().busy.load(), 0U);
  EXPECT_EQ(vm->moves_in_flight.load(), 0U);
  EXPECT_EQ(on(here, 1).valid, 0x0fU);
}

TEST_F(moving, a_copy_that_fails_leaves_the_old_state) {
  cpu_wrote(0x3);
  fake(1).next_result = GM_ERROR_DEVICE;
  ASSERT_EQ(go({.destination = 1, .pages = 0x3, .exclusive = 0x3}), status::ok) << "it was taken";
  EXPECT_EQ(ended, std::vector<status>{status::device});
  EXPECT_EQ(on(here, 1).valid, 0U);
  EXPECT_EQ(b().host().valid, 0x3U);
  EXPECT_EQ(b().busy.load(), 0U);
  EXPECT_EQ(in(1) + out(0), 0U);
  block_guard guard(b().lock);
  EXPECT_EQ(grant_cpu_locked(*vm, here, b(), 0x3, 0x3), status::ok);
  EXPECT_TRUE(painted(host_page(here, 1), 2));
}

TEST_F(moving, a_copy_home_that_fails_keeps_the_devices_dirt) {
  device_wrote(1, 0x3);
  fake(1).next_result = GM_ERROR_DEVICE;
  ASSERT_EQ(go({.destination = host_node, .source = 1, .pages = 0x3, .grant = 0x3}), status::ok);
  EXPECT_EQ(on(here, 1).valid, 0x3U);
  EXPECT_EQ(on(here, 1).dirty, 0x3U);
  EXPECT_EQ(b().host().valid | b().readable, 0U);
  // The memory may stay: it is charged, and the next try uses it.
  EXPECT_EQ(vm->host.used(), count_pages(b().backed));
}

TEST_F(moving, a_copy_that_is_refused_is_cancelled_at_once) {
  cpu_wrote(0x3);
  fake(1).refuse = GM_ERROR_DEVICE;
  EXPECT_EQ(go({.destination = 1, .pages = 0x3}), status::device);
  EXPECT_EQ(ended, std::vector<status>{status::device}) << "the owner is told all the same";
  EXPECT_NE(std::string(last_error()).find("the fake refuses"), std::string::npos) << last_error();
  EXPECT_EQ(b().busy.load(), 0U);
  EXPECT_EQ(vm->moves_in_flight.load(), 0U);
  EXPECT_EQ(b().host().valid, 0x3U);
}

TEST_F(moving, a_kernel_that_does_not_let_go_stops_the_move_before_anything) {
  for (const auto call : {fake_user_mapping::calls_drop, fake_user_mapping::calls_deny}) {
    cpu_wrote(0x3 & ~b().host().valid);
    kernel->fail_nth(call, 1);
    const bool keep = call == fake_user_mapping::calls_deny;
    EXPECT_EQ(go({.destination = 1, .pages = 0x3, .keep_cpu_mapping = keep}), status::system);
    EXPECT_TRUE(ended.empty()) << "it never began";
    EXPECT_EQ(b().busy.load(), 0U);
    EXPECT_EQ(b().host().valid, 0x3U);
    EXPECT_EQ(fake(1).copied_bytes, 0U);
    kernel->fail_nth(call, 0);
  }
}

TEST_F(moving, without_host_memory_nothing_begins) {
  device_wrote(1, 0xff);
  ASSERT_TRUE(vm->host.charge(vm->host.limit() - 7));
  EXPECT_EQ(go({.destination = host_node, .source = 1, .pages = 0xff}), status::no_memory);
  EXPECT_EQ(b().busy.load() | b().backed, 0U);
  EXPECT_EQ(on(here, 1).valid, 0xffU);
  EXPECT_EQ(on(here, 1).writable, 0xffU);
  EXPECT_EQ(go({.destination = host_node, .source = 1, .pages = 0x7f}), status::ok);
  vm->host.uncharge(vm->host.limit() - 7);
}

TEST_F(moving, parked_faults_wake_whatever_becomes_of_the_move) {
  for (const gm_status result : {GM_OK, GM_ERROR_DEVICE}) {
    device_wrote(1, 0x3);
    fake(1).hold = true;
    ASSERT_EQ(go({.destination = host_node, .source = 1, .pages = 0x3}), status::ok);
    b().parked = 0x2 | 0x80;
    kernel->forget_wakes();
    fake(1).run_all(result);
    EXPECT_TRUE(kernel->woke(offset_of(here) + page_bytes));
    EXPECT_FALSE(kernel->woke(offset_of(here) + 7 * page_bytes)) << "another move's";
    EXPECT_EQ(b().parked, 0x80U);
    b().parked = 0;
    block_guard guard(b().lock);
    make_exclusive_locked(*vm, here, b(), 1, 0x3);
  }
}

TEST_F(moving, what_was_freed_meanwhile_is_not_mapped) {
  device_wrote(1, 0x3);
  fake(1).hold = true;
  ASSERT_EQ(go({.destination = host_node, .source = 1, .pages = 0x3, .grant = 0x3}), status::ok);
  b().allocated &= ~one_page(0);
  fake(1).run_all();
  EXPECT_EQ(b().readable, 0x2U);
  EXPECT_EQ(kernel_has(0), mapped::absent);
  b().allocated |= one_page(0);
}

TEST_F(moving, willneed_is_over_when_the_page_has_come) {
  cpu_wrote(0x3);
  b().willneed = 0x7;
  ASSERT_EQ(go({.destination = 1, .pages = 0x3}), status::ok);
  EXPECT_EQ(b().willneed, 0x4U);
}

TEST_F(moving, exclusive_takes_everything_from_the_others) {
  cpu_wrote(0xf);
  ASSERT_EQ(go({.destination = 1, .pages = 0xf}), status::ok);
  ASSERT_EQ(go({.destination = 2, .pages = 0xf}), status::ok);
  {
    block_guard guard(b().lock);
    make_exclusive_locked(*vm, here, b(), 2, 0x3);
  }
  EXPECT_EQ(b().host().valid, 0xcU);
  EXPECT_EQ(on(here, 1).valid, 0xcU);
  EXPECT_EQ(on(here, 2).valid, 0xfU);
  EXPECT_EQ(on(here, 2).writable, 0x3U);
  EXPECT_EQ(on(here, 2).dirty, 0x3U);
  {
    block_guard guard(b().lock);
    make_exclusive_locked(*vm, here, b(), host_node, 0xc);
    EXPECT_EQ(on(here, 2).valid, 0x3U);
    EXPECT_EQ(on(here, 1).valid, 0U);
    EXPECT_EQ(b().host().writable, 0U) << "what the host may write is for the grant to say";
    make_exclusive_locked(*vm, here, b(), host_node, no_pages);
  }
}

TEST_F(moving, a_block_that_lost_its_last_copy_there_is_the_next_victim) {
  ASSERT_EQ(acquire_piece(*vm, *moves, vm->device(1), {{0}, 1}, victim_class::cold, false), status::ok);
  cpu_wrote(0x1);
  ASSERT_EQ(go({.destination = 1, .pages = 0x1}), status::ok);
  piece victim[1];
  ASSERT_EQ(vm->device(1).pool.victims(victim, 1, 0), 1U);
  EXPECT_EQ(victim[0].first, block_index{0});
  {
    block_guard guard(b().lock);
    make_exclusive_locked(*vm, here, b(), host_node, 0x1);
  }
  ASSERT_EQ(vm->device(1).pool.victims(victim, 1, 0), 1U);
  EXPECT_EQ(victim[0].first, here);
}

TEST_F(moving, waiting_for_busy_pages_ends_with_them) {
  cpu_wrote(0x1);
  fake(1).hold = true;
  ASSERT_EQ(go({.destination = 1, .pages = 0x1}), status::ok);
  wait_while_busy(b(), 0x2);  // others are not waited for
  auto waiter = std::async(std::launch::async, [this] { wait_while_busy(b(), 0x1); });
  EXPECT_EQ(waiter.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  fake(1).run_all();
  waiter.get();
}

std::atomic<int> retries{0};

TEST_F(moving, its_end_tries_deferred_frees_again) {
  vm->retry_deferred_frees = [](vm_object&) { ++retries; };
  cpu_wrote(0x3);
  retries = 0;
  ASSERT_EQ(go({.destination = 1, .pages = 0x1}), status::ok);
  EXPECT_EQ(retries, 0) << "none is held up";
  vm->deferred_frees = 1;
  ASSERT_EQ(go({.destination = 1, .pages = 0x2}), status::ok);
  EXPECT_EQ(retries, 1);
  vm->deferred_frees = 0;
}

TEST(move_pool, faults_live_on_the_reserve_and_others_never_touch_it) {
  counter metadata;
  move_pool pool;
  ASSERT_EQ(pool.create(metadata), status::ok);
  const std::uint64_t reserved = metadata.get();
  EXPECT_GT(reserved, 0U);
  move* ordinary = pool.take(false);
  ASSERT_NE(ordinary, nullptr);
  EXPECT_GT(metadata.get(), reserved) << "made for it";
  std::vector<move*> taken;
  for (move* m = pool.take(true); m != nullptr; m = pool.take(true)) taken.push_back(m);
  EXPECT_EQ(taken.size(), move_pool::reserve) << "and then no: moves in flight will come back";
  pool.give_back(taken.back());
  EXPECT_EQ(pool.take(true), taken.back());
  for (move* m : taken) pool.give_back(m);
  pool.give_back(ordinary);
  const std::uint64_t all = metadata.get();
  EXPECT_NE(ordinary = pool.take(false), nullptr);
  EXPECT_EQ(metadata.get(), all) << "records are used again";
  pool.give_back(ordinary);
}

TEST(move_pool, without_memory_ordinary_moves_get_none_and_faults_do) {
  counter metadata;
  move_pool pool;
  ASSERT_EQ(pool.create(metadata), status::ok);
  inject::fail_nth(inject::point::record_memory, 1);
  EXPECT_EQ(pool.take(false), nullptr);
  move* m = pool.take(true);
  EXPECT_NE(m, nullptr);
  pool.give_back(m);
  inject::fail_nth(inject::point::record_memory, 0);
}

}  // namespace
}  // namespace gm
