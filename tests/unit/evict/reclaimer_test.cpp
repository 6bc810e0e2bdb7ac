// SPDX-License-Identifier: Apache-2.0
// How many frames a reclaimer keeps free; its thread does not run.
#include "evict/reclaimer.h"

#include <gtest/gtest.h>

#include <deque>

#include "evict/room.h"
#include "unit/small_vm.h"

namespace gm {
namespace {

class keeping_free : public test::small_vm {
 protected:
  void SetUp() override { start(16); }
  void start(std::uint32_t frames) {
    build({.frames = frames});
    data_ = allocate(15 * block_bytes).bytes();
    kept_free_ = std::make_unique<reclaimer>(*vm, *moves, vm->device(1));
  }
  void TearDown() override {
    for (scope& s : scopes_) {
      vm->leases.release(s.held);
      vm->leases.remove(s.held);
    }
    small_vm::TearDown();
  }
  void fetches(std::uint64_t first_block, std::uint64_t blocks) {
    scope& s = scopes_.emplace_back();
    s.range = {{first_block * block_bytes, (first_block + blocks) * block_bytes}, GM_READ, true};
    s.held.ranges = {&s.range, 1};
    s.held.node = 1;
    lease_order order;
    ASSERT_EQ(vm->leases.begin_or_wait(s.held, conflicts::order, order), status::ok);
  }
  void give_frames(std::uint64_t first_block, std::uint64_t blocks) {
    lock_guard guard(vm->device(1).admission);
    for (std::uint64_t i = 0; i < blocks; ++i)
      ASSERT_EQ(acquire_piece(*vm, *moves, vm->device(1), {{first_block + i}, 1}, victim_class::normal, false),
                status::ok);
  }
  void expect(std::uint32_t low, std::uint32_t high) const {
    EXPECT_EQ(kept_free_->low(), low);
    EXPECT_EQ(kept_free_->high(), high);
  }

  struct scope {
    leased_range range;
    lease held;
  };
  byte_range data_{};
  std::deque<scope> scopes_;
  std::unique_ptr<reclaimer> kept_free_;
};

TEST_F(keeping_free, a_sixteenth_and_up_to_twice_that) {
  fetches(0, 16);
  expect(1, 2);
}

TEST_F(keeping_free, nothing_where_nobody_fetches) { expect(0, 0); }

TEST_F(keeping_free, no_more_than_is_still_to_come) {
  fetches(0, 16);
  give_frames(0, 14);
  expect(1, 2);
  give_frames(14, 1);
  expect(1, 1);
  give_frames(15, 1);
  expect(0, 0);
}

TEST_F(keeping_free, a_frame_that_is_being_made_is_not_to_come) {
  fetches(0, 16);
  give_frames(0, 15);
  {
    block_guard guard(at({15}).lock);
    on({15}, 1).address = piece_being_made;
  }
  expect(0, 0);
  block_guard guard(at({15}).lock);
  on({15}, 1).address = 0;
}

TEST_F(keeping_free, blocks_that_several_scopes_have_count_once) {
  fetches(3, 2);
  fetches(0, 5);
  fetches(4, 1);
  give_frames(0, 4);
  expect(1, 1);
}

TEST_F(keeping_free, scopes_that_are_released_count_no_more) {
  fetches(0, 16);
  vm->leases.release(scopes_[0].held);
  expect(0, 0);
}

TEST_F(keeping_free, where_more_is_fetched_than_fits_all_of_it) {
  start(4);
  fetches(0, 16);
  expect(1, 2);
  give_frames(0, 4);
  expect(1, 2);
}

}  // namespace
}  // namespace gm
