// SPDX-License-Identifier: Apache-2.0
// beside_scopes_test.cpp - CPU faults on pages of a block that a scope has leased.
#include <atomic>
#include <bit>
#include <thread>

#include "unit/fault/serving.h"

namespace gm {
namespace {

using test::mapped;
using test::outcome;
using test::read;
using test::serving;
using test::write;

class beside_scopes : public serving {
 protected:
  // A scope of this thread on device 1 over the pages, resident.
  void open(page_mask pages, gm_mode mode) {
    const auto first = static_cast<unsigned>(std::countr_zero(pages));
    ranges[0] = {vm->bytes_of(here, first, count_pages(pages)), mode};
    l.ranges = ranges;
    l.node = 1;
    lease_order order;
    ASSERT_EQ(vm->leases.begin_or_wait(l, conflicts::order, order), status::ok);
    ++b().leases;
    ++on(here, 1).leases;
    vm->leases.set_resident(l);
  }
  void close() {
    vm->leases.remove(l);
    --b().leases;
    --on(here, 1).leases;
  }
  leased_range ranges[1];
  lease l;
};

TEST_F(beside_scopes, a_page_that_is_only_read_there_may_be_read_here_and_not_written) {
  host_holds(0xff);
  device_reads(1, 0x0f);
  open(0x0f, GM_READ);
  EXPECT_EQ(touch(1, read, 77), outcome::served);
  EXPECT_EQ(kernel_has(1), mapped::read_only);
  EXPECT_EQ(touch(1, write, 77), outcome::wait_scope);
  EXPECT_EQ(b().parked, 0x2U) << "whoever ends the scope wakes it";
  EXPECT_EQ(on(here, 1).valid, 0x0fU);
  b().parked = 0;
  close();
  EXPECT_EQ(touch(1, write, 77), outcome::served);
}

TEST_F(beside_scopes, the_thread_that_holds_it_open_offends) {
  host_holds(0xff);
  device_reads(1, 0x0f);
  open(0x0f, GM_READ);
  EXPECT_EQ(touch(1, read, this_thread()), outcome::served) << "reading along is fine";
  EXPECT_EQ(touch(1, write, this_thread()), outcome::offending);
  EXPECT_EQ(why, offence::own_scope);
  EXPECT_EQ(b().parked, 0U);
  close();
}

TEST_F(beside_scopes, what_is_written_there_is_not_even_read_here) {
  device_wrote(1, 0x0f);
  open(0x0f, GM_READ_WRITE);
  EXPECT_EQ(touch(0, read, 77), outcome::wait_scope);
  EXPECT_EQ(touch(0, read, this_thread()), outcome::offending);
  EXPECT_EQ(why, offence::own_scope);
  EXPECT_EQ(b().busy.load(), 0U) << "nothing is fetched";
  b().parked = 0;
  close();
}

// Thread 77 runs a unit of the stream that the scope is of.
TEST_F(beside_scopes, work_of_the_scope_s_own_stream_offends_and_of_another_waits) {
  device_wrote(1, 0x0f);
  open(0x0f, GM_READ_WRITE);
  l.stream = fake(1).to_device();
  fake(1).running[77] = {fake(1).to_host(), 5};
  EXPECT_EQ(touch(0, read, 77), outcome::wait_scope) << "the scope does not need this work to end";
  fake(1).running[77] = {fake(1).to_device(), 5};
  EXPECT_EQ(touch(0, read, 77), outcome::offending);
  EXPECT_EQ(why, offence::own_stream);
  vm->leases.end(l, {fake(1).table(), {fake(1).to_device(), 9}});
  EXPECT_EQ(touch(0, read, 77), outcome::offending) << "ended behind it: the same";
  fake(1).running[77] = {fake(1).to_device(), 10};
  EXPECT_EQ(touch(0, read, 77), outcome::wait_scope) << "ended ahead of it: about to be released";
  fake(1).running.clear();
  b().parked = 0;
  close();
}

TEST_F(beside_scopes, the_last_of_a_circle_offends) {
  device_wrote(1, 0x0f);
  open(0x03, GM_READ_WRITE);
  leased_range other_range{vm->bytes_of(here, 2, 2), GM_READ_WRITE};
  lease other;
  other.ranges = {&other_range, 1};
  other.node = 1;
  thread_id other_thread = 0;
  std::thread([&] {
    other_thread = this_thread();
    lease_order order;
    ASSERT_EQ(vm->leases.begin_or_wait(other, conflicts::order, order), status::ok);
  }).join();
  ++b().leases;
  EXPECT_EQ(touch(0, write, other_thread), outcome::wait_scope);
  EXPECT_EQ(touch(2, read, 77), outcome::wait_scope) << "it has no scope that anybody waits for";
  EXPECT_EQ(touch(2, read, this_thread()), outcome::offending);
  EXPECT_EQ(why, offence::circle);
  EXPECT_EQ(touch(5, write, other_thread), outcome::served);
  EXPECT_EQ(touch(2, read, this_thread()), outcome::wait_scope) << "the other one has gone on";
  EXPECT_EQ(touch(0, write, other_thread), outcome::offending) << "and is the last now";
  vm->leases.remove(other);
  --b().leases;
  EXPECT_EQ(touch(2, read, this_thread()), outcome::wait_copy);
  b().parked = 0;
  close();
}

TEST_F(beside_scopes, other_pages_of_the_block_are_served_one_by_one) {
  advise([](advice& a) { a.pattern = access_pattern::sequential; });
  host_holds(0xff);
  device_reads(1, 0x0f);
  open(0x0f, GM_READ);
  EXPECT_EQ(touch(4, write, this_thread()), outcome::served);
  EXPECT_EQ(b().readable, 0x10U) << "only what was asked for";
  EXPECT_EQ(kernel_has(4), mapped::writable);
  close();
}

TEST_F(beside_scopes, a_page_only_on_the_reading_device_is_fetched_read_only) {
  device_wrote(1, 0x0f);
  open(0x0f, GM_READ);
  EXPECT_EQ(touch(2, read, 77), outcome::wait_copy);
  EXPECT_EQ(kernel_has(2), mapped::read_only);
  EXPECT_EQ(on(here, 1).valid, 0x0fU) << "the scope keeps its copy";
  close();
}

TEST_F(beside_scopes, in_line_a_scope_is_waited_for) {
  device_wrote(1, 0x1);
  open(0x1, GM_READ_WRITE);
  std::atomic<signal_verdict> verdict{signal_verdict::not_ours};
  std::thread toucher([&] { verdict = faults->handle_in_line({offset_of(here), read, this_thread()}); });
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(verdict.load(), signal_verdict::not_ours) << "it waits";
  {
    block_guard guard(b().lock);
    close();
  }
  toucher.join();
  EXPECT_EQ(verdict.load(), signal_verdict::try_again);
  EXPECT_EQ(kernel_has(0), mapped::read_only);
  b().parked = 0;
}

}  // namespace
}  // namespace gm
