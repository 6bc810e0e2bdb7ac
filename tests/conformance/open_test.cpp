// SPDX-License-Identifier: Apache-2.0
// Opening a backend: the table, the options it refuses, what devices say of themselves, and errors in words.
#include <functional>
#include <thread>

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

class open_test : public backend_test {};
GM_ON_EVERY_FLAVOUR(open_test);

TEST_P(open_test, table_has_every_function_its_capabilities_call_for) {
  EXPECT_EQ(table->abi, backend_abi);
  EXPECT_STREQ(table->name, GetParam().backend);
  EXPECT_NE(table->open, nullptr);
  EXPECT_NE(table->close, nullptr);
  EXPECT_NE(table->device_open, nullptr);
  EXPECT_NE(table->device_close, nullptr);
  EXPECT_NE(table->device_info_get, nullptr);
  EXPECT_NE(table->piece_create, nullptr);
  EXPECT_NE(table->piece_destroy, nullptr);
  EXPECT_NE(table->stream_create, nullptr);
  EXPECT_NE(table->stream_destroy, nullptr);
  EXPECT_NE(table->stream_synchronize, nullptr);
  EXPECT_NE(table->stream_fail, nullptr);
  EXPECT_NE(table->transfer, nullptr);
  EXPECT_NE(table->stream_wait, nullptr);
  EXPECT_NE(table->fence_record, nullptr);
  EXPECT_NE(table->fence_done, nullptr);
  EXPECT_NE(table->fence_wait, nullptr);
  EXPECT_NE(table->call, nullptr);
  EXPECT_NE(table->error_text, nullptr);
  EXPECT_EQ(table->launch != nullptr, can(has_host_launch));
  EXPECT_EQ(table->stream_from_native != nullptr, can(has_native_streams));
  if (is_sim()) {
    EXPECT_NE(table->fail_nth, nullptr);
  }
}

TEST_P(open_test, devices_describe_themselves) {
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const device_info about = info(devices[i]);
    EXPECT_NE(about.name[0], '\0');
    EXPECT_GE(about.total_bytes, frame_bytes);
    EXPECT_LE(about.free_bytes, about.total_bytes);
    EXPECT_EQ((about.capabilities & has_window) != 0, about.window_base != 0);
    EXPECT_EQ(about.window_base % frame_bytes, 0u);
    if (!is_sim()) continue;
    EXPECT_EQ(about.name, "gmem simulated device " + std::to_string(i));
    EXPECT_EQ(about.total_bytes, GetParam().options.sim_memory_bytes);
    EXPECT_EQ(about.free_bytes, about.total_bytes);
    EXPECT_EQ(about.capabilities,
              has_host_launch | has_peer_copies | has_access_maps | (GetParam().options.sim_window ? has_window : 0u));
  }
}

TEST_P(open_test, sim_has_as_many_devices_as_asked_for) {
  if (!is_sim()) GTEST_SKIP() << "the machine decides";
  EXPECT_EQ(devices.size(), GetParam().options.sim_devices);
}

TEST_P(open_test, windows_of_devices_do_not_overlap) {
  if (!can(has_window) || devices.size() < 2) GTEST_SKIP() << "no two windows";
  for (std::size_t i = 0; i < devices.size(); ++i) {
    for (std::size_t j = i + 1; j < devices.size(); ++j) {
      const std::uint64_t a = info(devices[i]).window_base;
      const std::uint64_t b = info(devices[j]).window_base;
      EXPECT_GE(a < b ? b - a : a - b, GetParam().options.arena_bytes);
    }
  }
}

TEST_P(open_test, a_device_that_is_not_there_is_refused_in_words) {
  gm::device::device* result = nullptr;
  EXPECT_EQ(table->device_open(opened, static_cast<std::uint32_t>(devices.size()), &result), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(result, nullptr);
  EXPECT_NE(error(), "");
}

TEST_P(open_test, a_closed_device_opens_again_with_all_its_memory) {
  const std::uint64_t total_bytes = info(devices[0]).total_bytes;
  table->device_close(devices[0]);
  ASSERT_EQ(table->device_open(opened, 0, &devices[0]), GM_OK) << error();
  EXPECT_EQ(info(devices[0]).total_bytes, total_bytes);
  const piece memory = create_piece();
  stream* on = create_stream();
  const bytes data = random_bytes(1000, 1);
  upload(on, memory.address, data);
  EXPECT_EQ(download(on, memory.address, data.size()), data);
}

TEST_P(open_test, error_text_is_the_threads_own) {
  gm::device::device* result = nullptr;
  ASSERT_NE(table->device_open(opened, 1000, &result), GM_OK);
  const std::string mine = error();
  std::string before = "not asked";
  std::string after;
  std::thread([&] {
    before = error();
    if (table->device_open(opened, 2000, &result) != GM_OK) after = error();
  }).join();
  EXPECT_EQ(before, "");
  EXPECT_NE(after, "");
  EXPECT_NE(after, mine);
  EXPECT_EQ(error(), mine);
}

TEST_P(open_test, null_arguments_are_refused) {
  std::uint32_t count = 0;
  backend* other = nullptr;
  EXPECT_EQ(table->open(nullptr, &other, &count), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(table->open(&GetParam().options, nullptr, &count), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(table->device_open(opened, 0, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(table->device_info_get(devices[0], nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(table->stream_create(devices[0], stream_ordinary, nullptr), GM_ERROR_INVALID_ARGUMENT);
  stream* on = create_stream();
  EXPECT_EQ(table->transfer(on, nullptr, 1, nullptr, 0, nullptr, nullptr, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(table->transfer(on, nullptr, 0, nullptr, 1, nullptr, nullptr, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(table->call(on, nullptr, nullptr), GM_ERROR_INVALID_ARGUMENT);
  if (can(has_host_launch)) {
    EXPECT_EQ(table->launch(on, 1, nullptr, nullptr, nullptr), GM_ERROR_INVALID_ARGUMENT);
  }
  EXPECT_EQ(table->stream_synchronize(on), GM_OK) << "nothing of this may have been enqueued";
}

TEST_P(open_test, unknown_stream_flags_are_refused) {
  stream* result = nullptr;
  EXPECT_EQ(table->stream_create(devices[0], 0x80, &result), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(result, nullptr);
}

TEST_P(open_test, closing_with_live_streams_and_pieces_is_survived) {
  if (!is_sim()) GTEST_SKIP() << "the simulated device's own promise";
  backend* other = nullptr;
  std::uint32_t count = 0;
  ASSERT_EQ(table->open(&GetParam().options, &other, &count), GM_OK) << error();
  gm::device::device* device = nullptr;
  ASSERT_EQ(table->device_open(other, 0, &device), GM_OK) << error();
  stream* on = nullptr;
  ASSERT_EQ(table->stream_create(device, stream_ordinary, &on), GM_OK) << error();
  std::uint64_t address = 0;
  ASSERT_EQ(table->piece_create(device, 0, 1, &address), GM_OK) << error();
  outcome result;
  ASSERT_EQ(fill(on, address, 100, 1, &outcome::record, &result), GM_OK);
  table->close(other);
  EXPECT_EQ(result.calls, 1);
}

// ---- Options that sim refuses --------------------------------------------------------------------------------------

struct bad_option {
  const char* name;
  std::function<void(backend_options&)> spoil;
};

class sim_option_test : public testing::TestWithParam<bad_option> {};

TEST_P(sim_option_test, is_refused_in_words) {
  std::string load_error;
  const backend_table* table = load_table("sim", &load_error);
  ASSERT_NE(table, nullptr) << load_error;
  backend_options options = sim_options();
  GetParam().spoil(options);
  backend* opened = nullptr;
  std::uint32_t count = 0;
  EXPECT_EQ(table->open(&options, &opened, &count), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(opened, nullptr);
  EXPECT_NE(std::string(table->error_text()), "");
}

INSTANTIATE_TEST_SUITE_P(
    conformance, sim_option_test,
    testing::Values(bad_option{"no_devices", [](backend_options& o) { o.sim_devices = 0; }},
                    bad_option{"too_many_devices", [](backend_options& o) { o.sim_devices = 33; }},
                    bad_option{"no_memory", [](backend_options& o) { o.sim_memory_bytes = 0; }},
                    bad_option{"memory_of_half_frames", [](backend_options& o) { o.sim_memory_bytes += mib; }},
                    bad_option{"memory_past_reason", [](backend_options& o) { o.sim_memory_bytes = ~(2 * mib - 1); }},
                    bad_option{"window_of_nothing", [](backend_options& o) { o.arena_bytes = 0; }},
                    bad_option{"window_of_half_blocks", [](backend_options& o) { o.arena_bytes += 64 * kib; }},
                    bad_option{"window_past_reason", [](backend_options& o) { o.arena_bytes = ~(2 * mib - 1); }}),
    [](const auto& which) { return which.param.name; });

TEST(sim_options, thirty_two_devices_open) {
  std::string load_error;
  const backend_table* table = load_table("sim", &load_error);
  ASSERT_NE(table, nullptr) << load_error;
  backend_options options = sim_options();
  options.sim_devices = 32;
  backend* opened = nullptr;
  std::uint32_t count = 0;
  ASSERT_EQ(table->open(&options, &opened, &count), GM_OK) << table->error_text();
  EXPECT_EQ(count, 32u);
  for (std::uint32_t i = 0; i < count; ++i) {
    gm::device::device* device = nullptr;
    EXPECT_EQ(table->device_open(opened, i, &device), GM_OK) << table->error_text();
  }
  table->close(opened);
}

}  // namespace
}  // namespace gm::conformance
