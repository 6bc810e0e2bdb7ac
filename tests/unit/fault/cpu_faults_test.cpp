// SPDX-License-Identifier: Apache-2.0
#include "fault/cpu_faults.h"

#include <atomic>
#include <thread>
#include <vector>

#include "base/inject.h"
#include "migrate/host_pages.h"
#include "unit/fault/serving.h"

namespace gm {
namespace {

using test::fake_user_mapping;
using test::mapped;
using test::outcome;
using test::read;
using test::serving;
using test::write;

// ---- Nobody's memory ------------------------------------------------------------------------------------------------

TEST_F(serving, what_is_not_allocated_is_an_offence) {
  EXPECT_EQ(touch_in({9}, 0, read), outcome::offending);
  EXPECT_EQ(why, offence::wild);
  EXPECT_EQ(vm->host.used(), 0U);
}

TEST_F(serving, so_is_what_no_table_reaches) {
  EXPECT_EQ(faults->serve({arena_bytes + block_bytes, write, 1}, why), outcome::offending);
  EXPECT_EQ(why, offence::wild);
}

// ---- NOMAP ----------------------------------------------------------------------------------------------------------

TEST_F(serving, a_page_that_nobody_holds_becomes_a_zero_page) {
  for (const cpu_access access : {read, write}) {
    const unsigned page = access == read ? 4 : 12;
    EXPECT_EQ(touch(page, access), outcome::served);
    EXPECT_EQ(b().host().valid & b().host().writable & b().readable & one_page(page), one_page(page));
    EXPECT_EQ(kernel_has(page), mapped::writable);
    EXPECT_TRUE(painted(host_page(here, page), 0));
    EXPECT_TRUE(woke(page));
  }
  EXPECT_EQ(vm->host.used(), 2U) << "one page each: touches out of order";
}

TEST_F(serving, touching_in_order_takes_more_each_time) {
  std::uint64_t made = 0;
  for (const unsigned pages : {1U, 2U, 4U, 8U, 16U, 1U}) {  // the last is what is left of the block
    const auto next = static_cast<unsigned>(made);
    ASSERT_EQ(kernel_has(next), mapped::absent);
    ASSERT_EQ(touch(next, write), outcome::served);
    made += pages;
    ASSERT_EQ(vm->host.used(), made);
  }
  const block_index second{here.value + 1};
  ASSERT_EQ(touch_in(second, 0, write), outcome::served);
  EXPECT_EQ(at(second).host().valid, all_pages) << "and the next block at once";
}

TEST_F(serving, a_window_leaves_half_of_the_budget_to_what_is_asked_for) {
  start({.devices = 1, .host_pages = 11});
  advise([](advice& a) { a.pattern = access_pattern::sequential; });
  EXPECT_EQ(touch(8, write), outcome::served);
  EXPECT_EQ(b().host().valid, 0x7c0U) << "five of eleven, around the touched page";
  for (const unsigned page : {0U, 20U, 25U, 30U}) EXPECT_EQ(touch(page, write), outcome::served) << page;
  EXPECT_EQ(vm->host.used(), 11U) << "three of six, and one each of what is left of it";
  for (const unsigned page : {0U, 20U, 25U, 30U}) EXPECT_EQ(b().host().valid & one_page(page), one_page(page));
}

TEST_F(serving, without_host_memory_for_all_that_is_on_a_device_the_page_alone_is_fetched) {
  start({.devices = 1, .host_pages = 4});
  advise([](advice& a) { a.pattern = access_pattern::sequential; });
  device_wrote(1, 0xff);
  for (const unsigned page : {2U, 5U}) {
    EXPECT_EQ(touch(page, read), outcome::wait_copy);
    EXPECT_EQ(kernel_has(page), mapped::read_only);
    EXPECT_TRUE(painted(host_page(here, page), static_cast<int>(page) + 1));
  }
  EXPECT_EQ(b().host().valid, 0x24U);
}

// ---- Host memory on its way -----------------------------------------------------------------------------------------

TEST_F(serving, memory_held_by_a_copy_in_flight_is_waited_for) {
  start({.devices = 1, .host_pages = 1});
  device_wrote(1, 0xff);
  fake(1).hold = true;
  ASSERT_EQ(touch(2, read), outcome::wait_copy);
  EXPECT_EQ(touch(5, read), outcome::wait_memory);
  EXPECT_EQ(touch(9, write), outcome::wait_memory);
  kernel->forget_wakes();
  fake(1).hold = false;
  fake(1).run_all();
  EXPECT_TRUE(woke(5)) << "page 2 is on the device as well";
  EXPECT_TRUE(woke(9));
  EXPECT_EQ(touch(5, read), outcome::wait_copy);
  EXPECT_EQ(kernel_has(5), mapped::read_only);
  EXPECT_EQ(touch(9, write), outcome::served);
}

TEST_F(serving, a_copy_that_fails_ends_the_wait_as_well) {
  start({.devices = 1, .host_pages = 1});
  device_wrote(1, 0xff);
  fake(1).hold = true;
  ASSERT_EQ(touch(2, read), outcome::wait_copy);
  ASSERT_EQ(touch(5, read), outcome::wait_memory);
  kernel->forget_wakes();
  fake(1).run_all(GM_ERROR_DEVICE);
  EXPECT_TRUE(woke(5));
  fake(1).hold = false;
  EXPECT_EQ(touch(5, read), outcome::wait_copy);
}

TEST_F(serving, a_call_at_work_on_the_host_is_waited_for_and_work_of_a_stream_is_not) {
  start({.devices = 1, .host_pages = 1});
  host_holds(0x1);
  device_reads(1, 0x1);
  leased_range range{{offset_of(here), offset_of(here) + page_bytes}, GM_READ};
  lease call;
  call.ranges = {&range, 1};
  call.node = host_node;
  lease_order order;
  ASSERT_EQ(vm->leases.begin_or_wait(call, conflicts::order, order), status::ok);
  b().leases = b().host().leases = 1;
  EXPECT_EQ(touch(9, read, 77), outcome::wait_memory) << "it uses the only page, which could go";
  vm->leases.end(call, {fake(1).table(), {fake(1).to_host(), 7}});
  EXPECT_EQ(touch(9, read, 77), outcome::offending) << "now it waits for queued work, perhaps for this thread's";
  EXPECT_EQ(why, offence::no_memory);
  vm->leases.remove(call);
  b().leases = b().host().leases = 0;
  EXPECT_EQ(touch(9, read, 77), outcome::served);
}

TEST_F(serving, memory_given_back_elsewhere_ends_the_wait) {
  start({.devices = 1, .host_pages = 2});
  device_wrote(1, 0xff);
  host_holds(0x100);
  fake(1).hold = true;
  ASSERT_EQ(touch(2, read), outcome::wait_copy);
  ASSERT_EQ(touch(5, read), outcome::wait_memory);
  kernel->forget_wakes();
  {
    block_guard guard(b().lock);
    ASSERT_EQ(drop_host_pages_locked(*vm, here, b(), 0x100), status::ok);
  }
  EXPECT_TRUE(woke(5));
  EXPECT_EQ(touch(5, read), outcome::wait_copy);
  fake(1).run_all();
}

TEST_F(serving, without_host_memory_it_is_an_offence_and_nothing_changes) {
  start({.devices = 1, .host_pages = 1});
  ASSERT_EQ(touch(0, write), outcome::served);
  EXPECT_EQ(touch(9, write), outcome::offending);
  EXPECT_EQ(why, offence::no_memory);
  EXPECT_EQ(b().host().valid, 0x1U);
  EXPECT_EQ(kernel_has(9), mapped::absent);
}

TEST_F(serving, memory_that_the_host_need_not_hold_is_given_back_first) {
  start({.devices = 1, .host_pages = 2});
  host_holds(0x3);
  device_reads(1, 0x2);
  EXPECT_EQ(touch(9, write), outcome::served) << "page 1 is on the device as well";
  EXPECT_EQ(b().host().valid, 0x1U | one_page(9));
  EXPECT_EQ(on(here, 1).dirty, 0x2U) << "its only copy now";
}

// ---- On the host ----------------------------------------------------------------------------------------------------

TEST_F(serving, what_the_host_alone_has_is_mapped_writable_at_once) {
  host_holds(0xff);
  EXPECT_EQ(touch(3, read), outcome::served);
  EXPECT_EQ(b().readable, 0x8U);
  EXPECT_EQ(b().host().writable, 0x8U) << "nobody has to be asked for a write to come";
  EXPECT_EQ(vm->stats.node[0].pages_in.get(), 0U) << "nothing was copied";
}

TEST_F(serving, what_a_device_has_too_is_mapped_read_only) {
  host_holds(0xff);
  device_reads(1, 0x08);
  EXPECT_EQ(touch(3, read), outcome::served);
  EXPECT_EQ(kernel_has(3), mapped::read_only);
  EXPECT_EQ(on(here, 1).valid, 0x08U);
}

TEST_F(serving, a_write_takes_it_from_every_device) {
  host_holds(0xff);
  device_reads(1, 0x0f);
  device_reads(2, 0x08);
  ASSERT_EQ(touch(3, read), outcome::served);
  EXPECT_EQ(touch(3, write), outcome::served);
  EXPECT_EQ(on(here, 1).valid, 0x07U);
  EXPECT_EQ(on(here, 2).valid, 0U);
  EXPECT_EQ(kernel_has(3), mapped::writable);
  EXPECT_TRUE(painted(host_page(here, 3), 4));
}

TEST_F(serving, a_window_takes_only_neighbours_in_the_same_case) {
  advise([](advice& a) { a.pattern = access_pattern::sequential; });  // whole blocks
  host_holds(0x0f);
  device_wrote(1, 0xf0);
  ASSERT_EQ(touch(8, write), outcome::served);
  EXPECT_EQ(b().host().valid, ~0xf0U) << "NOMAP pages join NOMAP pages";
  EXPECT_EQ(b().readable, ~0xffU) << "and no others";
  fake(1).hold = true;
  EXPECT_EQ(touch(0, read), outcome::served);
  EXPECT_EQ(b().readable, ~0xf0U);
  EXPECT_EQ(b().busy.load(), 0xf0U) << "pages elsewhere are on their way";
  fake(1).run_all();
}

TEST_F(serving, a_window_ends_with_the_allocation) {
  build({.devices = 1});
  offenders = std::make_unique<condemned>(*vm);
  faults = std::make_unique<cpu_faults>(*vm, *moves, *offenders);
  const extent& first = allocate(3 * page_bytes);
  const extent& second = allocate(5 * page_bytes);
  here = first.first_block();
  ASSERT_EQ(second.first_block(), here);
  advise([](advice& a) { a.pattern = access_pattern::sequential; });
  EXPECT_EQ(touch(1, write), outcome::served);
  EXPECT_EQ(b().host().valid & ~pages_between(0, 3), 0U) << "no page of the neighbour";
  EXPECT_EQ(touch(4, write), outcome::served);
  EXPECT_EQ(b().host().valid & ~pages_between(0, 8), 0U) << "nor of nobody";
}

TEST_F(serving, advice_says_how_much_is_taken) {
  advise([](advice& a) { a.accessed_by = 1; });
  ASSERT_EQ(touch(7, write), outcome::served);
  EXPECT_EQ(b().host().valid, all_pages);
  start({});
  advise([](advice& a) { a.pattern = access_pattern::random; });
  for (unsigned page = 0; page < 8; ++page) ASSERT_EQ(touch(page, write), outcome::served);
  EXPECT_EQ(b().host().valid, 0xffU) << "one page a touch, in whatever order";
}

// ---- On devices -----------------------------------------------------------------------------------------------------

TEST_F(serving, a_page_on_a_device_is_fetched_and_its_fault_parked) {
  device_wrote(2, 0xff);
  fake(2).hold = true;
  EXPECT_EQ(touch(3, read), outcome::wait_copy);
  EXPECT_EQ(b().parked, 0x8U);
  EXPECT_EQ(b().busy.load(), 0x8U);
  EXPECT_FALSE(woke(3)) << "it sleeps until the copy is done";
  fake(2).run_all();
  EXPECT_TRUE(woke(3));
  EXPECT_EQ(b().parked, 0U);
  EXPECT_EQ(kernel_has(3), mapped::read_only) << "the device still has it";
  EXPECT_TRUE(painted(host_page(here, 3), 4));
}

TEST_F(serving, fetched_to_be_written_it_leaves_the_device) {
  device_wrote(2, 0xff);
  EXPECT_EQ(touch(3, write), outcome::wait_copy);
  EXPECT_EQ(kernel_has(3), mapped::writable);
  EXPECT_EQ(on(here, 2).valid, 0xf7U);
  EXPECT_EQ(on(here, 2).dirty, 0xf7U);
}

TEST_F(serving, a_page_on_its_way_is_waited_for_and_not_fetched_twice) {
  device_wrote(1, 0xff);
  fake(1).hold = true;
  ASSERT_EQ(touch(3, read), outcome::wait_copy);
  EXPECT_EQ(touch(3, write), outcome::wait_copy);
  EXPECT_EQ(fake(1).held(), 1U);
  fake(1).run_all();
}

TEST_F(serving, a_window_over_several_devices_takes_as_many_moves_as_one_fault_may) {
  advise([](advice& a) { a.pattern = access_pattern::sequential; });
  device_wrote(1, 0x03);
  device_wrote(2, 0x0c);
  device_wrote(3, 0x30);
  for (const unsigned n : {1U, 2U, 3U}) fake(n).hold = true;
  EXPECT_EQ(touch(0, read), outcome::wait_copy);
  EXPECT_EQ(b().busy.load(), 0x0fU) << "two";
  EXPECT_EQ(touch(4, read), outcome::wait_copy);
  EXPECT_EQ(b().busy.load(), 0x3fU);
  for (const unsigned n : {1U, 2U, 3U}) fake(n).run_all();
  for (unsigned page = 0; page < 6; ++page)
    EXPECT_TRUE(painted(host_page(here, page), static_cast<int>(page) + 1)) << page;
}

TEST_F(serving, a_page_whose_turn_has_not_come_is_touched_again) {
  advise([](advice& a) { a.pattern = access_pattern::sequential; });
  device_wrote(1, 0x03);
  device_wrote(2, 0x0c);
  device_wrote(3, 0x30);
  for (const unsigned n : {1U, 2U, 3U}) fake(n).hold = true;
  kernel->forget_wakes();
  const outcome first = touch(5, read);
  if (first == outcome::served) EXPECT_TRUE(woke(5)) << "or its thread would sleep for ever";
  if (first == outcome::served) EXPECT_EQ(touch(5, read), outcome::wait_copy);
  for (const unsigned n : {1U, 2U, 3U}) fake(n).run_all();
  EXPECT_TRUE(painted(host_page(here, 5), 6));
}

TEST_F(serving, without_a_record_for_the_move_the_access_is_repeated) {
  device_wrote(1, 0x01);
  std::vector<move*> taken;
  for (move* m = moves->take(true); m != nullptr; m = moves->take(true)) taken.push_back(m);
  kernel->forget_wakes();
  EXPECT_EQ(touch(0, read), outcome::served);
  EXPECT_TRUE(woke(0));
  EXPECT_EQ(kernel_has(0), mapped::absent);
  for (move* m : taken) moves->give_back(m);
  EXPECT_EQ(touch(0, read), outcome::wait_copy);
  EXPECT_EQ(kernel_has(0), mapped::read_only);
}

// ---- What fails -----------------------------------------------------------------------------------------------------

TEST_F(serving, a_copy_that_is_refused_is_an_offence_and_the_device_keeps_its_page) {
  device_wrote(1, 0x01);
  fake(1).refuse = GM_ERROR_DEVICE;
  EXPECT_EQ(touch(0, read), outcome::offending);
  EXPECT_EQ(why, offence::failed_copy);
  EXPECT_EQ(on(here, 1).valid, 0x01U);
  EXPECT_EQ(on(here, 1).dirty, 0x01U);
  EXPECT_EQ(touch(0, read), outcome::wait_copy) << "the next one may succeed";
  EXPECT_EQ(kernel_has(0), mapped::read_only);
}

TEST_F(serving, a_copy_that_fails_later_wakes_the_thread_to_try_again) {
  device_wrote(1, 0x01);
  fake(1).hold = true;
  ASSERT_EQ(touch(0, write), outcome::wait_copy);
  kernel->forget_wakes();
  fake(1).run_all(GM_ERROR_DEVICE);
  EXPECT_TRUE(woke(0));
  EXPECT_EQ(on(here, 1).valid, 0x01U);
  EXPECT_EQ(kernel_has(0), mapped::absent);
}

TEST_F(serving, a_kernel_that_does_not_map_is_an_offence) {
  host_holds(0x1);
  kernel->fail_nth(fake_user_mapping::calls_map, 1);
  EXPECT_EQ(touch(0, read), outcome::offending);
  EXPECT_EQ(why, offence::failed_copy);
  EXPECT_EQ(b().host().valid, 0x1U);
  EXPECT_EQ(b().readable, 0U);
}

// ---- What the table allows already ----------------------------------------------------------------------------------

TEST_F(serving, a_fault_that_another_one_served_is_spurious_and_woken) {
  ASSERT_EQ(touch(0, write), outcome::served);
  kernel->forget_wakes();
  EXPECT_EQ(touch(0, write), outcome::served);
  EXPECT_TRUE(woke(0));
  EXPECT_EQ(vm->stats.spurious_faults.get(), 1U);
}

TEST_F(serving, a_mapping_that_the_kernel_lost_is_mended) {
  ASSERT_EQ(touch(0, write), outcome::served);
  const std::uint64_t touched = offset_of(here) + os_page_bytes;
  ASSERT_EQ(kernel->drop({touched, touched + os_page_bytes}), status::ok);
  EXPECT_EQ(touch(0, read), outcome::served);
  EXPECT_EQ(kernel->at(touched), mapped::writable) << "as the table allows";
  ASSERT_EQ(kernel->deny_write({touched, touched + os_page_bytes}), status::ok);
  EXPECT_EQ(touch(0, write), outcome::served);
  EXPECT_EQ(kernel->at(touched), mapped::writable);
}

TEST_F(serving, a_read_only_mapping_that_was_lost_comes_back_read_only) {
  host_holds(0x1);
  device_reads(1, 0x1);
  ASSERT_EQ(touch(0, read), outcome::served);
  ASSERT_EQ(kernel->drop({offset_of(here), offset_of(here) + page_bytes}), status::ok);
  EXPECT_EQ(touch(0, read), outcome::served);
  EXPECT_EQ(kernel->at(offset_of(here) + os_page_bytes), mapped::read_only);
}

// ---- Counting and condemning ----------------------------------------------------------------------------------------

TEST_F(serving, faults_and_parked_ones_are_counted) {
  device_wrote(1, 0x1);
  fake(1).hold = true;
  faults->handle({offset_of(here), read, 1});
  faults->handle({offset_of(here) + 8 * page_bytes, read, 1});
  EXPECT_EQ(vm->stats.node[0].faults.get(), 2U);
  EXPECT_EQ(vm->stats.parked_faults.get(), 1U);
  EXPECT_GT(vm->stats.fault_time_ns.get(), 0U);
  fake(1).run_all();
}

TEST_F(serving, who_offends_again_and_again_is_condemned) {
  const std::uint64_t wild = 9 * block_bytes + os_page_bytes;
  for (int i = 0; i < 2; ++i) {
    kernel->forget_wakes();
    faults->handle({wild, read, 5});
    EXPECT_TRUE(kernel->poisoned().empty()) << "the message may be stale";
    EXPECT_TRUE(kernel->woke(wild));
  }
  faults->handle({wild, read, 5});
  EXPECT_EQ(kernel->poisoned(), std::vector<std::uint64_t>{wild});
  faults->handle({offset_of(here), read, 5});
  EXPECT_FALSE(offenders->any()) << "it has gone on";
  EXPECT_EQ(kernel->calls(fake_user_mapping::calls_drop), 1U);
}

TEST_F(serving, in_line_the_thread_goes_on_or_hears_its_sentence) {
  EXPECT_EQ(faults->handle_in_line({offset_of(here), write, this_thread()}), signal_verdict::try_again);
  EXPECT_EQ(kernel_has(0), mapped::writable);
  testing::internal::CaptureStderr();
  EXPECT_EQ(faults->handle_in_line({9 * block_bytes, write, this_thread()}), signal_verdict::wild);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("not allocated"), std::string::npos);
  EXPECT_EQ(vm->stats.node[0].faults.get(), 2U);
}

TEST_F(serving, in_line_a_copy_is_waited_for) {
  device_wrote(1, 0x1);
  fake(1).hold = true;
  std::atomic<signal_verdict> verdict{signal_verdict::not_ours};
  std::thread toucher([&] { verdict = faults->handle_in_line({offset_of(here), read, 5}); });
  while (fake(1).held() == 0) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(verdict.load(), signal_verdict::not_ours) << "it waits";
  fake(1).run_all();
  toucher.join();
  EXPECT_EQ(verdict.load(), signal_verdict::try_again);
  EXPECT_EQ(vm->stats.parked_faults.get(), 1U);
}

}  // namespace
}  // namespace gm
