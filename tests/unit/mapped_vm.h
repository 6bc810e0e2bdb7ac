// SPDX-License-Identifier: Apache-2.0
// mapped_vm.h - a small_vm whose first device has an access map, an on-demand lease over the first block, and the
// kernel's side of the map as single steps.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "evict/room.h"
#include "migrate/access_map.h"
#include "migrate/host_pages.h"
#include "migrate/remapping.h"
#include "unit/small_vm.h"

namespace gm::test {

class mapped_vm : public small_vm {
 protected:
  void SetUp() override { start({.devices = 2}); }
  void TearDown() override {
    if (vm != nullptr) {
      for (const auto& f : fakes) f->run_all();
      expect_valid();
      expect_valid_entries();
      end();
    }
    small_vm::TearDown();
  }

  void start(const small_vm_options& how) {
    end();
    build(how);
    for (const auto& f : fakes) f->hold = false;
    map = std::make_unique<access_map>(*vm, vm->device(1));
    ASSERT_EQ(map->create(), status::ok) << last_error();
    ASSERT_EQ(map->extend({0, arena_bytes}), status::ok);
    vm->maps[1].store(map.get());
    here = allocate(2 * block_bytes).first_block();
    data = map->view_of({offset_of(here), offset_of(here) + 2 * block_bytes}, 0, true);
  }
  void end() {
    if (is_leased) cover(false);
    if (vm != nullptr) vm->maps[1].store(nullptr);
    map.reset();
  }

  // Kernels may use the block from now on, or no longer.
  void cover(bool on_demand) {
    if (on_demand == is_leased) return;
    is_leased = on_demand;
    if (!on_demand) {
      vm->leases.release(lease_);
      vm->leases.remove(lease_);
      return;
    }
    range_ = {{offset_of(here), offset_of(here) + 2 * block_bytes}, GM_READ_WRITE, true};
    lease_ = {};
    lease_.ranges = {&range_, 1};
    lease_.node = 1;
    lease_order order;
    ASSERT_EQ(vm->leases.begin_or_wait(lease_, conflicts::order, order), status::ok);
    device::fence ready;
    ASSERT_EQ(map->prepare_kernels(0, ready), status::ok) << last_error();
    vm->leases.set_resident(lease_);
  }

  void give_frame(unsigned node = 1) {
    {
      lock_guard guard(vm->device(node).admission);
      ASSERT_EQ(acquire_piece(*vm, *moves, vm->device(node), {here, 1}, victim_class::normal, false), status::ok);
    }
    if (node == 1)
      map->at(here).place_plus_one =
          static_cast<std::uint32_t>((on(here, 1).address - vm->device(1).info.pool_base) / page_bytes + 1);
  }
  // The device alone has the pages, of its own number, and kernels find them.
  void device_shows(page_mask pages, page_mask writable) {
    give_frame();
    {
      block_guard guard(b().lock);
      ASSERT_EQ(revoke_cpu_locked(*vm, here, b(), pages), status::ok);
      make_exclusive_locked(*vm, here, b(), 1, pages);
    }
    for (unsigned page = 0; page < pages_per_block; ++page)
      if ((pages & one_page(page)) != 0) paint(device_page(here, page, 1), static_cast<int>(page) + 1);
    ASSERT_EQ(show(pages, writable), status::ok) << last_error();
  }
  status show(page_mask pages, page_mask writable) {
    remapping* r = nullptr;
    {
      block_guard guard(b().lock);
      r = begin_showing_locked(*vm, *map, here, b(), {.pages = pages, .writable = writable});
    }
    EXPECT_NE(r, nullptr);
    return submit_remapping(r);
  }
  struct taken {
    int told = 0;
    bool gone = false;
    static void done(void* self, bool was) {
      auto* t = static_cast<taken*>(self);
      ++t->told;
      t->gone = was;
    }
  };
  status take(page_mask pages, taken& result, cpu_wish wish = cpu_wish::none) {
    remapping* r = nullptr;
    {
      block_guard guard(b().lock);
      r = begin_taking_locked(*vm, *map, *moves, here, b(),
                              {.pages = pages, .wish = wish, .done = taken::done, .owner = &result});
    }
    EXPECT_NE(r, nullptr);
    return submit_remapping(r);
  }

  block& b() const { return at(here); }
  access_map::block_entries& entries() const { return map->at(here); }
  page_mask busy() const { return b().busy.load(); }
  std::uint64_t entry(unsigned page) const { return data.entries[page]; }
  std::uint32_t& pins(unsigned page) const { return data.pins[page]; }
  bool finds(unsigned page) const { return (entry(page) & GM_MAP_PRESENT) != 0; }
  bool may_write(unsigned page) const { return (entry(page) & GM_MAP_WRITABLE) != 0; }
  std::byte* place(std::uint64_t word, unsigned byte = 0) const {
    return reinterpret_cast<std::byte*>(data.pool + ((word >> GM_MAP_PLACE_SHIFT) << GM_MAP_PAGE_BITS)) + byte;
  }

  void expect_valid_entries() const {
    char why[256] = {};
    block_guard guard(b().lock);
    EXPECT_TRUE(validate_entries_locked(*vm, here, b(), why, sizeof why)) << why;
  }

  std::unique_ptr<access_map> map;
  block_index here;
  gm_view_data data{};
  bool is_leased = false;

 private:
  leased_range range_{};
  lease lease_;
};

}  // namespace gm::test
