// SPDX-License-Identifier: Apache-2.0
// What kernels stand on that fetch their own pages, where a GPU's driver is awkward about it.
#include <cstring>
#include <thread>

#include "fake_gpu/fake_gpu_fixture.h"

namespace gm::conformance {
namespace {

class gpu_demand_test : public fake_gpu_test {
 protected:
  std::uint64_t create_table(std::uint64_t size) {
    std::uint64_t address = 0;
    EXPECT_EQ(table->table_reserve(devices[0], size, &address), GM_OK) << error();
    EXPECT_EQ(table->table_extend(devices[0], address, size), GM_OK) << error();
    return address;
  }
  std::uint64_t lasting(std::uint64_t address) {
    std::uint64_t result = 0;
    EXPECT_EQ(table->lasting_address(devices[0], address, &result), GM_OK) << error();
    return result;
  }
  std::uint64_t word_at(std::uint64_t address) {
    std::uint64_t word = 0;
    EXPECT_TRUE(gpu->read(0, address, &word, sizeof word));
    return word;
  }
};

TEST_F(gpu_demand_test, a_kernel_still_reads_frames_that_went_back) {
  // More frames than are kept otherwise, and all that there are: new ones are made of what went back.
  ASSERT_NO_FATAL_FAILURE(open_machine("memory=80M"));
  ASSERT_TRUE(can(has_access_maps));
  const std::uint64_t free_before = info(devices[0]).free_bytes;
  std::vector<piece> pieces;
  std::vector<std::uint64_t> addresses;
  for (int i = 0; i < 40; ++i) pieces.push_back(create_piece());
  for (const piece& each : pieces) addresses.push_back(lasting(each.address));
  for (const piece& each : pieces) destroy_piece(each);
  std::uint8_t byte = 0;
  for (const std::uint64_t each : addresses) EXPECT_TRUE(gpu->read(0, each + 77, &byte, 1));
  EXPECT_EQ(info(devices[0]).free_bytes, free_before) << "nobody else can have them, but we can";
  // They are what the next pieces are made of, and keep their addresses.
  std::vector<std::uint64_t> again;
  for (int i = 0; i < 40; ++i) again.push_back(lasting(create_piece().address));
  std::sort(addresses.begin(), addresses.end());
  std::sort(again.begin(), again.end());
  EXPECT_EQ(again, addresses);
}

TEST_F(gpu_demand_test, all_of_a_devices_memory_may_have_lasting_addresses) {
  ASSERT_NO_FATAL_FAILURE(open_machine("memory=32M"));
  for (int i = 0; i < 16; ++i) lasting(create_piece().address);
  std::uint64_t none = 0;
  EXPECT_EQ(table->piece_create(devices[0], 100 * frame_bytes, 1, &none), GM_ERROR_NO_MEMORY);
}

TEST_F(gpu_demand_test, a_driver_that_maps_a_frame_only_once_serves_no_demand_and_has_a_window) {
  for (const char* machine : {"maps_twice=0", "aliases_agree=0", "pins=0"}) {
    testing::internal::CaptureStderr();
    ASSERT_NO_FATAL_FAILURE(open_machine(machine));
    EXPECT_NE(testing::internal::GetCapturedStderr().find("kernels cannot fetch their own pages"), std::string::npos);
    EXPECT_TRUE(can(has_window)) << machine;
    EXPECT_FALSE(can(has_access_maps)) << machine;
    EXPECT_EQ(info(devices[0]).pool_base, 0u);
    stream* on = create_stream();
    const piece memory = create_piece();
    upload(on, memory.address, bytes(100, 3));
    EXPECT_EQ(download(on, memory.address, 100), bytes(100, 3));
    close_session();
    devices.clear();
    EXPECT_EQ(gpu->count(), census{});
  }
}

// A fill is a kernel, and this one leaves room for no other.
TEST_F(gpu_demand_test, a_kernel_that_holds_the_whole_device_is_brought_what_it_waits_for) {
  for (const char* machine : {"kernels_take_all,aliases_lag", "kernels_take_all,aliases_lag,writes=0",
                              "kernels_take_all,aliases_lag,batches=0,devices=2"}) {
    // Whoever brings it need not know of the second address.
    ASSERT_NO_FATAL_FAILURE(open_machine(machine));
    const std::uint64_t word = create_table(64 * kib);
    const piece memory = create_piece();
    const std::uint64_t stays = lasting(memory.address);
    stream* on = create_stream();
    stream* beside = create_stream(stream_independent);
    struct waiting {
      const controls* gpu;
      std::uint64_t word;
      std::uint64_t stays;
      bytes seen = bytes(2 * mib, 0xEE);
      std::atomic<bool> has_seen{false};

      static void run(void* argument) {
        auto& self = *static_cast<waiting*>(argument);
        for (int i = 0; i < 5000 && !self.has_seen; ++i) {
          std::uint64_t now = 0;
          self.has_seen = self.gpu->read(0, self.word, &now, sizeof now) && now == 42;
          if (!self.has_seen) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        EXPECT_TRUE(self.gpu->read(0, self.stays, self.seen.data(), self.seen.size()));
      }
    } kernel{gpu, word, stays};
    native_stream native{};
    ASSERT_EQ(table->stream_native(on, &native), GM_OK);
    ASSERT_TRUE(gpu->launch(native.handle, &waiting::run, &kernel));
    const bytes data = random_bytes(64 * kib, 5);
    const fill_run zeroed{memory.address, 200 * kib, 0};
    const copy_run in{memory.address + mib, address_of(data.data()), data.size(), direction::host_to_device};
    const word_write done{word, 42};
    std::uint64_t second = 0;
    ASSERT_EQ(table->table_reserve(devices[0], 100, &second), GM_OK);
    EXPECT_EQ(table->table_extend(devices[0], second, 100), GM_OK) << "tables grow beside it";
    outcome result;
    ASSERT_EQ(table->transfer_and_write(beside, &zeroed, 1, &in, 1, &done, 1, &outcome::record, &result, nullptr),
              GM_OK);
    wait_all(on);
    EXPECT_TRUE(kernel.has_seen) << machine;
    wait_all(beside);
    EXPECT_EQ(result.status, GM_OK);
    kernel.seen.resize(mib + data.size());
    EXPECT_TRUE(std::equal(data.begin(), data.end(), kernel.seen.begin() + mib)) << machine;
    EXPECT_TRUE(std::all_of(kernel.seen.begin(), kernel.seen.begin() + 200 * kib, [](int each) { return each == 0; }));
    EXPECT_EQ(download(on, memory.address, 200 * kib), bytes(200 * kib, 0));
    EXPECT_EQ(download(on, memory.address + mib, data.size()), data);
    close_session();
    devices.clear();
  }
}

TEST_F(gpu_demand_test, a_mailbox_is_pinned_reached_by_kernels_and_used_again) {
  ASSERT_NO_FATAL_FAILURE(open_machine("devices=2"));
  void* host = nullptr;
  std::uint64_t address = 0;
  ASSERT_EQ(table->mailbox_create(devices[0], 100 * kib, &host, &address), GM_OK) << error();
  const std::uint64_t sent = 0x1122334455667788;
  EXPECT_TRUE(gpu->write(0, address + 64, &sent, sizeof sent));
  std::uint64_t got = 0;
  std::memcpy(&got, static_cast<std::byte*>(host) + 64, sizeof got);
  EXPECT_EQ(got, sent);
  const std::uint64_t blocked = gpu->blocked_calls();
  stream* on = create_stream();
  const piece memory = create_piece();
  ASSERT_EQ(copy(on, memory.address, address_of(host), 100 * kib, direction::host_to_device), GM_OK);
  wait_all(on);
  EXPECT_EQ(gpu->blocked_calls(), blocked);
  const int pinned = gpu->count().pinned_allocations;
  table->mailbox_destroy(devices[0], host);
  void* again = nullptr;
  ASSERT_EQ(table->mailbox_create(devices[0], 100 * kib, &again, &address), GM_OK);
  EXPECT_EQ(again, host);
  EXPECT_EQ(gpu->count().pinned_allocations, pinned);
  std::memcpy(&got, static_cast<std::byte*>(again) + 64, sizeof got);
  EXPECT_EQ(got, 0u);
  // Left behind: it goes with the device.
}

TEST_F(gpu_demand_test, a_table_that_finds_no_memory_grows_when_there_is_some) {
  ASSERT_NO_FATAL_FAILURE(open_machine("memory=16M"));
  std::vector<piece> pieces;
  for (int i = 0; i < 7; ++i) pieces.push_back(create_piece());
  std::uint64_t at = 0;
  ASSERT_EQ(table->table_reserve(devices[0], 5 * mib, &at), GM_OK);
  EXPECT_EQ(table->table_extend(devices[0], at, 5 * mib), GM_ERROR_NO_MEMORY);
  EXPECT_NE(error().find("out of memory"), std::string::npos) << error();
  for (const piece& each : pieces) destroy_piece(each);
  EXPECT_EQ(table->table_extend(devices[0], at, 5 * mib), GM_OK) << error();
  EXPECT_EQ(word_at(at + 5 * mib - 8), 0u);
  EXPECT_EQ(table->table_extend(devices[0], at, 7 * mib), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(table->table_extend(devices[0], at - 8, 8), GM_ERROR_INVALID_ARGUMENT);
}

TEST_F(gpu_demand_test, a_word_that_lies_across_two_is_refused) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  const word_write word{create_table(100) + 4, 1};
  stream* on = create_stream();
  EXPECT_EQ(table->transfer_and_write(on, nullptr, 0, nullptr, 0, &word, 1, nullptr, nullptr, nullptr),
            GM_ERROR_INVALID_ARGUMENT);
}

TEST_F(gpu_demand_test, a_lost_device_says_so_to_everything) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  const std::uint64_t at = create_table(100);
  const piece memory = create_piece();
  stream* on = create_stream();
  gpu->lose(0);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  const auto is_lost = [&](gm_status status) {
    EXPECT_EQ(status, GM_ERROR_DEVICE);
    EXPECT_NE(error().find("has fallen off the bus"), std::string::npos) << error();
  };
  std::uint64_t address = 0;
  void* host = nullptr;
  const word_write word{at, 1};
  is_lost(table->lasting_address(devices[0], memory.address, &address));
  is_lost(table->table_reserve(devices[0], 100, &address));
  is_lost(table->table_extend(devices[0], at, 100));
  is_lost(table->mailbox_create(devices[0], 100, &host, &address));
  is_lost(table->transfer_and_write(on, nullptr, 0, nullptr, 0, &word, 1, nullptr, nullptr, nullptr));
}

}  // namespace
}  // namespace gm::conformance
