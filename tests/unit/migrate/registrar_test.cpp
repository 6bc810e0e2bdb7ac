// SPDX-License-Identifier: Apache-2.0
#include "migrate/registrar.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "evict/room.h"
#include "migrate/host_pages.h"
#include "policy/registration.h"
#include "unit/small_vm.h"

namespace gm {
namespace {

// A driver that registers as it is told, as slowly as it is told.
class driver {
 public:
  static const device::backend_table* table() {
    static const device::backend_table only = [] {
      device::backend_table t{};
      t.name = "driver";
      t.host_register = [](device::backend* b, void* memory, std::size_t bytes) { return of(b).lock(memory, bytes); };
      t.host_retire = [](device::backend* b, void* memory) { of(b).retire(memory); };
      t.host_unregister = [](device::backend* b, void* memory, std::size_t) { of(b).unlock(memory); };
      t.error_text = [] { return "the driver refuses"; };
      return t;
    }();
    return &only;
  }
  registrar::backend as_backend() { return {table(), reinterpret_cast<device::backend*>(this)}; }

  bool has(const void* memory) const {
    const std::scoped_lock guard(lock_);
    return locked_.count(memory) != 0;
  }
  std::size_t count() const {
    const std::scoped_lock guard(lock_);
    return locked_.size();
  }

  std::atomic<bool> stuck{false};  // its slow calls do not return
  std::atomic<gm_status> refuse{GM_OK};
  std::atomic<int> asked{0};
  std::atomic<int> retired{0};

 private:
  static driver& of(device::backend* b) { return *reinterpret_cast<driver*>(b); }
  gm_status lock(const void* memory, std::size_t bytes) {
    EXPECT_EQ(bytes, block_bytes);
    asked.fetch_add(1);
    stuck.wait(true);
    if (refuse != GM_OK) return refuse;
    const std::scoped_lock guard(lock_);
    EXPECT_TRUE(locked_.insert(memory).second);
    return GM_OK;
  }
  void retire(const void* memory) {
    EXPECT_TRUE(has(memory));
    retired.fetch_add(1);
  }
  void unlock(const void* memory) {
    stuck.wait(true);
    const std::scoped_lock guard(lock_);
    EXPECT_EQ(locked_.erase(memory), 1U);
  }

  mutable std::mutex lock_;
  std::set<const void*> locked_;
};

class registering : public test::small_vm {
 protected:
  void SetUp() override { start(16); }
  void TearDown() override {
    let_go();
    keeper.reset();
    small_vm::TearDown();
  }
  // Everything allocated, eight blocks in one extent; a budget of so many blocks.
  void start(std::uint64_t budget_blocks, const test::small_vm_options& how = {}) {
    keeper.reset();
    build(how);
    everything = &allocate(8 * block_bytes);
    keeper = std::make_unique<registrar>(*vm);
    ASSERT_EQ(keeper->start({engines.as_backend()}, budget_blocks * block_bytes), status::ok);
  }
  void let_go() {
    engines.stuck = false;
    engines.stuck.notify_all();
  }
  static bool soon(const std::function<bool()>& holds) {
    for (int i = 0; i < 5000 && !holds(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return holds();
  }
  registration state(std::uint64_t index) const {
    block_guard guard(at({index}).lock);
    return at({index}).host_memory;
  }
  bool becomes(std::uint64_t index, registration wanted) {
    return soon([&] { return state(index) == wanted; });
  }
  void* memory_of(std::uint64_t index) const { return vm->memory.alias(index * block_bytes); }

  void cpu_writes(std::uint64_t index, page_mask pages = all_pages) {
    block_guard guard(at({index}).lock);
    ASSERT_EQ(grant_zero_pages_locked(*vm, {index}, at({index}), pages), status::ok);
  }
  // A copy to the device, or back, as any is made.
  void copy(std::uint64_t index, unsigned destination, page_mask pages = all_pages) {
    move* m = moves->take(false);
    copy_plan plan;
    {
      device_node& d = vm->device(1);
      if (!on({index}, 1).has_frame()) {
        lock_guard guard(d.admission);
        ASSERT_EQ(acquire_piece(*vm, *moves, d, {{index}, 1}, victim_class::normal, true), status::ok);
      }
      block_guard guard(at({index}).lock);
      ASSERT_EQ(
          begin_move_locked(*vm, {index}, at({index}),
                            {.destination = destination, .source = 1, .pages = pages, .exclusive = pages}, *m, plan),
          status::ok);
    }
    ASSERT_EQ(submit_move(*moves, m, plan, nullptr), status::ok);
  }
  void register_block(std::uint64_t index) {
    cpu_writes(index);
    copy(index, 1);
    copy(index, host_node);
    ASSERT_TRUE(becomes(index, registration::registered));
  }
  bool retire_block(std::uint64_t index) {
    block_guard guard(at({index}).lock);
    return keeper->retire_locked({index}, at({index}));
  }

  driver engines;
  std::unique_ptr<registrar> keeper;
  extent* everything = nullptr;
};

TEST_F(registering, a_block_that_was_copied_often_enough_is_registered) {
  cpu_writes(0);
  copy(0, 1);
  EXPECT_EQ(engines.asked, 0) << "once may be all there ever is";
  copy(0, host_node);
  ASSERT_TRUE(becomes(0, registration::registered));
  EXPECT_TRUE(engines.has(memory_of(0)));
  EXPECT_EQ(keeper->registered_bytes(), block_bytes);
  EXPECT_EQ(engines.count(), 1U);
  for (int i = 0; i < 10; ++i) {
    copy(0, 1);
    copy(0, host_node);
  }
  EXPECT_EQ(engines.asked, 1);
}

TEST_F(registering, single_pages_add_up) {
  cpu_writes(0);
  for (std::uint32_t copied = 0; copied + 2 < copied_pages_worth_registering; copied += 2) {
    copy(0, 1, 0x10);
    copy(0, host_node, 0x10);
  }
  EXPECT_EQ(state(0), registration::none);
  copy(0, 1, 0x10);
  copy(0, host_node, 0x10);
  EXPECT_TRUE(becomes(0, registration::registered));
}

TEST_F(registering, only_blocks_whose_pages_all_exist) {
  cpu_writes(0, all_pages & ~one_page(7));
  for (int i = 0; i < 10; ++i) {
    copy(0, 1, 0xf);
    copy(0, host_node, 0xf);
  }
  cpu_writes(1);
  copy(1, 1);
  copy(1, host_node);
  ASSERT_TRUE(becomes(1, registration::registered)) << "and what was offered before it would be by now";
  EXPECT_EQ(state(0), registration::none);
}

TEST_F(registering, copies_that_do_not_touch_host_memory_do_not_count) {
  start(16, {.devices = 2});
  cpu_writes(0);
  copy(0, 1);
  for (const unsigned to : {2U, 1U, 2U, 1U, 2U, 1U}) {
    lock_guard admission(vm->device(to).admission);
    if (!on({0}, to).has_frame())
      ASSERT_EQ(acquire_piece(*vm, *moves, vm->device(to), {{0}, 1}, victim_class::normal, true), status::ok);
    move* m = moves->take(false);
    copy_plan plan;
    {
      block_guard guard(at({0}).lock);
      ASSERT_EQ(begin_move_locked(*vm, {0}, at({0}), {.destination = to, .pages = all_pages, .exclusive = all_pages},
                                  *m, plan),
                status::ok);
    }
    ASSERT_EQ(submit_move(*moves, m, plan, nullptr), status::ok);
  }
  EXPECT_EQ(at({0}).copied_pages, pages_per_block);
}

TEST_F(registering, the_budget_is_kept_and_room_in_it_is_used) {
  start(2);
  register_block(0);
  register_block(1);
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) {
    for (const std::uint64_t block : {2, 3}) {
      if (i == 0) cpu_writes(block);
      copy(block, 1);
      copy(block, host_node);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(engines.count(), 2U);
  EXPECT_EQ(keeper->registered_bytes(), 2 * block_bytes);
  ASSERT_TRUE(retire_block(0));
  ASSERT_TRUE(becomes(0, registration::none));
  for (int i = 0; i < 2; ++i) {
    copy(2, 1);
    copy(2, host_node);
  }
  EXPECT_TRUE(becomes(2, registration::registered));
  for (int i = 0; i < 2; ++i) {
    copy(3, 1);
    copy(3, host_node);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(state(3), registration::none);
  const std::string said = testing::internal::GetCapturedStderr();
  const std::size_t first = said.find("GM_REGISTERED_BUDGET");
  EXPECT_NE(first, std::string::npos) << said;
  EXPECT_NE(said.find("4 MiB"), std::string::npos) << said;
  EXPECT_EQ(said.find("GM_REGISTERED_BUDGET", first + 1), std::string::npos) << "one warning: " << said;
}

TEST_F(registering, a_refusal_is_told_once_and_nothing_is_lost) {
  engines.refuse = GM_ERROR_PERMISSION;
  testing::internal::CaptureStderr();
  for (std::uint64_t block = 0; block < 4; ++block) {
    cpu_writes(block);
    copy(block, 1);
    copy(block, host_node);
    EXPECT_TRUE(soon([&] { return vm->own_work == 0; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(engines.asked, 1) << "it is not asked again and again";
  EXPECT_EQ(keeper->registered_bytes(), 0U);
  EXPECT_EQ(state(0), registration::none);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("the driver refuses"), std::string::npos) << said;
}

TEST_F(registering, without_a_budget_or_without_a_backend_that_does_it_there_is_no_registrar) {
  start(0);
  EXPECT_EQ(vm->registered, nullptr);
  cpu_writes(0);
  for (int i = 0; i < 4; ++i) {
    copy(0, 1);
    copy(0, host_node);
  }
  EXPECT_EQ(engines.asked, 0);
  keeper = std::make_unique<registrar>(*vm);
  ASSERT_EQ(keeper->start({{test::fake_device::table(), nullptr}}, 16 * block_bytes), status::ok);
  EXPECT_EQ(vm->registered, nullptr);
}

TEST_F(registering, what_a_copy_uses_is_not_retired) {
  register_block(0);
  fake(1).hold = true;
  copy(0, 1, 0x1);
  EXPECT_FALSE(retire_block(0)) << "one page of it is in flight";
  EXPECT_EQ(state(0), registration::registered);
  EXPECT_EQ(engines.retired, 0);
  fake(1).hold = false;
  fake(1).run_all();
  EXPECT_TRUE(retire_block(0));
  EXPECT_EQ(engines.retired, 1);
  EXPECT_TRUE(becomes(0, registration::none));
  EXPECT_EQ(engines.count(), 0U);
}

TEST_F(registering, a_passing_state_counts_as_work_that_ends_and_its_end_is_told) {
  register_block(0);
  engines.stuck = true;
  ASSERT_TRUE(retire_block(0));
  EXPECT_EQ(state(0), registration::unregistering);
  EXPECT_EQ(vm->own_work, 1U);
  EXPECT_TRUE(host_memory_is_coming(*vm, false));
  EXPECT_FALSE(retire_block(0));
  const std::uint32_t room = vm->room_changes.now();
  const std::uint32_t memory = vm->starved.now();
  let_go();
  EXPECT_TRUE(becomes(0, registration::none));
  EXPECT_TRUE(soon([&] { return vm->own_work == 0 && vm->room_changes.now() != room; }));
  EXPECT_NE(vm->starved.now(), memory);
}

TEST_F(registering, host_memory_is_reclaimed_from_what_is_loose_first) {
  register_block(0);
  cpu_writes(1);
  copy(0, 1);
  copy(1, 1);  // both only on the device; the host memory of both is kept
  EXPECT_EQ(reclaim_host_pages(*vm, pages_per_block, host_node), pages_per_block);
  EXPECT_EQ(at({1}).backed, no_pages);
  EXPECT_EQ(state(0), registration::registered);
  EXPECT_EQ(reclaim_host_pages(*vm, 1, host_node), 0U) << "not yet";
  EXPECT_TRUE(becomes(0, registration::none));
  EXPECT_EQ(at({0}).backed, all_pages);
  EXPECT_EQ(reclaim_host_pages(*vm, pages_per_block, host_node), pages_per_block);
  EXPECT_EQ(at({0}).backed, no_pages);
}

TEST_F(registering, no_more_is_unregistered_than_has_to_be) {
  for (const std::uint64_t block : {0, 1, 2}) {
    register_block(block);
    copy(block, 1);
  }
  engines.stuck = true;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(reclaim_host_pages(*vm, 3, host_node), 0U);
  EXPECT_EQ(engines.retired, 1);
  let_go();
  EXPECT_TRUE(soon([&] { return reclaim_host_pages(*vm, 3, host_node) == 3; }));
  EXPECT_EQ(engines.count(), 2U);
}

TEST_F(registering, freed_memory_goes_when_it_is_loose) {
  register_block(0);
  register_block(3);
  engines.stuck = true;
  ASSERT_TRUE(retire(*everything));
  reclaim(*vm, *everything);
  EXPECT_EQ(vm->deferred_frees, 1U);
  EXPECT_EQ(at({0}).backed, all_pages);
  EXPECT_EQ(engines.retired, 2);
  let_go();
  EXPECT_TRUE(soon([&] { return vm->deferred_frees == 0; }));
  EXPECT_EQ(engines.count(), 0U);
  EXPECT_EQ(at({0}).backed, no_pages);
  EXPECT_EQ(vm->host.used(), 0U);
}

TEST_F(registering, a_free_that_meets_a_copy_and_a_registration_waits_for_both) {
  register_block(0);
  fake(1).hold = true;
  copy(0, 1, 0x2);
  ASSERT_TRUE(retire(*everything));
  reclaim(*vm, *everything);
  EXPECT_EQ(vm->deferred_frees, 1U);
  EXPECT_EQ(engines.retired, 0);
  fake(1).hold = false;
  fake(1).run_all();
  EXPECT_TRUE(soon([&] { return vm->deferred_frees == 0; }));
  EXPECT_EQ(engines.count(), 0U);
}

TEST_F(registering, a_free_in_the_middle_of_registering_waits_for_it) {
  engines.stuck = true;
  cpu_writes(0);
  copy(0, 1);
  copy(0, host_node);
  ASSERT_TRUE(becomes(0, registration::registering));
  ASSERT_TRUE(retire(*everything));
  reclaim(*vm, *everything);
  EXPECT_EQ(vm->deferred_frees, 1U);
  let_go();
  EXPECT_TRUE(soon([&] { return vm->deferred_frees == 0; }));
  EXPECT_EQ(engines.count(), 0U);
  EXPECT_EQ(vm->host.used(), 0U);
}

TEST_F(registering, zeroes_of_an_evicted_block_stay_on_the_host_where_its_memory_must) {
  register_block(0);
  {
    // As a discard leaves them on the device: zero, clean, and nobody else's.
    block_guard guard(at({0}).lock);
    ASSERT_EQ(revoke_cpu_locked(*vm, {0}, at({0}), all_pages), status::ok);
    make_exclusive_locked(*vm, {0}, at({0}), 1, all_pages);
    on({0}, 1).dirty = no_pages;
  }
  for (unsigned page = 0; page < pages_per_block; ++page) paint(device_page({0}, page, 1), 0);
  {
    lock_guard guard(vm->device(1).admission);
    ASSERT_EQ(make_room(*vm, *moves, vm->device(1), vm->device(1).pool.capacity()), status::ok);
  }
  EXPECT_EQ(at({0}).host().valid, all_pages);
  EXPECT_EQ(at({0}).backed, all_pages);
  EXPECT_TRUE(painted(host_page({0}, 5), 0));
  EXPECT_EQ(state(0), registration::registered);
}

TEST_F(registering, any_number_can_be_retired_at_once) {
  for (std::uint64_t block = 0; block < 8; ++block) register_block(block);
  engines.stuck = true;
  for (std::uint64_t block = 0; block < 8; ++block) EXPECT_TRUE(retire_block(block));
  EXPECT_EQ(keeper->registered_bytes(), 8 * block_bytes) << "until they are loose";
  let_go();
  for (std::uint64_t block = 0; block < 8; ++block) EXPECT_TRUE(becomes(block, registration::none));
  EXPECT_TRUE(soon([&] { return keeper->registered_bytes() == 0; }));
}

TEST_F(registering, blocks_are_made_loose_in_turn) {
  for (const std::uint64_t block : {0, 1, 2, 3}) {
    register_block(block);
    copy(block, 1);
  }
  std::string order;
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(reclaim_host_pages(*vm, 1, host_node), 0U);
    for (std::uint64_t block = 0; block < 4; ++block) {
      if (state(block) == registration::registered) continue;
      order += std::to_string(block);
      ASSERT_TRUE(becomes(block, registration::none));
      copy(block, host_node);
      copy(block, 1);
      ASSERT_TRUE(becomes(block, registration::registered));
    }
  }
  EXPECT_EQ(order, "012301");
}

TEST_F(registering, one_backend_of_two_is_enough) {
  keeper.reset();
  driver second;
  second.refuse = GM_ERROR_NO_MEMORY;
  keeper = std::make_unique<registrar>(*vm);
  ASSERT_EQ(keeper->start({engines.as_backend(), second.as_backend()}, 16 * block_bytes), status::ok);
  register_block(0);
  EXPECT_EQ(engines.count(), 1U);
  EXPECT_EQ(second.count(), 0U);
}

}  // namespace
}  // namespace gm
