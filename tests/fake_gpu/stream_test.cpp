// SPDX-License-Identifier: Apache-2.0
// What GPU backends do with streams: the program's own and its kernels, the order of callbacks, the current device.
#include <chrono>
#include <thread>

#include "fake_gpu/fake_gpu_fixture.h"

namespace gm::conformance {
namespace {

class gpu_stream_test : public fake_gpu_test {
 protected:
  // A "kernel" that adds one to each byte of device memory.
  struct increment {
    const controls* gpu;
    std::uint64_t address;
    std::size_t count;
    static void run(void* argument) {
      const auto* const self = static_cast<increment*>(argument);
      bytes data(self->count);
      ASSERT_TRUE(self->gpu->read(0, self->address, data.data(), data.size()));
      for (std::uint8_t& each : data) ++each;
      ASSERT_TRUE(self->gpu->write(0, self->address, data.data(), data.size()));
    }
  };
  void* native_of(stream* which) {
    native_stream found{};
    EXPECT_EQ(table->stream_native(which, &found), GM_OK);
    EXPECT_EQ(found.device, 0);
    return found.handle;
  }
};

TEST_F(gpu_stream_test, kernels_on_the_native_handle_are_in_the_streams_order) {
  for (const char* machine : {"", "delay_us=200", "waits=0"}) {
    ASSERT_NO_FATAL_FAILURE(open_machine(machine));
    stream* on = create_stream();
    const piece memory = create_piece();
    increment kernel{gpu, memory.address, 5000};
    bytes host(kernel.count, 3);
    for (int round = 0; round < 20; ++round) {
      ASSERT_EQ(copy(on, memory.address, address_of(host.data()), host.size(), direction::host_to_device), GM_OK);
      ASSERT_TRUE(gpu->launch(native_of(on), &increment::run, &kernel));
      ASSERT_EQ(copy(on, address_of(host.data()), memory.address, host.size(), direction::device_to_host), GM_OK);
    }
    ASSERT_EQ(table->stream_synchronize(on), GM_OK);
    EXPECT_EQ(host, bytes(kernel.count, 23));
    close_session();
    devices.clear();
  }
}

TEST_F(gpu_stream_test, a_fence_covers_what_was_launched_before_it) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  stream* on = create_stream();
  std::atomic<int> ran{0};
  const auto slow = [](void* counter) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    ++*static_cast<std::atomic<int>*>(counter);
  };
  for (int i = 1; i <= 5; ++i) {
    ASSERT_TRUE(gpu->launch(native_of(on), slow, &ran));
    wait_all(on);
    EXPECT_EQ(ran, i);
  }
  ASSERT_TRUE(gpu->launch(native_of(on), slow, &ran));
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(ran, 6);
  ASSERT_TRUE(gpu->launch(native_of(on), slow, &ran));
  destroy_stream(on);
  EXPECT_EQ(ran, 7);
}

TEST_F(gpu_stream_test, a_stream_of_the_programs_is_used_and_left_alone) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  void* native = gpu->create_stream(0);
  const int streams = gpu->count().streams;
  stream* on = nullptr;
  ASSERT_EQ(table->stream_from_native(devices[0], native, &on), GM_OK) << error();
  EXPECT_EQ(native_of(on), native);
  const piece memory = create_piece();
  increment kernel{gpu, memory.address, 1000};
  ASSERT_EQ(fill(on, memory.address, 1000, 41), GM_OK);
  ASSERT_TRUE(gpu->launch(native, &increment::run, &kernel));
  EXPECT_EQ(download(on, memory.address, 1000), bytes(1000, 42));
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  table->stream_destroy(on);
  EXPECT_EQ(gpu->count().streams, streams);
  std::atomic<bool> ran{false};
  EXPECT_TRUE(gpu->launch(
      native, [](void* flag) { *static_cast<std::atomic<bool>*>(flag) = true; }, &ran));
  gpu->destroy_stream(native);
  EXPECT_TRUE(ran);
}

TEST_F(gpu_stream_test, what_is_no_stream_is_refused) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  stream* on = nullptr;
  EXPECT_EQ(table->stream_from_native(devices[0], nullptr, &on), GM_ERROR_DEVICE);
  EXPECT_EQ(on, nullptr);
  EXPECT_NE(error().find("invalid resource handle"), std::string::npos);
}

TEST_F(gpu_stream_test, the_callers_current_device_stays) {
  ASSERT_NO_FATAL_FAILURE(open_machine("devices=3"));
  gpu->set_current_device(1);
  stream* on = create_stream(stream_ordinary, 2);
  const piece memory = create_piece(1, 2);
  const bytes data = random_bytes(1000, 1);
  upload(on, memory.address, data);
  EXPECT_EQ(download(on, memory.address, data.size()), data);
  stream* other = create_stream(stream_independent, 0);
  gate& held = close_gate(on);
  ASSERT_EQ(table->stream_wait(other, record_fence(on)), GM_OK);
  ASSERT_EQ(table->fence_record(other, nullptr, nullptr, nullptr), GM_OK);
  held.open();
  EXPECT_EQ(table->stream_synchronize(other), GM_OK);
  destroy_piece(memory);
  destroy_stream(on);
  EXPECT_EQ(gpu->current_device(), 1);
  gpu->set_current_device(-1);
}

TEST_F(gpu_stream_test, callbacks_behind_a_wait_come_after_those_waited_for) {
  // The device may be far ahead of the callbacks; their order is the host's to keep.
  ASSERT_NO_FATAL_FAILURE(open_machine("devices=2"));
  order_log log;
  stream* first = create_stream(stream_independent);
  stream* second = create_stream(stream_ordinary, 1);
  stream* third = create_stream();
  struct slow_note {
    order_log::ticket* where;
    static void write(void* argument, gm_status status) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      order_log::on_done(static_cast<slow_note*>(argument)->where, status);
    }
  };
  for (int round = 0; round < 10; ++round) {
    slow_note slow{log.ticket_for(3 * round)};
    fence end;
    ASSERT_EQ(table->fence_record(first, &slow_note::write, &slow, &end), GM_OK);
    ASSERT_EQ(table->stream_wait(second, end), GM_OK);
    ASSERT_EQ(table->fence_record(second, &order_log::on_done, log.ticket_for(3 * round + 1), &end), GM_OK);
    ASSERT_EQ(table->stream_wait(third, end), GM_OK);
    ASSERT_EQ(table->fence_record(third, &order_log::on_done, log.ticket_for(3 * round + 2), &end), GM_OK);
    table->fence_wait(end);
  }
  EXPECT_EQ(log.numbers(), count_to(30));
}

TEST_F(gpu_stream_test, device_work_behind_a_wait_waits_on_the_device) {
  ASSERT_NO_FATAL_FAILURE(open_machine("delay_us=100"));
  const piece memory = create_piece();
  increment kernel{gpu, memory.address, 100};
  stream* streams[2] = {create_stream(), create_stream()};
  ASSERT_EQ(fill(streams[0], memory.address, 100, 0), GM_OK);
  fence last = record_fence(streams[0]);
  for (int i = 1; i <= 40; ++i) {
    ASSERT_EQ(table->stream_wait(streams[i % 2], last), GM_OK);
    ASSERT_TRUE(gpu->launch(native_of(streams[i % 2]), &increment::run, &kernel));
    last = record_fence(streams[i % 2]);
  }
  table->fence_wait(last);
  EXPECT_EQ(download(streams[0], memory.address, 100), bytes(100, 40));
}

TEST_F(gpu_stream_test, calls_of_many_streams_block_at_once) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  std::vector<gate*> gates;
  for (int i = 0; i < 12; ++i) gates.push_back(&close_gate(create_stream()));
  for (gate* each : gates) each->wait_entered();
  stream* free = create_stream(stream_independent);
  const piece memory = create_piece();
  upload(free, memory.address, bytes(100, 1));
  for (gate* each : gates) each->open();
}

TEST_F(gpu_stream_test, events_are_used_again) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  stream* on = create_stream();
  for (int i = 0; i < 1000; ++i) wait_all(on);
  EXPECT_LE(gpu->count().events, 4);
}

}  // namespace
}  // namespace gm::conformance
