// SPDX-License-Identifier: Apache-2.0
// The simulated device's link model: transfers are never faster than it says. Lower bounds only: a machine may always
// be slower. The models are so slow that copying itself does not fill the time.
#include <time.h>

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

class link_test : public testing::Test, public backend_session {
 protected:
  static constexpr std::uint64_t ms = 1'000'000;

  void open_link(std::uint64_t bandwidth_bytes_per_second, std::uint64_t latency_ns, std::uint32_t device_count = 1) {
    backend_options options = sim_options();
    options.sim_devices = device_count;
    options.sim_bandwidth_bytes_per_second = bandwidth_bytes_per_second;
    options.sim_latency_ns = latency_ns;
    ASSERT_NO_FATAL_FAILURE(open_session({"link", "sim", options}));
    host.assign(mib, 1);
  }
  void TearDown() override { close_session(); }

  static std::uint64_t now_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
  }

  gm_status to_device(stream* on, const piece& memory, std::uint64_t count, fence* completion = nullptr) {
    return copy(on, memory.address, address_of(host.data()), count, direction::host_to_device, nullptr, nullptr,
                completion);
  }

  bytes host;
};

TEST_F(link_test, a_transfer_takes_its_bytes_over_bandwidth) {
  ASSERT_NO_FATAL_FAILURE(open_link(100'000'000, 0));
  stream* on = create_stream();
  const piece memory = create_piece();
  for (const direction where : {direction::host_to_device, direction::device_to_host}) {
    const bool up = where == direction::host_to_device;
    const std::uint64_t start_ns = now_ns();
    ASSERT_EQ(copy(on, up ? memory.address : address_of(host.data()), up ? address_of(host.data()) : memory.address,
                   500'000, where),
              GM_OK);
    wait_all(on);
    EXPECT_GE(now_ns() - start_ns, 5 * ms);
  }
}

TEST_F(link_test, every_unit_pays_the_latency_once) {
  ASSERT_NO_FATAL_FAILURE(open_link(0, 2 * ms));
  stream* on = create_stream();
  const piece memory = create_piece();
  const std::uint64_t start_ns = now_ns();
  for (int i = 0; i < 5; ++i) ASSERT_EQ(to_device(on, memory, 64), GM_OK);
  wait_all(on);
  EXPECT_GE(now_ns() - start_ns, 10 * ms);
}

TEST_F(link_test, latency_and_bandwidth_add_up) {
  ASSERT_NO_FATAL_FAILURE(open_link(100'000'000, 3 * ms));
  stream* on = create_stream();
  const piece memory = create_piece();
  const std::uint64_t start_ns = now_ns();
  ASSERT_EQ(to_device(on, memory, 200'000), GM_OK);
  wait_all(on);
  EXPECT_GE(now_ns() - start_ns, 5 * ms);
}

TEST_F(link_test, streams_of_a_device_share_its_link) {
  ASSERT_NO_FATAL_FAILURE(open_link(100'000'000, 0));
  const std::uint64_t start_ns = now_ns();
  std::vector<fence> ends;
  for (int i = 0; i < 4; ++i) {
    stream* on = create_stream(i % 2 == 0 ? stream_ordinary : stream_independent);
    ASSERT_EQ(to_device(on, create_piece(), 300'000, &ends.emplace_back()), GM_OK);
  }
  for (const fence& each : ends) table->fence_wait(each);
  EXPECT_GE(now_ns() - start_ns, 12 * ms);
}

TEST_F(link_test, all_runs_of_a_unit_count) {
  ASSERT_NO_FATAL_FAILURE(open_link(100'000'000, 0));
  stream* on = create_stream();
  const piece memory = create_piece();
  std::vector<copy_run> runs;
  for (std::uint64_t i = 0; i < 50; ++i) {
    runs.push_back(
        {memory.address + i * 10'000, address_of(host.data()) + i * 10'000, 10'000, direction::host_to_device});
  }
  const std::uint64_t start_ns = now_ns();
  ASSERT_EQ(table->transfer(on, nullptr, 0, runs.data(), runs.size(), nullptr, nullptr, nullptr), GM_OK);
  wait_all(on);
  EXPECT_GE(now_ns() - start_ns, 5 * ms);
}

TEST_F(link_test, copies_between_devices_go_over_a_link) {
  ASSERT_NO_FATAL_FAILURE(open_link(100'000'000, ms, 2));
  stream* on = create_stream();
  const piece here = create_piece(1, 0);
  const piece there = create_piece(1, 1);
  const std::uint64_t start_ns = now_ns();
  ASSERT_EQ(copy(on, there.address, here.address, 400'000, direction::device_to_device), GM_OK);
  wait_all(on);
  EXPECT_GE(now_ns() - start_ns, 5 * ms);
}

TEST_F(link_test, the_callback_comes_no_earlier_than_the_bytes) {
  ASSERT_NO_FATAL_FAILURE(open_link(0, 4 * ms));
  stream* on = create_stream();
  const piece memory = create_piece();
  std::atomic<std::uint64_t> called_ns{0};
  const auto note = [](void* argument, gm_status) { *static_cast<std::atomic<std::uint64_t>*>(argument) = now_ns(); };
  const std::uint64_t start_ns = now_ns();
  ASSERT_EQ(copy(on, memory.address, address_of(host.data()), 1, direction::host_to_device, note, &called_ns), GM_OK);
  wait_all(on);
  EXPECT_GE(called_ns - start_ns, 4 * ms);
}

}  // namespace
}  // namespace gm::conformance
