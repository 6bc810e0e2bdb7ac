// SPDX-License-Identifier: Apache-2.0
// serving.h - cpu_faults over a small_vm: touches of a block, and how pages get where they are before.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "evict/room.h"
#include "fault/cpu_faults.h"
#include "migrate/host_pages.h"
#include "unit/small_vm.h"

namespace gm::test {

using outcome = cpu_faults::outcome;

inline constexpr cpu_access read = cpu_access::read;
inline constexpr cpu_access write = cpu_access::write;

class serving : public small_vm {
 protected:
  void SetUp() override { start({.devices = 3}); }
  void start(const small_vm_options& how) {
    build(how);
    here = allocate(4 * block_bytes).first_block();
    offenders = std::make_unique<condemned>(*vm);
    faults = std::make_unique<cpu_faults>(*vm, *moves, *offenders);
  }
  block& b() const { return at(here); }

  outcome touch(unsigned page, cpu_access access, thread_id thread = 1) { return touch_in(here, page, access, thread); }
  outcome touch_in(block_index index, unsigned page, cpu_access access, thread_id thread = 1) {
    return faults->serve({offset_of(index) + page * page_bytes + os_page_bytes, access, thread}, why);
  }
  mapped kernel_has(unsigned page) const { return kernel->page_at({first_page(here).value + page}); }
  bool woke(unsigned page) const { return kernel->woke(offset_of(here) + page * page_bytes + os_page_bytes); }

  void give_frame(unsigned node) {
    if (on(here, node).has_frame()) return;
    lock_guard guard(vm->device(node).admission);
    ASSERT_EQ(acquire_piece(*vm, *moves, vm->device(node), {here, 1}, victim_class::normal, false), status::ok);
  }
  // The pages hold their own number, and only that device has them.
  void device_wrote(unsigned node, page_mask pages) {
    give_frame(node);
    {
      block_guard guard(b().lock);
      ASSERT_EQ(revoke_cpu_locked(*vm, here, b(), pages), status::ok);
      make_exclusive_locked(*vm, here, b(), node, pages);
    }
    for (unsigned page = 0; page < pages_per_block; ++page)
      if ((pages & one_page(page)) != 0) paint(device_page(here, page, node), static_cast<int>(page) + 1);
  }
  // The host has the pages, and the CPU does not map them.
  void host_holds(page_mask pages) {
    block_guard guard(b().lock);
    ASSERT_EQ(back_host_pages_locked(*vm, here, b(), pages), status::ok);
    b().host().valid |= pages;
    for (unsigned page = 0; page < pages_per_block; ++page)
      if ((pages & one_page(page)) != 0) paint(host_page(here, page), static_cast<int>(page) + 1);
  }
  // A read-only copy on a device of what the host has.
  void device_reads(unsigned node, page_mask pages) {
    give_frame(node);
    move* m = moves->take(false);
    copy_plan plan;
    {
      block_guard guard(b().lock);
      ASSERT_EQ(
          begin_move_locked(*vm, here, b(), {.destination = node, .pages = pages, .keep_cpu_mapping = true}, *m, plan),
          status::ok);
    }
    ASSERT_EQ(submit_move(*moves, m, plan, nullptr), status::ok);
  }
  void advise(void (*change)(advice&)) {
    const page_index first = first_page(here);
    ASSERT_EQ(vm->advices.update({first, {first.value + 4 * pages_per_block}}, [&](advice& a) { change(a); }),
              status::ok);
  }

  block_index here;
  offence why{};
  std::unique_ptr<condemned> offenders;
  std::unique_ptr<cpu_faults> faults;
};

}  // namespace gm::test
