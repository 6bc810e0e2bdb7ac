// SPDX-License-Identifier: Apache-2.0
// What GPU backends do with device memory: windows that are tried, frames that are kept, refusals that leave nothing.
#include <chrono>
#include <thread>

#include "fake_gpu/fake_gpu_fixture.h"

namespace gm::conformance {
namespace {

class gpu_memory_test : public fake_gpu_test {};

TEST_F(gpu_memory_test, a_machine_without_a_driver_is_unsupported_in_plain_words) {
  setenv("GM_FAKE_GPU", "driver=0", 1);
  std::string why;
  const backend_table* api = load_table("fakegpu", &why);
  ASSERT_NE(api, nullptr) << why;
  const backend_options options = sim_options();
  backend* none = nullptr;
  std::uint32_t count = 77;
  EXPECT_EQ(api->open(&options, &none, &count), GM_ERROR_UNSUPPORTED);
  EXPECT_EQ(none, nullptr);
  EXPECT_EQ(count, 77u);
  EXPECT_NE(std::string(api->error_text()).find("there is no fake driver here"), std::string::npos);
  setenv("GM_FAKE_GPU", "devices=0", 1);
  EXPECT_EQ(api->open(&options, &none, &count), GM_ERROR_UNSUPPORTED);
}

TEST_F(gpu_memory_test, a_window_that_works_may_share_its_addresses) {
  ASSERT_NO_FATAL_FAILURE(open_machine("memory=16M"));
  const device_info about = info(devices[0]);
  EXPECT_EQ(about.capabilities, has_window | may_share_addresses | has_native_streams | has_peer_copies |
                                    registers_host_memory | has_access_maps);
  EXPECT_NE(about.window_base, 0u);
  EXPECT_EQ(about.total_bytes, 16 * mib);
  EXPECT_EQ(about.free_bytes, about.total_bytes) << "the frame of the trial is still ours to give";
}

TEST_F(gpu_memory_test, a_window_that_does_not_work_is_none) {
  for (const char* machine : {"maps=0", "maps_for_real=0", "maps_for_itself=0"}) {
    testing::internal::CaptureStderr();
    ASSERT_NO_FATAL_FAILURE(open_machine(machine));
    const device_info about = info(devices[0]);
    EXPECT_EQ(about.capabilities, has_native_streams | has_peer_copies | registers_host_memory) << machine;
    EXPECT_EQ(about.window_base, 0u);
    EXPECT_EQ(gpu->count().reservations, 0);
    const bool is_told = testing::internal::GetCapturedStderr().find("device 0 has no window") != std::string::npos;
    EXPECT_EQ(is_told, std::string(machine) != "maps=0") << "one that says so itself is no surprise";
    create_piece(3);
    close_session();
    devices.clear();
  }
}

TEST_F(gpu_memory_test, each_step_of_a_windows_trial_may_fail) {
  for (const api step : {api::reserve, api::create_memory, api::map, api::allow_access, api::copy, api::fill,
                         api::allocate, api::create_stream}) {
    ASSERT_NO_FATAL_FAILURE(open_backend(""));
    fail_call(step, 1);
    gm::device::device* device = nullptr;
    ASSERT_EQ(table->device_open(opened, 0, &device), GM_OK) << error();
    devices.push_back(device);
    EXPECT_FALSE(can(has_window)) << static_cast<int>(step);
    EXPECT_EQ(gpu->last_error(), 0);
    EXPECT_EQ(gpu->count().reservations, 0);
    create_piece(2);
    close_session();
    devices.clear();
    EXPECT_EQ(gpu->count(), census{});
  }
}

TEST_F(gpu_memory_test, devices_that_do_not_reach_each_other_copy_all_the_same) {
  // By the driver between allocations; it promises nothing between mapped frames, so there it is by way of the host.
  for (const char* machine : {"devices=2,peers=0", "devices=2,peers=0,maps=0"}) {
    ASSERT_NO_FATAL_FAILURE(open_machine(machine));
    EXPECT_TRUE(can(has_peer_copies));
    const piece here = create_piece(1, 0);
    const piece there = create_piece(1, 1);
    stream* on = create_stream(stream_ordinary, 0);
    const bytes sent = random_bytes(2 * mib, 9);
    {
      registered_bytes host(*this, 2 * mib);
      std::copy(sent.begin(), sent.end(), host.data.begin());
      // A stream of the one device, and memory of the other.
      ASSERT_EQ(copy(on, there.address, host.address(), 2 * mib, direction::host_to_device), GM_OK);
      ASSERT_EQ(copy(on, here.address, there.address, 2 * mib, direction::device_to_device), GM_OK);
      ASSERT_EQ(fill(on, here.address + mib, 1000, 5), GM_OK);
      ASSERT_EQ(copy(on, there.address + 7, here.address, 2 * mib - 7, direction::device_to_device), GM_OK);
      ASSERT_EQ(copy(on, host.address(), there.address, 2 * mib, direction::device_to_host), GM_OK);
      ASSERT_EQ(table->stream_synchronize(on), GM_OK) << error();
      bytes expected = sent;
      std::copy(sent.begin(), sent.end() - 7, expected.begin() + 7);
      std::fill_n(expected.begin() + mib + 7, 1000, std::uint8_t{5});
      EXPECT_EQ(host.data, expected) << machine;
    }
    close_session();
    devices.clear();
  }
}

TEST_F(gpu_memory_test, no_memory_leaves_no_error_behind) {
  for (const char* machine : {"memory=6M", "memory=6M,maps=0"}) {
    ASSERT_NO_FATAL_FAILURE(open_machine(machine));
    for (int i = 0; i < 3; ++i) create_piece();
    std::uint64_t address = 5;
    EXPECT_EQ(table->piece_create(devices[0], 100 * frame_bytes, 1, &address), GM_ERROR_NO_MEMORY);
    EXPECT_EQ(address, 5u);
    EXPECT_NE(error().find("out of memory"), std::string::npos) << error();
    EXPECT_EQ(gpu->last_error(), 0);
    EXPECT_EQ(info(devices[0]).free_bytes, 0u);
    close_session();
    devices.clear();
  }
}

TEST_F(gpu_memory_test, a_piece_that_cannot_be_mapped_gives_its_frame_back) {
  ASSERT_NO_FATAL_FAILURE(open_machine("memory=4M"));
  for (const api step : {api::map, api::allow_access}) {
    fail_call(step, 1);
    std::uint64_t address = 0;
    EXPECT_EQ(table->piece_create(devices[0], 0, 1, &address), GM_ERROR_NO_MEMORY);
    EXPECT_EQ(info(devices[0]).free_bytes, info(devices[0]).total_bytes);
  }
  create_piece_at(0);
  create_piece_at(frame_bytes);
}

TEST_F(gpu_memory_test, some_frames_are_kept_and_the_rest_given_back) {
  ASSERT_NO_FATAL_FAILURE(open_machine("memory=200M"));
  std::vector<piece> pieces;
  for (int i = 0; i < 80; ++i) pieces.push_back(create_piece());
  EXPECT_EQ(gpu->count().frames, 80);
  for (const piece& each : pieces) destroy_piece(each);
  EXPECT_EQ(info(devices[0]).free_bytes, info(devices[0]).total_bytes) << "also while they are on their way back";
  for (int i = 0; i < 10'000 && gpu->count().mappings != 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_GT(gpu->count().frames, 0);
  EXPECT_LT(gpu->count().frames, 80);
  EXPECT_EQ(gpu->count().mappings, 0);
  EXPECT_EQ(info(devices[0]).free_bytes, info(devices[0]).total_bytes);
}

TEST_F(gpu_memory_test, a_kernel_finds_nothing_where_no_piece_is) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  const piece memory = create_piece_at(3 * frame_bytes);
  std::uint8_t byte = 0;
  EXPECT_TRUE(gpu->read(0, memory.address + frame_bytes - 1, &byte, 1));
  EXPECT_FALSE(gpu->read(0, memory.address + frame_bytes, &byte, 1));
}

TEST_F(gpu_memory_test, everything_left_behind_is_given_back_by_close) {
  ASSERT_NO_FATAL_FAILURE(open_machine("devices=2"));
  stream* on = nullptr;
  ASSERT_EQ(table->stream_create(devices[1], stream_ordinary, &on), GM_OK);
  std::uint64_t address = 0;
  ASSERT_EQ(table->piece_create(devices[0], 0, 1, &address), GM_OK);
  alignas(4096) static std::uint8_t host[4096];
  ASSERT_EQ(table->host_register(opened, host, sizeof host), GM_OK);
  outcome result;
  ASSERT_EQ(copy(on, address, address_of(host), sizeof host, direction::host_to_device, &outcome::record, &result),
            GM_OK);
  table->close(opened);
  opened = nullptr;
  EXPECT_EQ(result.calls, 1);
}

// ---- Registered host memory ----------------------------------------------------------------------------------------

TEST_F(gpu_memory_test, copies_with_registered_memory_are_the_devices_and_block_nobody) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  stream* on = create_stream();
  const piece memory = create_piece();
  registered_bytes host(*this, mib);
  const bytes sent = random_bytes(mib, 3);
  std::copy(sent.begin(), sent.end(), host.data.begin());
  const std::uint64_t blocked = gpu->blocked_calls();
  gate& held = close_gate(on);
  ASSERT_EQ(copy(on, memory.address, host.address(), mib, direction::host_to_device), GM_OK);
  ASSERT_EQ(fill(on, memory.address, 100, 0), GM_OK);
  ASSERT_EQ(copy(on, host.address(), memory.address, mib, direction::device_to_host), GM_OK);
  held.open();
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(gpu->blocked_calls(), blocked);
  EXPECT_EQ(bytes(100, 0), bytes(host.data.begin(), host.data.begin() + 100));
  EXPECT_TRUE(std::equal(sent.begin() + 100, sent.end(), host.data.begin() + 100));
}

TEST_F(gpu_memory_test, other_host_memory_is_copied_in_stream_order_too) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  stream* on = create_stream();
  const piece memory = create_piece();
  bytes host = random_bytes(mib, 4);
  const bytes sent = host;
  gate& held = close_gate(on);  // a driver asked for these copies would not come back
  ASSERT_EQ(copy(on, memory.address, address_of(host.data()), mib, direction::host_to_device), GM_OK);
  bytes back(mib);
  ASSERT_EQ(copy(on, address_of(back.data()), memory.address, mib, direction::device_to_host), GM_OK);
  host[5] = static_cast<std::uint8_t>(~host[5]);
  host[mib - 5] = static_cast<std::uint8_t>(~host[mib - 5]);
  held.open();
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(back, host) << "the source is read when its turn comes";
  EXPECT_NE(back, sent);
}

TEST_F(gpu_memory_test, a_copy_half_in_registered_memory_is_not_the_devices) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  stream* on = create_stream();
  const piece memory = create_piece();
  bytes host = random_bytes(512 * kib, 5);
  ASSERT_EQ(table->host_register(opened, host.data(), 256 * kib), GM_OK);
  upload(on, memory.address, host);
  EXPECT_EQ(download(on, memory.address, host.size()), host);
  ASSERT_EQ(table->host_register(opened, host.data() + 256 * kib, 256 * kib), GM_OK);
  const std::uint64_t staged = gpu->pinned_copies();
  upload(on, memory.address, host);
  EXPECT_EQ(gpu->pinned_copies(), staged) << "two ranges side by side are one";
  table->host_unregister(opened, host.data(), 256 * kib);
  table->host_unregister(opened, host.data() + 256 * kib, 256 * kib);
  EXPECT_EQ(gpu->count().locked_ranges, 0);
}

// Whether through pinned memory or, on a machine that has none to give, other memory.
class gpu_retired_memory_test : public fake_gpu_test, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(fake_gpu, gpu_retired_memory_test, testing::Values("", "pins=0"));

TEST_P(gpu_retired_memory_test, a_retired_range_is_not_the_devices_although_it_is_locked) {
  ASSERT_NO_FATAL_FAILURE(open_machine(GetParam()));
  stream* on = create_stream();
  const piece memory = create_piece();
  bytes host = random_bytes(512 * kib, 6);
  ASSERT_EQ(table->host_register(opened, host.data(), host.size()), GM_OK);
  table->host_retire(opened, host.data() + 4096);  // no range begins there: nothing
  std::uint64_t direct = gpu->direct_copies();
  upload(on, memory.address, host);
  EXPECT_GT(gpu->direct_copies(), direct);
  direct = gpu->direct_copies();
  table->host_retire(opened, host.data());
  upload(on, memory.address, host);
  EXPECT_EQ(download(on, memory.address, host.size()), host);
  EXPECT_EQ(gpu->direct_copies(), direct);
  EXPECT_EQ(gpu->count().locked_ranges, 1);
  table->host_unregister(opened, host.data(), host.size());
  EXPECT_EQ(gpu->count().locked_ranges, 0);
  ASSERT_EQ(table->host_register(opened, host.data(), host.size()), GM_OK) << "and anew";
  upload(on, memory.address, host);
  EXPECT_GT(gpu->direct_copies(), direct);
  table->host_unregister(opened, host.data(), host.size());
}

TEST_F(gpu_memory_test, bad_ranges_are_refused) {
  ASSERT_NO_FATAL_FAILURE(open_machine("lockable=1M"));
  bytes host(2 * mib);
  EXPECT_EQ(table->host_register(opened, nullptr, 4096), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(table->host_register(opened, host.data(), 0), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(table->host_register(opened, host.data(), 2 * mib), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(gpu->last_error(), 0);
  ASSERT_EQ(table->host_register(opened, host.data() + 8192, 8192), GM_OK);
  for (const std::size_t begin : {4096u, 8192u, 12288u}) {
    EXPECT_EQ(table->host_register(opened, host.data() + begin, 8192), GM_ERROR_INVALID_ARGUMENT) << begin;
  }
  table->host_unregister(opened, host.data() + 8192, 4096);  // not as it was registered: nothing
  EXPECT_EQ(gpu->count().locked_ranges, 1);
  table->host_unregister(opened, host.data() + 8192, 8192);
  EXPECT_EQ(gpu->count().locked_ranges, 0);
}

}  // namespace
}  // namespace gm::conformance
