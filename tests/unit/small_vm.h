// SPDX-License-Identifier: Apache-2.0
// small_vm.h - a vm_object of sixteen blocks over fakes: a model of the kernel's page tables, devices that copy when
// the test says so, and host pages that are real (the arena's alias mapping). What is above the table is the test's to
// call.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "base/inject.h"
#include "evict/reclaim.h"
#include "migrate/move.h"
#include "unit/fake_device.h"
#include "unit/fake_user_mapping.h"
#include "vm/vm_object.h"

namespace gm::test {

struct small_vm_options {
  unsigned devices = 1;
  std::uint32_t frames = 8;  // a device
  bool window = true;
  bool peers = true;
  std::uint64_t host_pages = 1024;
};

class small_vm : public testing::Test {
 protected:
  static constexpr std::uint64_t arena_bytes = 16 * block_bytes;

  void build(const small_vm_options& how = {}) {
    vm = std::make_unique<vm_object>();
    ASSERT_EQ(vm->memory.create(arena_bytes), status::ok) << last_error();
    kernel = std::make_unique<fake_user_mapping>(vm->memory);
    vm->cpu = kernel.get();
    vm->retry_deferred_frees = retry_deferred_frees;
    vm->retry_free = retry_free;
    vm->nodes = 1 + how.devices;
    ASSERT_EQ(vm->table.create(arena_bytes, vm->nodes, vm->stats.metadata_bytes), status::ok);
    vm->extents.create(arena_bytes, vm->memory.user_base());
    vm->host.create(how.host_pages);
    moves = std::make_unique<move_pool>();
    ASSERT_EQ(moves->create(vm->stats.metadata_bytes), status::ok);
    fakes.clear();
    for (unsigned n = 1; n <= how.devices; ++n) {
      fakes.push_back(std::make_unique<fake_device>(arena_bytes));
      auto d = std::make_unique<device_node>();
      d->node = n;
      d->api = fake_device::table();
      d->handle = fakes.back()->handle();
      d->info.capabilities = (how.window ? device::has_window : 0U) | (how.peers ? device::has_peer_copies : 0U);
      d->info.window_base = how.window ? fakes.back()->window_base() : 0;
      d->to_device = fakes.back()->to_device();
      d->to_host = fakes.back()->to_host();
      d->to_map = fakes.back()->to_map();
      d->info.pool_base = fakes.back()->window_base();
      ASSERT_EQ(d->pool.create(how.frames), status::ok);
      vm->devices[n] = std::move(d);
    }
    ASSERT_EQ(vm->table.ensure({0}, 16), status::ok);
  }

  void SetUp() override { build(); }
  void TearDown() override {
    for (unsigned p = 0; p < static_cast<unsigned>(inject::point::count_); ++p)
      inject::fail_nth(static_cast<inject::point>(p), 0);
    if (vm != nullptr) expect_valid();
  }

  // An extent of so many bytes, its pages allocated.
  extent& allocate(std::uint64_t bytes) {
    extent* e = vm->extents.allocate(bytes, 16);
    EXPECT_NE(e, nullptr);
    for (std::uint64_t i = 0; i < e->blocks(); ++i) {
      const block_index index{e->first_block().value + i};
      block_guard guard(at(index).lock);
      at(index).allocated |= pages_touched(e->bytes(), index);
    }
    at(e->first_block()).starts |= one_page(page_in_block(e->first));
    EXPECT_FALSE(vm->extents.drop_reference(*e));
    return *e;
  }
  // As gm_free would, without reclaiming: true when the caller is to do that.
  bool retire(extent& e) {
    for (std::uint64_t i = 0; i < e.blocks(); ++i) {
      const block_index index{e.first_block().value + i};
      block_guard guard(at(index).lock);
      at(index).allocated &= ~pages_touched(e.bytes(), index);
      at(index).starts &= ~pages_touched(e.bytes(), index);
    }
    EXPECT_EQ(vm->extents.retire(e.bytes().begin), &e);
    return vm->extents.drop_reference(e);
  }

  block& at(block_index index) const { return vm->table.at(index); }
  node_pages& on(block_index index, unsigned node) const { return at(index).node(node); }
  fake_device& fake(unsigned node) const { return *fakes[node - 1]; }

  std::byte* host_page(block_index index, unsigned page) const {
    return vm->memory.alias(offset_of(index) + page * page_bytes);
  }
  std::byte* device_page(block_index index, unsigned page, unsigned node) const {
    EXPECT_NE(on(index, node).address, 0U);
    return reinterpret_cast<std::byte*>(on(index, node).address + page * page_bytes);
  }
  static void paint(std::byte* page, int value) { std::memset(page, value, page_bytes); }
  static bool painted(const std::byte* page, int value) {
    for (std::size_t i = 0; i < page_bytes; ++i)
      if (page[i] != static_cast<std::byte>(value)) return false;
    return true;
  }

  void expect_valid(bool at_rest = true) const {
    char why[256] = {};
    EXPECT_TRUE(validate(*vm, at_rest, why, sizeof why)) << why;
    kernel->expect_no_more_than(*vm);
  }

  std::unique_ptr<vm_object> vm;
  std::unique_ptr<fake_user_mapping> kernel;
  std::unique_ptr<move_pool> moves;
  std::vector<std::unique_ptr<fake_device>> fakes;
};

}  // namespace gm::test
