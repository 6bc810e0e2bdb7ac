// SPDX-License-Identifier: Apache-2.0
// What kernels that fetch their own pages stand on: addresses that stay, tables, words in stream order, mailboxes.
#include <cstring>
#include <thread>

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

class demand_test : public backend_test {
 protected:
  void SetUp() override {
    backend_test::SetUp();
    if (is_unusable()) return;
    if (!can(has_access_maps)) GTEST_SKIP() << "the backend has no access maps";
    on = create_stream();
  }

  std::uint64_t create_table(std::uint64_t size) {
    std::uint64_t address = 0;
    EXPECT_EQ(table->table_reserve(devices[0], size, &address), GM_OK) << error();
    EXPECT_NE(address, 0u);
    EXPECT_EQ(address % 8, 0u);
    return address;
  }
  std::uint64_t lasting(std::uint64_t address) {
    std::uint64_t result = 0;
    EXPECT_EQ(table->lasting_address(devices[0], address, &result), GM_OK) << error();
    return result;
  }
  bytes read(std::uint64_t from, std::size_t count) { return download(on, from, count); }
  std::vector<std::uint64_t> words_at(std::uint64_t from, std::size_t count) {
    const bytes all = download(on, from, count * 8);
    std::vector<std::uint64_t> result(count);
    std::memcpy(result.data(), all.data(), all.size());
    return result;
  }
  gm_status write(const std::vector<word_write>& words, outcome* result = nullptr, stream* where = nullptr) {
    return table->transfer_and_write(where != nullptr ? where : on, nullptr, 0, nullptr, 0, words.data(), words.size(),
                                     result != nullptr ? &outcome::record : nullptr, result, nullptr);
  }

  stream* on = nullptr;
};
GM_ON_EVERY_FLAVOUR(demand_test);

TEST_P(demand_test, a_lasting_address_shows_the_frames_bytes) {
  const piece memory = create_piece();
  const std::uint64_t stays = lasting(memory.address);
  EXPECT_GE(stays, info(devices[0]).pool_base);
  EXPECT_LT(stays - info(devices[0]).pool_base, std::uint64_t{1} << 48);
  EXPECT_EQ(stays % (64 * kib), 0u);
  const bytes data = random_bytes(2 * mib, 3);
  upload(on, memory.address, data);
  EXPECT_EQ(read(stays, data.size()), data);
  const bytes other = random_bytes(2 * mib, 4);
  upload(on, stays, other);
  EXPECT_EQ(read(memory.address, other.size()), other);
}

TEST_P(demand_test, a_lasting_address_is_the_frames_and_stays) {
  const piece first = create_piece();
  const piece second = create_piece();
  const std::uint64_t of_first = lasting(first.address);
  const std::uint64_t of_second = lasting(second.address);
  EXPECT_NE(of_first, of_second);
  EXPECT_EQ(lasting(first.address), of_first);
  EXPECT_EQ(lasting(first.address + 64 * kib), of_first + 64 * kib);
  destroy_piece(first);
  // Nobody's any more, and still there to be read.
  EXPECT_EQ(read(of_first, 64).size(), 64u);
}

TEST_P(demand_test, what_is_no_piece_has_no_lasting_address) {
  const piece memory = create_piece();
  destroy_piece(memory);
  std::uint64_t result = 0;
  if (!can(has_window)) GTEST_SKIP() << "without a window addresses stay their owner's";
  EXPECT_EQ(table->lasting_address(devices[0], memory.address, &result), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_NE(error(), "");
}

TEST_P(demand_test, a_table_is_zero_where_it_is_made) {
  const std::uint64_t at = create_table(16 * mib);
  ASSERT_EQ(table->table_extend(devices[0], at + 4 * mib, 100), GM_OK) << error();
  EXPECT_EQ(read(at + 4 * mib, 100), bytes(100, 0));
  const bytes data = random_bytes(100, 5);
  upload(on, at + 4 * mib, data);
  // Making it again, and more around it, leaves what is there.
  ASSERT_EQ(table->table_extend(devices[0], at, 16 * mib), GM_OK) << error();
  EXPECT_EQ(read(at + 4 * mib, 100), data);
  EXPECT_EQ(read(at, 4096), bytes(4096, 0));
  EXPECT_EQ(read(at + 16 * mib - 4096, 4096), bytes(4096, 0));
}

TEST_P(demand_test, words_are_written_and_no_others) {
  const std::uint64_t at = create_table(64 * kib);
  ASSERT_EQ(table->table_extend(devices[0], at, 64 * kib), GM_OK) << error();
  for (const std::size_t count : {1u, 2u, 8u, 9u, 32u, 100u}) {
    ASSERT_EQ(fill(on, at, 64 * kib, 0xAB), GM_OK);
    std::vector<word_write> words;
    for (std::size_t i = 0; i < count; ++i) words.push_back({at + 8 + i * 16, 0x0123456789ABCDEF + i});
    outcome result;
    ASSERT_EQ(write(words, &result), GM_OK) << error();
    wait_all(on);
    EXPECT_EQ(result.status, GM_OK);
    const std::vector<std::uint64_t> seen = words_at(at, 2 * count + 1);
    for (std::size_t i = 0; i < seen.size(); ++i)
      ASSERT_EQ(seen[i], i % 2 == 0 ? 0xABABABABABABABABu : 0x0123456789ABCDEF + i / 2)
          << count << " words, word " << i;
  }
}

TEST_P(demand_test, words_come_behind_the_copies_of_their_unit_and_before_what_follows) {
  const std::uint64_t at = create_table(64 * kib);
  ASSERT_EQ(table->table_extend(devices[0], at, 64 * kib), GM_OK) << error();
  const bytes data = random_bytes(4096, 6);
  const copy_run copy_in{at, address_of(data.data()), data.size(), direction::host_to_device};
  const word_write over{at + 16, 77};
  outcome first;
  ASSERT_EQ(table->transfer_and_write(on, nullptr, 0, &copy_in, 1, &over, 1, &outcome::record, &first, nullptr), GM_OK);
  bytes seen(4096);
  ASSERT_EQ(copy(on, address_of(seen.data()), at, 4096, direction::device_to_host), GM_OK);
  wait_all(on);
  EXPECT_EQ(first.status, GM_OK);
  std::uint64_t word = 0;
  std::memcpy(&word, seen.data() + 16, 8);
  EXPECT_EQ(word, 77u);
  EXPECT_TRUE(std::equal(seen.begin() + 24, seen.end(), data.begin() + 24));
}

TEST_P(demand_test, a_unit_whose_copy_fails_writes_no_word) {
  if (table->fail_nth == nullptr) GTEST_SKIP() << "the backend cannot make work fail";
  const std::uint64_t at = create_table(64 * kib);
  ASSERT_EQ(table->table_extend(devices[0], at, 64 * kib), GM_OK) << error();
  stream* const own = create_stream(stream_independent);
  const piece memory = create_piece();
  const bytes data = random_bytes(4096, 7);
  const copy_run copy_in{memory.address, address_of(data.data()), data.size(), direction::host_to_device};
  const word_write word{at, 1};
  outcome result;
  table->fail_nth(opened, operation::copy_run, 1);
  ASSERT_EQ(table->transfer_and_write(own, nullptr, 0, &copy_in, 1, &word, 1, &outcome::record, &result, nullptr),
            GM_OK);
  wait_all(own);
  EXPECT_EQ(result.status, GM_ERROR_DEVICE);
  EXPECT_EQ(words_at(at, 1)[0], 0u);
}

TEST_P(demand_test, a_mailbox_is_reached_from_both_sides) {
  void* host = nullptr;
  std::uint64_t address = 0;
  ASSERT_EQ(table->mailbox_create(devices[0], 128 * kib, &host, &address), GM_OK) << error();
  auto* const words = static_cast<std::uint64_t*>(host);
  EXPECT_TRUE(std::all_of(words, words + 128 * kib / 8, [](std::uint64_t w) { return w == 0; }));
  words[5] = 12345;
  const std::uint64_t at = create_table(64 * kib);
  ASSERT_EQ(table->table_extend(devices[0], at, 64 * kib), GM_OK) << error();
  const copy_run there{at, address_of(words), 4096, direction::host_to_device};
  ASSERT_EQ(table->transfer(on, nullptr, 0, &there, 1, nullptr, nullptr, nullptr), GM_OK);
  const copy_run back{address_of(words + 1024), at, 4096, direction::device_to_host};
  ASSERT_EQ(table->transfer(on, nullptr, 0, &back, 1, nullptr, nullptr, nullptr), GM_OK);
  wait_all(on);
  EXPECT_EQ(words[1024 + 5], 12345u);
  table->mailbox_destroy(devices[0], host);
}

TEST_P(demand_test, a_kernel_that_runs_sees_words_whole) {
  if (!can(has_host_launch)) GTEST_SKIP() << "no kernels on the host";
  const std::uint64_t at = create_table(4096);
  ASSERT_EQ(table->table_extend(devices[0], at, 4096), GM_OK) << error();
  struct watch {
    std::atomic<std::uint64_t>* word;
    std::atomic<bool> torn{false};
    std::atomic<bool> saw_last{false};
  } seen{reinterpret_cast<std::atomic<std::uint64_t>*>(at)};
  constexpr std::uint64_t last = 200 * 0x0101010101010101u;
  ASSERT_EQ(table->launch(
                on, 1,
                [](void* argument, std::size_t, std::size_t) {
                  auto& self = *static_cast<watch*>(argument);
                  for (std::uint64_t w = 0; w != last; w = self.word->load()) {
                    if (w % 0x0101010101010101u != 0) self.torn = true;
                    std::this_thread::yield();
                  }
                  self.saw_last = true;
                },
                nullptr, &seen),
            GM_OK);
  stream* const other = create_stream(stream_independent);
  for (std::uint64_t i = 1; i <= 200; ++i) ASSERT_EQ(write({{at, i * 0x0101010101010101u}}, nullptr, other), GM_OK);
  wait_all(on);
  EXPECT_TRUE(seen.saw_last);
  EXPECT_FALSE(seen.torn);
}

}  // namespace
}  // namespace gm::conformance
