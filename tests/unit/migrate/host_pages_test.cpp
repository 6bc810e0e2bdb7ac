// SPDX-License-Identifier: Apache-2.0
#include "migrate/host_pages.h"

#include <gtest/gtest.h>

#include "base/inject.h"
#include "unit/memory_in_core.h"
#include "unit/small_vm.h"

namespace gm {
namespace {

using test::fake_user_mapping;
using test::mapped;

constexpr block_index here{2};

class host_pages : public test::small_vm {
 protected:
  void SetUp() override {
    build({.host_pages = 40});
    allocate(8 * block_bytes);
  }
  block& b() const { return at(here); }
  std::uint64_t pages_in_core() const {
    return test::os_pages_in_core(vm->memory, vm->bytes_of(here, 0, 32)) / test::os_pages_per_page;
  }
  mapped kernel_has(unsigned page) const { return kernel->page_at({first_page(here).value + page}); }

  // Each under the block's lock, as they must be called.
  template <typename F>
  status locked(F&& act) const {
    block_guard guard(b().lock);
    return act();
  }
  status back(page_mask pages) {
    return locked([&] { return back_host_pages_locked(*vm, here, b(), pages); });
  }
  status revoke(page_mask pages) {
    return locked([&] { return revoke_cpu_locked(*vm, here, b(), pages); });
  }
  status protect(page_mask pages) {
    return locked([&] { return write_protect_cpu_locked(*vm, here, b(), pages); });
  }
  status grant(page_mask pages, page_mask writable) {
    return locked([&] { return grant_cpu_locked(*vm, here, b(), pages, writable); });
  }
  status zero(page_mask pages) {
    return locked([&] { return grant_zero_pages_locked(*vm, here, b(), pages); });
  }
  status drop(page_mask pages) {
    return locked([&] { return drop_host_pages_locked(*vm, here, b(), pages); });
  }
};

TEST_F(host_pages, backing_makes_memory_and_charges_it_once) {
  EXPECT_EQ(back(0x0f), status::ok);
  EXPECT_EQ(back(0x3c), status::ok);
  EXPECT_EQ(b().backed, 0x3fU);
  EXPECT_EQ(vm->host.used(), 6U);
  EXPECT_EQ(pages_in_core(), 6U);
  EXPECT_EQ(b().host().valid | b().readable, 0U) << "memory is not yet contents";
  EXPECT_EQ(drop(0x3f), status::ok);
}

TEST_F(host_pages, over_the_budget_nothing_is_backed) {
  ASSERT_TRUE(vm->host.charge(30));
  EXPECT_EQ(back(0x7ff), status::no_memory) << "eleven, and ten are left";
  EXPECT_EQ(b().backed, 0U);
  EXPECT_EQ(vm->host.used(), 30U);
  EXPECT_EQ(pages_in_core(), 0U);
  EXPECT_NE(std::string(last_error()).find("GM_HOST_BUDGET"), std::string::npos) << last_error();
  EXPECT_EQ(back(0x3ff), status::ok);
  vm->host.uncharge(30);
  EXPECT_EQ(drop(0x3ff), status::ok);
}

TEST_F(host_pages, backing_that_fails_half_way_leaves_nothing) {
  EXPECT_EQ(back(0x2), status::ok);
  inject::fail_nth(inject::point::host_memory, 2);  // the second of three runs
  EXPECT_EQ(back(0x1 | 0x2 | 0x4 | 0x10), status::no_memory);
  EXPECT_EQ(b().backed, 0x2U) << "what was there before";
  EXPECT_EQ(vm->host.used(), 1U);
  EXPECT_EQ(drop(0x2), status::ok);
  EXPECT_EQ(vm->host.used(), 0U);
}

TEST_F(host_pages, zero_pages_are_the_hosts_alone_and_writable) {
  EXPECT_EQ(zero(0xf0), status::ok);
  EXPECT_EQ(b().backed & b().readable & b().host().valid & b().host().writable, 0xf0U);
  EXPECT_EQ(vm->host.used(), 4U);
  for (unsigned page = 0; page < 32; ++page)
    EXPECT_EQ(kernel_has(page), page >= 4 && page < 8 ? mapped::writable : mapped::absent) << page;
  EXPECT_TRUE(painted(host_page(here, 4), 0));
  EXPECT_TRUE(kernel->woke(offset_of(here) + 4 * page_bytes)) << "whoever slept there";
  EXPECT_EQ(zero(no_pages), status::ok);
}

TEST_F(host_pages, zero_pages_over_the_budget_are_none) {
  ASSERT_TRUE(vm->host.charge(37));
  EXPECT_EQ(zero(0xf), status::no_memory);
  EXPECT_EQ(b().backed | b().readable | b().host().valid, 0U);
  EXPECT_EQ(kernel_has(0), mapped::absent);
  EXPECT_EQ(zero(0x7), status::ok);
  vm->host.uncharge(37);
}

TEST_F(host_pages, zero_pages_that_fail_half_way_leave_whole_pages_only) {
  // Two runs; of the second one only three OS pages are made.
  kernel->fail_nth(fake_user_mapping::calls_map_zero, 2, 3);
  EXPECT_EQ(zero(0x3 | 0x30), status::system);
  EXPECT_EQ(b().host().valid, 0x3U) << "the first run stands";
  EXPECT_EQ(b().backed, 0x3U);
  EXPECT_EQ(vm->host.used(), 2U);
  EXPECT_EQ(pages_in_core(), 2U) << "nothing is left of the second";
  EXPECT_EQ(kernel_has(4), mapped::absent);
}

TEST_F(host_pages, grant_maps_as_it_is_told) {
  ASSERT_EQ(back(0xff), status::ok);
  b().host().valid = 0xff;
  EXPECT_EQ(grant(0x3c, 0x0c), status::ok);
  EXPECT_EQ(b().readable, 0x3cU);
  EXPECT_EQ(b().host().writable, 0x0cU);
  EXPECT_EQ(kernel_has(1), mapped::absent);
  EXPECT_EQ(kernel_has(2), mapped::writable);
  EXPECT_EQ(kernel_has(5), mapped::read_only);
  EXPECT_EQ(kernel_has(6), mapped::absent);
}

TEST_F(host_pages, grant_upgrades_and_never_takes) {
  ASSERT_EQ(zero(0x1), status::ok);  // writable
  ASSERT_EQ(back(0x2), status::ok);
  b().host().valid |= 0x2;
  ASSERT_EQ(grant(0x2, 0), status::ok);  // read-only
  EXPECT_EQ(grant(0x3, 0), status::ok);
  EXPECT_EQ(b().host().writable, 0x1U) << "what is mapped with enough stays as it is";
  EXPECT_EQ(kernel_has(0), mapped::writable);
  EXPECT_EQ(grant(0x3, 0x3), status::ok);
  EXPECT_EQ(b().host().writable, 0x3U);
  EXPECT_EQ(kernel_has(1), mapped::writable);
  EXPECT_EQ(kernel->calls(fake_user_mapping::calls_allow), 1U) << "only the one that needed it";
}

TEST_F(host_pages, grant_wakes_and_maps_a_run_with_one_call) {
  ASSERT_EQ(back(all_pages), status::ok);
  b().host().valid = all_pages;
  ASSERT_EQ(grant(all_pages, all_pages), status::ok);
  EXPECT_EQ(kernel->calls(fake_user_mapping::calls_map), 1U);
  EXPECT_TRUE(kernel->woke(offset_of(here)));
  EXPECT_TRUE(kernel->woke(offset_of(here) + block_bytes - os_page_bytes));
}

TEST_F(host_pages, a_grant_that_fails_leaves_table_and_kernel_in_agreement) {
  for (const auto call : {fake_user_mapping::calls_allow, fake_user_mapping::calls_map}) {
    ASSERT_EQ(drop(all_pages), status::ok);
    ASSERT_EQ(kernel_has(0), mapped::absent);
    ASSERT_EQ(back(0x7f), status::ok);
    b().host().valid = 0x7f;
    ASSERT_EQ(grant(0x03, 0), status::ok);
    kernel->fail_nth(call, 1);
    EXPECT_EQ(grant(0x7f, 0x1f), status::system);
    for (unsigned page = 0; page < 8; ++page) {
      const page_mask bit = one_page(page);
      EXPECT_EQ(kernel_has(page) != mapped::absent, (b().readable & bit) != 0) << page;
      EXPECT_EQ(kernel_has(page) == mapped::writable, (b().host().writable & bit) != 0) << page;
    }
    EXPECT_EQ(b().host().valid, 0x7fU);
    EXPECT_EQ(grant(0x7f, 0x1f), status::ok) << "and it can be had later";
    EXPECT_EQ(b().readable, 0x7fU);
    EXPECT_EQ(b().host().writable, 0x1fU);
  }
}

TEST_F(host_pages, revoke_takes_the_mapping_and_keeps_the_bytes) {
  ASSERT_EQ(zero(0xf), status::ok);
  paint(host_page(here, 1), 7);
  EXPECT_EQ(revoke(0x6 | 0xf000), status::ok) << "what is not mapped needs nothing";
  EXPECT_EQ(b().readable, 0x9U);
  EXPECT_EQ(b().host().writable, 0x9U);
  EXPECT_EQ(b().host().valid, 0xfU);
  EXPECT_EQ(kernel_has(1), mapped::absent);
  EXPECT_EQ(kernel_has(0), mapped::writable);
  EXPECT_TRUE(painted(host_page(here, 1), 7));
  EXPECT_EQ(kernel->calls(fake_user_mapping::calls_drop), 1U);
}

TEST_F(host_pages, a_revoke_that_fails_takes_less_from_the_table_than_from_the_kernel) {
  ASSERT_EQ(zero(0x33), status::ok);
  kernel->fail_nth(fake_user_mapping::calls_drop, 2, 1);
  EXPECT_EQ(revoke(0x33), status::system);
  EXPECT_EQ(b().readable, 0x30U);
  EXPECT_EQ(kernel_has(0), mapped::absent);
}

TEST_F(host_pages, protecting_takes_writing_only) {
  ASSERT_EQ(zero(0xf), status::ok);
  EXPECT_EQ(protect(0x3), status::ok);
  EXPECT_EQ(b().readable, 0xfU);
  EXPECT_EQ(b().host().writable, 0xcU);
  EXPECT_EQ(kernel_has(0), mapped::read_only);
  EXPECT_EQ(kernel_has(2), mapped::writable);
  EXPECT_EQ(protect(0x3), status::ok);
  EXPECT_EQ(kernel->calls(fake_user_mapping::calls_deny), 1U) << "it has been taken already";
  kernel->fail_nth(fake_user_mapping::calls_deny, 1);
  EXPECT_EQ(protect(0xf), status::system);
  EXPECT_EQ(b().host().writable, 0xcU);
}

TEST_F(host_pages, dropping_gives_memory_back_and_unmaps) {
  ASSERT_EQ(zero(0xff), status::ok);
  EXPECT_EQ(drop(0x0f | 0xf0000), status::ok);
  EXPECT_EQ(b().backed & b().readable & b().host().valid & b().host().writable, 0xf0U);
  EXPECT_EQ(b().backed | b().readable | b().host().valid | b().host().writable, 0xf0U);
  EXPECT_EQ(vm->host.used(), 4U);
  EXPECT_EQ(pages_in_core(), 4U);
  EXPECT_EQ(kernel_has(0), mapped::absent);
}

TEST_F(host_pages, a_drop_that_fails_keeps_contents_memory_and_charge) {
  ASSERT_EQ(zero(0x0f | 0xf00), status::ok);
  paint(host_page(here, 8), 9);
  inject::fail_nth(inject::point::punch_pages, 2);
  EXPECT_EQ(drop(0xf0f), status::system);
  EXPECT_EQ(b().backed, 0xf00U);
  EXPECT_EQ(b().host().valid, 0xf00U);
  EXPECT_EQ(vm->host.used(), 4U);
  EXPECT_TRUE(painted(host_page(here, 8), 9));
}

}  // namespace
}  // namespace gm
