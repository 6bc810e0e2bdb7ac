// SPDX-License-Identifier: Apache-2.0
// transfer(): copies in every direction, fills, lists of any length, and what one unit promises about its parts.
#include "backend_fixture.h"

namespace gm::conformance {
namespace {

class transfer_test : public backend_test {
 protected:
  void SetUp() override {
    backend_test::SetUp();
    if (is_unusable()) return;
    on = create_stream();
    memory = create_piece();
  }

  stream* on = nullptr;
  piece memory{};
};
GM_ON_EVERY_FLAVOUR(transfer_test);

constexpr std::size_t sizes[] = {1, 2, 3, 7, 8, 63, 64, 65, 4095, 4096, 4097, 64 * kib, 64 * kib + 1, mib + 3};
constexpr std::uint64_t offsets[] = {0, 1, 7, 64, 4093, 64 * kib - 5};
constexpr std::size_t margin = 129;

// The data between two margins of the value.
bytes between_margins(const bytes& data, std::uint8_t value) {
  bytes result;
  result.reserve(data.size() + 2 * margin);
  result.resize(margin, value);
  for (const std::uint8_t each : data) result.push_back(each);
  result.resize(result.size() + margin, value);
  return result;
}

TEST_P(transfer_test, host_to_device_writes_its_bytes_and_no_others) {
  for (const std::size_t size : sizes) {
    for (const std::uint64_t offset : offsets) {
      const std::uint64_t start = memory.address + margin + offset;
      ASSERT_EQ(fill(on, start - margin, size + 2 * margin, 0xC3), GM_OK);
      const bytes data = random_bytes(size, static_cast<std::uint32_t>(size + offset));
      upload(on, start, data);
      const bytes expected = between_margins(data, 0xC3);
      ASSERT_EQ(download(on, start - margin, expected.size()), expected) << size << " bytes at " << offset;
    }
  }
}

TEST_P(transfer_test, device_to_host_writes_its_bytes_and_no_others) {
  const bytes all = random_bytes(2 * mib, 10);
  upload(on, memory.address, all);
  for (const std::size_t size : sizes) {
    for (const std::uint64_t offset : offsets) {
      bytes host(size + 2 * margin, 0x3C);
      outcome result;
      ASSERT_EQ(copy(on, address_of(host.data()) + margin, memory.address + offset, size, direction::device_to_host,
                     &outcome::record, &result),
                GM_OK);
      wait_all(on);
      EXPECT_EQ(result.status, GM_OK);
      const auto first = all.begin() + static_cast<std::ptrdiff_t>(offset);
      const bytes sent(first, first + static_cast<std::ptrdiff_t>(size));
      ASSERT_EQ(host, between_margins(sent, 0x3C)) << size << " bytes at " << offset;
    }
  }
}

TEST_P(transfer_test, device_to_device_within_a_device) {
  const piece other = create_piece();
  const bytes data = random_bytes(mib + 17, 11);
  upload(on, memory.address + 3, data);
  ASSERT_EQ(fill(on, other.address, frame_bytes, 0), GM_OK);
  ASSERT_EQ(copy(on, other.address + 5, memory.address + 3, data.size(), direction::device_to_device), GM_OK);
  bytes expected(frame_bytes, 0);
  std::copy(data.begin(), data.end(), expected.begin() + 5);
  EXPECT_EQ(download(on, other.address, frame_bytes), expected);
  EXPECT_EQ(download(on, memory.address + 3, data.size()), data);
}

TEST_P(transfer_test, device_to_device_between_devices) {
  if (devices.size() < 2 || !can(has_peer_copies)) GTEST_SKIP() << "no two devices that copy to each other";
  const bytes data = random_bytes(mib + 17, 12);
  for (std::size_t i = 1; i < devices.size(); ++i) {
    const piece peer = create_piece(1, i);
    stream* there = create_stream(stream_ordinary, i);
    upload(on, memory.address, data);
    // By a stream of the source's device, then back by one of the destination's.
    fence completion;
    ASSERT_EQ(copy(on, peer.address + i, memory.address, data.size(), direction::device_to_device, nullptr, nullptr,
                   &completion),
              GM_OK);
    table->fence_wait(completion);
    EXPECT_EQ(download(there, peer.address + i, data.size()), data);
    ASSERT_EQ(copy(there, memory.address + mib / 2, peer.address + i, data.size(), direction::device_to_device, nullptr,
                   nullptr, &completion),
              GM_OK);
    table->fence_wait(completion);
    EXPECT_EQ(download(on, memory.address + mib / 2, data.size()), data);
  }
}

TEST_P(transfer_test, fills_write_their_bytes_and_no_others) {
  for (const std::size_t size : sizes) {
    for (const std::uint64_t offset : offsets) {
      const std::uint64_t start = memory.address + margin + offset;
      ASSERT_EQ(fill(on, start - margin, size + 2 * margin, 0x11), GM_OK);
      ASSERT_EQ(fill(on, start, size, 0xF7), GM_OK);
      const bytes expected = between_margins(bytes(size, 0xF7), 0x11);
      ASSERT_EQ(download(on, start - margin, expected.size()), expected) << size << " bytes at " << offset;
    }
  }
}

TEST_P(transfer_test, lists_of_any_length_are_one_unit) {
  const bytes data = random_bytes(frame_bytes, 13);
  upload(on, memory.address, bytes(frame_bytes, 0));
  for (const std::size_t count : {1u, 2u, 7u, 8u, 9u, 16u, 17u, 33u, 1000u, 20000u}) {
    // Every other 50 bytes is filled; in what lies between, every run is copied from elsewhere in the data.
    std::vector<fill_run> fills;
    std::vector<copy_run> copies;
    bytes expected(count * 100);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t source = i * 7919 % (frame_bytes - 50);
      fills.push_back({memory.address + i * 100, 50, static_cast<std::uint8_t>(i)});
      copies.push_back(
          {memory.address + i * 100 + 50, address_of(data.data()) + source, 50, direction::host_to_device});
      std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(i * 100), 50, static_cast<std::uint8_t>(i));
      std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(source), 50,
                  expected.begin() + static_cast<std::ptrdiff_t>(i * 100 + 50));
    }
    outcome result;
    fence completion;
    ASSERT_EQ(table->transfer(on, fills.data(), count, copies.data(), count, &outcome::record, &result, &completion),
              GM_OK)
        << error();
    table->fence_wait(completion);
    EXPECT_EQ(result.calls, 1);
    EXPECT_EQ(result.status, GM_OK);
    EXPECT_EQ(download(on, memory.address, expected.size()), expected) << count << " runs";
  }
}

TEST_P(transfer_test, fills_come_before_copies) {
  // More fills than copies and the reverse, so that neither list's length decides.
  for (const std::size_t copy_count : {1u, 40u}) {
    const std::size_t fill_count = 41 - copy_count;
    const bytes data = random_bytes(4096, 14);
    std::vector<fill_run> fills(fill_count, fill_run{memory.address, 4096, 0xAA});
    std::vector<copy_run> copies(copy_count,
                                 copy_run{memory.address, address_of(data.data()), 4096, direction::host_to_device});
    ASSERT_EQ(table->transfer(on, fills.data(), fill_count, copies.data(), copy_count, nullptr, nullptr, nullptr),
              GM_OK);
    EXPECT_EQ(download(on, memory.address, 4096), data);
  }
}

TEST_P(transfer_test, lists_may_go_once_the_call_returns) {
  const bytes data = random_bytes(30 * 100, 15);
  ASSERT_EQ(fill(on, memory.address, 4096, 0), GM_OK);
  gate& held = close_gate(on);
  {
    std::vector<copy_run> copies;
    for (std::uint64_t i = 0; i < 30; ++i) {
      copies.push_back({memory.address + i * 100, address_of(data.data()) + i * 100, 100, direction::host_to_device});
    }
    ASSERT_EQ(table->transfer(on, nullptr, 0, copies.data(), copies.size(), nullptr, nullptr, nullptr), GM_OK);
    std::fill(copies.begin(), copies.end(), copy_run{1, 1, 1 << 30, direction::host_to_device});
  }
  held.open();
  EXPECT_EQ(download(on, memory.address, data.size()), data);
}

TEST_P(transfer_test, an_empty_unit_is_a_unit) {
  outcome result;
  fence completion;
  ASSERT_EQ(table->transfer(on, nullptr, 0, nullptr, 0, &outcome::record, &result, &completion), GM_OK);
  table->fence_wait(completion);
  EXPECT_EQ(result.calls, 1);
  EXPECT_EQ(result.status, GM_OK);
}

TEST_P(transfer_test, neither_callback_nor_fence_is_needed) {
  const bytes data = random_bytes(1000, 16);
  const copy_run run{memory.address, address_of(data.data()), data.size(), direction::host_to_device};
  ASSERT_EQ(table->transfer(on, nullptr, 0, &run, 1, nullptr, nullptr, nullptr), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(download(on, memory.address, data.size()), data);
}

TEST_P(transfer_test, the_callback_comes_after_the_bytes_and_before_the_fence) {
  struct watcher {
    const backend_table* table;
    const bytes* host;
    const bytes* expected;
    fence completion;
    std::atomic<bool> saw_bytes{false};
    std::atomic<bool> saw_fence{true};
  };
  const bytes data = random_bytes(300 * kib, 17);
  upload(on, memory.address, data);
  for (int i = 0; i < 20; ++i) {
    bytes host(data.size(), 0);
    watcher watching{table, &host, &data, {}, {}, {true}};
    const auto look = [](void* argument, gm_status) {
      auto* const self = static_cast<watcher*>(argument);
      self->saw_bytes = *self->host == *self->expected;
      self->saw_fence = self->table->fence_done(self->completion);
    };
    gate& held = close_gate(on);  // until `completion` is written
    ASSERT_EQ(copy(on, address_of(host.data()), memory.address, data.size(), direction::device_to_host, look, &watching,
                   &watching.completion),
              GM_OK);
    held.open();
    table->fence_wait(watching.completion);
    EXPECT_TRUE(watching.saw_bytes);
    EXPECT_FALSE(watching.saw_fence);
    EXPECT_TRUE(table->fence_done(watching.completion));
  }
}

}  // namespace
}  // namespace gm::conformance
