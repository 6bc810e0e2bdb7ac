// SPDX-License-Identifier: Apache-2.0
// Copies whose host memory is not registered: through pinned chunks, whatever their size and however many at once, and
// through pageable memory where there are no chunks.
#include <functional>
#include <thread>

#include "device/gpu/staging_sizes.h"
#include "fake_gpu/fake_gpu_fixture.h"

namespace gm::conformance {
namespace {

using gpu::chunk_bytes;
using gpu::chunks_count;
using gpu::chunks_held_max;

constexpr std::uint64_t held_bytes_max =
    chunks_held_max * chunk_bytes;  // of one transfer, before it uses a chunk again

class staging_test : public fake_gpu_test {
 protected:
  // Device memory in one piece, four times as large as the chunks of one step.
  piece create_large_piece(std::size_t device_number = 0) {
    return create_piece(static_cast<std::uint32_t>(4 * held_bytes_max / frame_bytes), device_number);
  }
  std::uint64_t blocked() const { return gpu->blocked_calls(); }

  // Up and down again, at an odd offset on either side; the bytes around stay.
  void there_and_back(stream* on, const piece& memory, std::size_t count, std::uint32_t seed) {
    const bytes sent = random_bytes(count + 2, seed);
    bytes received(count + 2, 0xAB);
    const copy_run up{memory.address + 3, address_of(sent.data()) + 1, count, direction::host_to_device};
    const copy_run down{address_of(received.data()) + 1, memory.address + 3, count, direction::device_to_host};
    ASSERT_EQ(table->transfer(on, nullptr, 0, &up, 1, nullptr, nullptr, nullptr), GM_OK) << error();
    ASSERT_EQ(table->transfer(on, nullptr, 0, &down, 1, nullptr, nullptr, nullptr), GM_OK) << error();
    ASSERT_EQ(table->stream_synchronize(on), GM_OK) << error();
    ASSERT_TRUE(std::equal(sent.begin() + 1, sent.end() - 1, received.begin() + 1)) << count << " bytes";
    ASSERT_EQ(received.front(), 0xAB);
    ASSERT_EQ(received.back(), 0xAB);
  }
};

// Without a window a piece may be as large as a test needs.
constexpr const char* plain_machine = "maps=0,memory=256M";

TEST_F(staging_test, every_size_arrives_and_blocks_nobody) {
  for (const char* delay : {"", ",delay_us=50"}) {
    ASSERT_NO_FATAL_FAILURE(open_machine(std::string(plain_machine) + delay));
    stream* on = create_stream();
    const piece memory = create_large_piece();
    const std::uint64_t before = blocked();
    std::uint32_t seed = 1;
    for (const std::uint64_t around :
         {std::uint64_t{1}, 64 * kib, chunk_bytes, 2 * chunk_bytes, 8 * chunk_bytes,
          (chunks_held_max - 1) * chunk_bytes, held_bytes_max, held_bytes_max + 5 * chunk_bytes}) {
      for (const std::uint64_t count : {around - 1, around, around + 1}) {
        if (count != 0) ASSERT_NO_FATAL_FAILURE(there_and_back(on, memory, count, seed++));
      }
    }
    EXPECT_EQ(blocked(), before);
    close_session();
    devices.clear();
  }
}

TEST_F(staging_test, many_runs_of_one_unit_go_where_they_belong) {
  ASSERT_NO_FATAL_FAILURE(open_machine(std::string(plain_machine) + ",delay_us=20"));
  stream* on = create_stream();
  const piece memory = create_large_piece();
  const std::uint64_t before = blocked();
  for (const std::uint64_t each : {std::uint64_t{100}, 20 * kib, chunk_bytes + 7}) {
    constexpr std::size_t runs = 50;
    const bytes sent = random_bytes(runs * each, 7);
    bytes received(sent.size());
    std::vector<copy_run> up;
    std::vector<copy_run> down;
    for (std::size_t i = 0; i < runs; ++i) {
      const std::uint64_t there = memory.address + (runs - 1 - i) * each;  // backwards, so that none are neighbours
      up.push_back({there, address_of(sent.data()) + i * each, each, direction::host_to_device});
      down.push_back({address_of(received.data()) + i * each, there, each, direction::device_to_host});
    }
    ASSERT_EQ(table->transfer(on, nullptr, 0, up.data(), runs, nullptr, nullptr, nullptr), GM_OK);
    ASSERT_EQ(table->transfer(on, nullptr, 0, down.data(), runs, nullptr, nullptr, nullptr), GM_OK);
    ASSERT_EQ(table->stream_synchronize(on), GM_OK) << error();
    ASSERT_EQ(received, sent) << each;
  }
  EXPECT_EQ(blocked(), before);
}

TEST_F(staging_test, runs_of_one_unit_see_what_those_before_them_wrote) {
  ASSERT_NO_FATAL_FAILURE(open_machine(std::string(plain_machine) + ",delay_us=50"));
  stream* on = create_stream();
  const piece memory = create_large_piece();
  constexpr std::uint64_t count = mib + 11;
  const bytes sent = random_bytes(count, 8);
  bytes between(count);
  bytes received(count);
  registered_bytes locked(*this, 2 * mib);
  const std::uint64_t first = memory.address;
  const std::uint64_t second = first + 2 * mib;
  const std::uint64_t third = first + 4 * mib;
  const fill_run fill{first, count, 9};
  // Each reads what the one before it wrote: staged or not, from the host, on the device and to the host.
  const copy_run runs[] = {
      {first, address_of(sent.data()), count, direction::host_to_device},
      {second, first, count, direction::device_to_device},
      {address_of(between.data()), second, count, direction::device_to_host},
      {third, address_of(between.data()), count, direction::host_to_device},
      {locked.address(), third, count, direction::device_to_host},
      {first, locked.address(), count, direction::host_to_device},
      {address_of(received.data()), first, count, direction::device_to_host},
  };
  ASSERT_EQ(table->transfer(on, &fill, 1, runs, std::size(runs), nullptr, nullptr, nullptr), GM_OK);
  ASSERT_EQ(table->stream_synchronize(on), GM_OK) << error();
  EXPECT_EQ(received, sent);
}

TEST_F(staging_test, registered_memory_goes_directly_also_where_the_host_is_asked_first) {
  ASSERT_NO_FATAL_FAILURE(open_machine("pins=0"));
  stream* on = create_stream();
  const piece memory = create_piece();
  registered_bytes locked(*this, mib, 5);
  const std::uint64_t before = blocked();
  const copy_run up{memory.address, locked.address(), mib, direction::host_to_device};
  const auto yes = [](void*) { return GM_OK; };
  ASSERT_EQ(table->transfer_if(on, yes, nullptr, 0, &up, 1, nullptr, nullptr, nullptr), GM_OK);
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(blocked(), before) << "a pageable copy would have blocked";
}

TEST_F(staging_test, without_pinned_memory_copies_go_the_drivers_way) {
  for (const char* machine : {"maps=0,memory=256M,pins=0", "maps=0,memory=256M,lockable=1M"}) {
    testing::internal::CaptureStderr();
    ASSERT_NO_FATAL_FAILURE(open_machine(machine));
    stream* on = create_stream();
    const piece memory = create_large_piece();
    const std::uint64_t before = blocked();
    ASSERT_NO_FATAL_FAILURE(there_and_back(on, memory, held_bytes_max + 1, 3));
    EXPECT_GT(blocked(), before);
    EXPECT_EQ(gpu->count().pinned_allocations, 0);
    close_session();
    devices.clear();
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find("no pinned memory (out of memory)"), std::string::npos) << said;
    EXPECT_EQ(said.find("no pinned memory"), said.rfind("no pinned memory")) << "once";
  }
}

// ---- Several at once -----------------------------------------------------------------------------------------------

TEST_F(staging_test, streams_that_stage_at_once_do_not_mix_and_do_not_wait_for_each_other) {
  // With two devices and more streams than there are chunks for: some of them take what is left, some find none.
  for (const char* machine : {"devices=2,maps=0,memory=256M", "devices=2,maps=0,memory=256M,delay_us=30"}) {
    ASSERT_NO_FATAL_FAILURE(open_machine(machine));
    constexpr std::size_t streams_count = 8;
    static_assert(streams_count * held_bytes_max > chunks_count * chunk_bytes);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < streams_count; ++i) {
      stream* on = create_stream(i % 3 == 0 ? stream_independent : stream_ordinary, i % 2);
      const piece memory = create_large_piece(i % 2);
      threads.emplace_back([this, on, memory, i] {
        for (std::uint32_t round = 0; round < 3; ++round) {
          there_and_back(on, memory, held_bytes_max + round * 100 * kib + i,
                         static_cast<std::uint32_t>(i * 10 + round));
        }
      });
    }
    for (std::thread& each : threads) each.join();
    close_session();
    devices.clear();
  }
}

TEST_F(staging_test, a_step_behind_a_gate_keeps_no_chunks_from_others) {
  ASSERT_NO_FATAL_FAILURE(open_machine(plain_machine));
  const bytes host(held_bytes_max, 1);
  std::vector<stream*> streams;
  std::vector<gate*> gates;
  for (std::size_t i = 0; i < 2 * chunks_count / chunks_held_max; ++i) {
    streams.push_back(create_stream());
    gates.push_back(&close_gate(streams.back()));
    const piece memory = create_piece(held_bytes_max / frame_bytes);
    ASSERT_EQ(copy(streams.back(), memory.address, address_of(host.data()), host.size(), direction::host_to_device),
              GM_OK);
  }
  const std::uint64_t before = blocked();
  stream* free = create_stream(stream_independent);
  ASSERT_NO_FATAL_FAILURE(there_and_back(free, create_large_piece(), 2 * held_bytes_max, 5));
  EXPECT_EQ(blocked(), before);
  for (gate* each : gates) each->open();
  for (stream* each : streams) EXPECT_EQ(table->stream_synchronize(each), GM_OK) << error();
}

// ---- Failures ------------------------------------------------------------------------------------------------------

// Every call that a transfer makes, refused once, in one life of the backend: a chunk lost at each would leave none.
class refused_staging_test : public staging_test, public testing::WithParamInterface<api> {};

TEST_P(refused_staging_test, loses_no_chunk) {
  ASSERT_NO_FATAL_FAILURE(open_machine(plain_machine));
  stream* on = create_stream();
  const piece memory = create_large_piece();
  ASSERT_NO_FATAL_FAILURE(there_and_back(on, memory, 10, 1));  // what is made once is made
  const std::size_t count = held_bytes_max + 6 * chunk_bytes + 1;
  const std::uint64_t before = blocked();
  const bytes sent = random_bytes(count, 2);
  bytes received(count);
  for (const direction way : {direction::host_to_device, direction::device_to_host}) {
    bool was_refused = true;
    for (std::uint64_t n = 1; was_refused; ++n) {
      ASSERT_LT(n, 200u);
      outcome result;
      const bool up = way == direction::host_to_device;
      fail_call(GetParam(), n);
      const gm_status enqueued =
          up ? copy(on, memory.address, address_of(sent.data()), count, way, &outcome::record, &result)
             : copy(on, address_of(received.data()), memory.address, count, way, &outcome::record, &result);
      static_cast<void>(table->stream_synchronize(on));
      fail_call(GetParam(), 0);
      EXPECT_EQ(table->stream_synchronize(on), GM_OK);
      was_refused = enqueued != GM_OK || result.status != GM_OK;
    }
  }
  EXPECT_EQ(received, sent) << "the last of each was refused nothing";
  ASSERT_NO_FATAL_FAILURE(there_and_back(on, memory, count, 3));
  EXPECT_EQ(blocked(), before) << "there were chunks to the end";
}

INSTANTIATE_TEST_SUITE_P(fake_gpu, refused_staging_test,
                         testing::Values(api::copy, api::record_event, api::create_event));

TEST_F(staging_test, pinned_memory_refused_once_is_there_when_the_backend_is_opened_again) {
  gpu = load_controls();
  for (const bool is_refused : {true, false}) {
    setenv("GM_FAKE_GPU", plain_machine, 1);
    std::string why;
    table = load_table("fakegpu", &why);
    const backend_options options = sim_options();
    std::uint32_t count = 0;
    ASSERT_EQ(table->open(&options, &opened, &count), GM_OK);
    fail_call(api::allocate_pinned, is_refused ? 1 : 0);
    gm::device::device* device = nullptr;
    ASSERT_EQ(table->device_open(opened, 0, &device), GM_OK) << error();
    devices.push_back(device);
    EXPECT_EQ(gpu->last_error(), 0);
    EXPECT_EQ(gpu->count().pinned_allocations, is_refused ? 0 : 1);
    ASSERT_NO_FATAL_FAILURE(there_and_back(create_stream(), create_large_piece(), mib, 1));
    close_session();
    devices.clear();
  }
}

TEST_F(staging_test, a_device_lost_in_the_middle_takes_its_chunks_and_no_others) {
  for (const direction way : {direction::host_to_device, direction::device_to_host}) {
    ASSERT_NO_FATAL_FAILURE(open_machine("devices=2,maps=0,memory=256M,delay_us=100"));
    stream* lost = create_stream();
    stream* whole = create_stream(stream_ordinary, 1);
    const piece there = create_large_piece(0);
    const piece here = create_large_piece(1);
    bytes host(held_bytes_max + 9 * chunk_bytes, 4);
    const bool up = way == direction::host_to_device;
    outcome result;
    ASSERT_EQ(copy(lost, up ? there.address : address_of(host.data()), up ? address_of(host.data()) : there.address,
                   host.size(), way, &outcome::record, &result),
              GM_OK);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    gpu->lose(0);
    const std::uint64_t before = blocked();
    ASSERT_NO_FATAL_FAILURE(there_and_back(whole, here, held_bytes_max + 12345, 6));
    EXPECT_EQ(table->stream_synchronize(lost), GM_ERROR_DEVICE);
    EXPECT_EQ(result.status, GM_ERROR_DEVICE);
    ASSERT_NO_FATAL_FAILURE(there_and_back(whole, here, held_bytes_max + 12345, 7));
    EXPECT_EQ(blocked(), before) << "what the lost device had was at most one step's share";
    close_session();
    devices.clear();
    ASSERT_EQ(gpu->count(), census{});
  }
}

}  // namespace
}  // namespace gm::conformance
