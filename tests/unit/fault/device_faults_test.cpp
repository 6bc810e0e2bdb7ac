// SPDX-License-Identifier: Apache-2.0
// device_faults_test.cpp - the thread that serves kernels, over a fake device: what is told when nothing comes.
#include "fault/device_faults.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

#include "unit/small_vm.h"

namespace gm {
namespace {

class serving_kernels : public test::small_vm {
 protected:
  void SetUp() override {
    build({.devices = 1, .frames = 4});
    data_ = allocate(2 * block_bytes).bytes();
    faults_ = std::make_unique<device_faults>(*vm, *moves, vm->device(1), thrash_);
    faults_->answers().within_ns = within_ns();
    ASSERT_EQ(faults_->start(), status::ok) << last_error();
    range_ = {data_, GM_READ_WRITE, true};
    lease_.ranges = {&range_, 1};
    lease_.node = 1;
    lease_order order;
    ASSERT_EQ(vm->leases.begin_or_wait(lease_, conflicts::order, order), status::ok);
    ASSERT_EQ(faults_->map().extend(data_), status::ok);
    ASSERT_EQ(faults_->map().take_scope(scope_), status::ok);
    device::fence ready;
    ASSERT_EQ(faults_->map().prepare_kernels(scope_, ready), status::ok);
    view_ = faults_->map().view_of(data_, scope_, true);
    faults_->begin_scope(scope_, lease_.ranges, nullptr, {told, this});
  }
  void TearDown() override {
    fake(1).run_all();
    faults_->end_scope(scope_);
    faults_->map().release_scope(scope_);
    vm->leases.release(lease_);
    vm->leases.remove(lease_);
    fake(1).hold = false;
    while (vm->moves_in_flight.load() != 0) {
      fake(1).run_all();
      std::this_thread::yield();
    }
    faults_->stop();
    vm->maps[1].store(nullptr);
    fake(1).run_all();
    faults_.reset();
    small_vm::TearDown();
  }

  virtual std::uint64_t within_ns() const { return 20'000'000'000; }
  static void told(void* self, status why, const char* words) {
    auto* test = static_cast<serving_kernels*>(self);
    test->words_ = words;
    test->why_.store(static_cast<int>(why));
  }
  template <typename F>
  static bool soon(F&& holds) {
    for (int i = 0; i < 5000 && !holds(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return holds();
  }
  std::uint64_t entry(std::uint64_t page) const {
    return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(view_.entries[page])).load();
  }
  void post(std::uint64_t page, bool to_write) const {
    std::uint64_t& tickets = view_.control->tickets;
    const std::uint64_t ticket = tickets++;
    const std::uint64_t slots = std::atomic_ref<std::uint64_t>(view_.control->slots).load();
    const std::uint64_t turn = (ticket / slots + 1) & GM_REQUEST_TURN_MASK;
    std::atomic_ref<std::uint64_t>(reinterpret_cast<std::uint64_t*>(view_.control->ring)[ticket])
        .store((view_.first_page + page) | std::uint64_t{to_write ? 1U : 0U} << GM_REQUEST_WRITE_SHIFT |
                   std::uint64_t{scope_} << GM_REQUEST_SCOPE_SHIFT | turn << GM_REQUEST_TURN_SHIFT,
               std::memory_order_release);
  }

  byte_range data_{};
  bounces thrash_;
  std::unique_ptr<device_faults> faults_;
  leased_range range_{};
  lease lease_;
  unsigned scope_ = 0;
  gm_view_data view_{};
  std::string words_;
  std::atomic<int> why_{GM_OK};
};

class silent_device : public serving_kernels {
 protected:
  std::uint64_t within_ns() const override { return 400'000'000; }
};

TEST_F(silent_device, is_not_one_that_answers) {
  post(3, false);
  EXPECT_TRUE(soon([&] { return (entry(3) & GM_MAP_PRESENT) != 0; }));
  EXPECT_EQ(entry(3) & GM_MAP_WRITABLE, 0U);
  post(3, true);
  EXPECT_TRUE(soon([&] { return (entry(3) & GM_MAP_WRITABLE) != 0; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  EXPECT_EQ(why_, GM_OK) << words_ << ": it answers";
}

TEST_F(silent_device, is_reported_with_the_pages_that_wait) {
  fake(1).hold = true;
  post(3, false);
  post(40, true);
  ASSERT_TRUE(soon([&] { return why_ != GM_OK; }));
  EXPECT_EQ(why_, GM_ERROR_DEVICE);
  EXPECT_NE(words_.find("has not answered"), std::string::npos) << words_;
  EXPECT_NE(words_.find("2 pages"), std::string::npos) << words_;
  char address[32];
  std::snprintf(address, sizeof address, "%p", static_cast<void*>(vm->memory.user(data_.begin + 3 * page_bytes)));
  EXPECT_NE(words_.find(address), std::string::npos) << words_;
}

TEST_F(silent_device, is_reported_with_each_page_once) {
  fake(1).hold = true;
  post(3, false);
  ASSERT_TRUE(soon([&] { return at(block_of(data_.begin)).busy.load() != no_pages; }));
  post(3, true);  // waits until the page that is on its way has come
  ASSERT_TRUE(soon([&] { return why_ != GM_OK; }));
  EXPECT_NE(words_.find(": 1 pages"), std::string::npos) << words_;
}

TEST_F(silent_device, is_served_on_when_it_answers_late) {
  fake(1).hold = true;
  post(3, false);
  ASSERT_TRUE(soon([&] { return why_ == GM_ERROR_DEVICE; }));
  fake(1).hold = false;
  fake(1).run_all();
  EXPECT_TRUE(soon([&] { return (entry(3) & GM_MAP_PRESENT) != 0; })) << "for who has not been told";
}

TEST_F(serving_kernels, a_copy_that_fails_is_told) {
  fake(1).hold = true;
  post(3, false);
  ASSERT_TRUE(soon([&] {
    while (why_ == GM_OK && fake(1).held_on(fake(1).to_device()) != 0)
      fake(1).run_next(fake(1).to_device(), GM_ERROR_DEVICE);
    return why_ == GM_ERROR_DEVICE;
  }));
  EXPECT_NE(words_.find("copying them failed"), std::string::npos) << words_;
  fake(1).hold = false;
}

}  // namespace
}  // namespace gm
