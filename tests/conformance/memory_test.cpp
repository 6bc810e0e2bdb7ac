// SPDX-License-Identifier: Apache-2.0
// Device memory: capacity, where pieces stand, that they are whole and apart, and that what is absent is absent.
#include <signal.h>
#include <sys/wait.h>

#include <set>
#include <thread>

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

class memory_test : public backend_test {
 protected:
  std::uint64_t frame_count() const { return info(devices[0]).total_bytes / frame_bytes; }
};
GM_ON_EVERY_FLAVOUR(memory_test);

TEST_P(memory_test, a_piece_in_a_window_stands_at_base_plus_offset) {
  if (!can(has_window)) GTEST_SKIP() << "no window";
  const std::uint64_t last = GetParam().options.arena_bytes - frame_bytes;
  for (const std::uint64_t offset : {std::uint64_t{0}, 5 * frame_bytes, 6 * frame_bytes, last}) {
    EXPECT_EQ(create_piece_at(offset).address, info(devices[0]).window_base + offset);
  }
}

TEST_P(memory_test, offsets_that_are_no_block_are_refused) {
  if (!can(has_window)) GTEST_SKIP() << "no window";
  std::uint64_t address = 0;
  for (const std::uint64_t offset : {std::uint64_t{1}, 64 * kib, mib, GetParam().options.arena_bytes}) {
    EXPECT_EQ(table->piece_create(devices[0], offset, 1, &address), GM_ERROR_INVALID_ARGUMENT) << offset;
    EXPECT_NE(error(), "");
  }
  EXPECT_EQ(table->piece_create(devices[0], 0, 0, &address), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(table->piece_create(devices[0], 0, 2, &address), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(address, 0u);
  if (owns_the_machine()) {
    EXPECT_EQ(info(devices[0]).free_bytes, info(devices[0]).total_bytes);
  }
}

TEST_P(memory_test, a_block_has_one_piece_at_a_time) {
  if (!can(has_window)) GTEST_SKIP() << "no window";
  const piece first = create_piece_at(frame_bytes);
  std::uint64_t address = 0;
  EXPECT_EQ(table->piece_create(devices[0], frame_bytes, 1, &address), GM_ERROR_INVALID_ARGUMENT);
  destroy_piece(first);
  create_piece_at(frame_bytes);
}

TEST_P(memory_test, every_byte_of_a_piece_is_there) {
  const std::uint32_t frames = can(has_window) ? 1 : 3;
  const piece memory = create_piece(frames);
  stream* on = create_stream();
  const bytes data = random_bytes(frames * frame_bytes, 2);
  upload(on, memory.address, data);
  EXPECT_EQ(download(on, memory.address, data.size()), data);
}

TEST_P(memory_test, neighbouring_blocks_of_a_window_are_one_range) {
  if (!can(has_window)) GTEST_SKIP() << "no window";
  // Created out of order, so that their frames are not neighbours.
  create_piece_at(7 * frame_bytes);
  const piece first = create_piece_at(6 * frame_bytes);
  create_piece_at(8 * frame_bytes);
  stream* on = create_stream();
  const bytes data = random_bytes(3 * frame_bytes, 3);
  upload(on, first.address, data);
  EXPECT_EQ(download(on, first.address, data.size()), data);
}

TEST_P(memory_test, capacity_is_exact_and_then_there_is_no_memory) {
  if (!owns_the_machine()) GTEST_SKIP() << "others use a GPU too";
  const std::uint64_t total_bytes = info(devices[0]).total_bytes;
  std::vector<piece> pieces;
  for (std::uint64_t i = 0; i < frame_count(); ++i) {
    EXPECT_EQ(info(devices[0]).free_bytes, total_bytes - i * frame_bytes);
    pieces.push_back(create_piece());
  }
  EXPECT_EQ(info(devices[0]).free_bytes, 0u);
  std::uint64_t address = 1;
  EXPECT_EQ(table->piece_create(devices[0], 100 * frame_bytes, 1, &address), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(address, 1u);
  EXPECT_NE(error(), "");
  destroy_piece(pieces[frame_count() / 2]);
  EXPECT_EQ(info(devices[0]).free_bytes, frame_bytes);
  create_piece_at(100 * frame_bytes);
  EXPECT_EQ(table->piece_create(devices[0], 101 * frame_bytes, 1, &address), GM_ERROR_NO_MEMORY);
}

TEST_P(memory_test, more_than_all_of_it_is_no_memory) {
  if (can(has_window)) GTEST_SKIP() << "pieces of one frame only";
  std::uint64_t address = 0;
  const auto all = static_cast<std::uint32_t>(info(devices[0]).total_bytes / frame_bytes);
  EXPECT_EQ(table->piece_create(devices[0], 0, all + 1, &address), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(table->piece_create(devices[0], 0, 0xFFFF'FFFF, &address), GM_ERROR_NO_MEMORY);
}

TEST_P(memory_test, scattered_free_frames_are_no_piece) {
  if (!is_sim() || can(has_window)) GTEST_SKIP() << "where sim places pieces, without a window";
  std::vector<piece> pieces;
  for (std::uint64_t i = 0; i < frame_count(); ++i) pieces.push_back(create_piece());
  for (std::size_t i = 0; i < pieces.size(); i += 2) destroy_piece(pieces[i]);
  std::uint64_t address = 0;
  EXPECT_EQ(table->piece_create(devices[0], 0, 2, &address), GM_ERROR_NO_MEMORY);
  destroy_piece(pieces[5]);
  create_piece(3);
  create_piece(1);
  EXPECT_EQ(table->piece_create(devices[0], 0, 2, &address), GM_ERROR_NO_MEMORY);
}

TEST_P(memory_test, pieces_are_apart) {
  stream* on = create_stream();
  std::vector<piece> pieces;
  for (std::uint8_t i = 0; i < 12; ++i) {
    pieces.push_back(create_piece());
    EXPECT_EQ(fill(on, pieces.back().address, frame_bytes, i), GM_OK);
  }
  for (std::uint8_t i = 0; i < 12; ++i) {
    EXPECT_EQ(download(on, pieces[i].address, frame_bytes), bytes(frame_bytes, i));
  }
}

TEST_P(memory_test, frames_come_back_however_often_they_are_given_back) {
  const std::uint64_t free_bytes = info(devices[0]).free_bytes;
  stream* on = create_stream();
  for (int i = 0; i < 100; ++i) {
    const piece memory = create_piece_at(static_cast<std::uint64_t>(i % 7) * frame_bytes);
    EXPECT_EQ(fill(on, memory.address + 4096, 4096, 0x5A), GM_OK);
    wait_all(on);
    destroy_piece(memory);
  }
  if (owns_the_machine()) {
    EXPECT_EQ(info(devices[0]).free_bytes, free_bytes);
  }
}

TEST_P(memory_test, threads_create_and_destroy_at_once) {
  constexpr int thread_count = 4;
  constexpr int rounds = 50;
  std::atomic<int> failures{0};
  std::mutex mutex;
  std::set<std::uint64_t> live;
  std::vector<std::thread> threads;
  for (int t = 0; t < thread_count; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < rounds; ++i) {
        const auto offset = static_cast<std::uint64_t>(t * 20 + i % 3) * frame_bytes;
        std::uint64_t address = 0;
        if (table->piece_create(devices[0], offset, 1, &address) != GM_OK) {
          ++failures;
          continue;
        }
        {
          const std::scoped_lock lock(mutex);
          if (!live.insert(address).second) ++failures;
        }
        {
          const std::scoped_lock lock(mutex);
          live.erase(address);
        }
        table->piece_destroy(devices[0], offset, 1, address);
      }
    });
  }
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(failures, 0);
  if (owns_the_machine()) {
    EXPECT_EQ(info(devices[0]).free_bytes, info(devices[0]).total_bytes);
  }
}

TEST_P(memory_test, devices_have_memory_of_their_own) {
  if (devices.size() < 2) GTEST_SKIP() << "one device";
  const piece first = create_piece_at(frame_bytes, 1, 0);
  const piece second = create_piece_at(frame_bytes, 1, 1);
  EXPECT_NE(first.address, second.address);
  stream* on_first = create_stream(stream_ordinary, 0);
  stream* on_second = create_stream(stream_ordinary, 1);
  const bytes one = random_bytes(64 * kib, 4);
  const bytes two = random_bytes(64 * kib, 5);
  upload(on_first, first.address, one);
  upload(on_second, second.address, two);
  EXPECT_EQ(download(on_first, first.address, one.size()), one);
  EXPECT_EQ(download(on_second, second.address, two.size()), two);
}

// ---- The simulated device's own: a pointer that must not be used cannot be -----------------------------------------

volatile std::uint8_t* pointer_to(std::uint64_t address) { return reinterpret_cast<volatile std::uint8_t*>(address); }

std::uint64_t expected_fault_address;

// Ends the process with 42 when the first SIGSEGV is at the expected address.
void expect_fault_at(std::uint64_t address) {
  expected_fault_address = address;
  struct sigaction action = {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int, siginfo_t* about, void*) {
    _exit(reinterpret_cast<std::uint64_t>(about->si_addr) == expected_fault_address ? 42 : 43);
  };
  sigaction(SIGSEGV, &action, nullptr);
}

class absent_memory_death_test : public memory_test {
 protected:
  void SetUp() override {
    // Not a fork of this process, where no window is mapped in the first place.
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    memory_test::SetUp();
    if (is_unusable()) return;
    if (!is_sim() || !can(has_window)) GTEST_SKIP() << "a window that the host can touch";
  }
};
GM_ON_EVERY_FLAVOUR(absent_memory_death_test);

TEST_P(absent_memory_death_test, a_block_without_a_piece_is_sigsegv) {
  const piece memory = create_piece_at(3 * frame_bytes);
  const std::uint64_t absent = memory.address + frame_bytes;
  EXPECT_EXIT(
      {
        *pointer_to(memory.address) = 1;
        *pointer_to(memory.address + frame_bytes - 1) = 1;
        expect_fault_at(absent);
        *pointer_to(absent) = 1;
      },
      testing::ExitedWithCode(42), "");
}

TEST_P(absent_memory_death_test, a_piece_given_back_is_sigsegv_also_to_read) {
  const piece memory = create_piece_at(3 * frame_bytes);
  *pointer_to(memory.address) = 1;
  destroy_piece(memory);
  EXPECT_EXIT(
      {
        expect_fault_at(memory.address);
        _exit(*pointer_to(memory.address));
      },
      testing::ExitedWithCode(42), "");
}

TEST_P(memory_test, a_forked_child_has_no_device_memory) {
  if (!is_sim()) GTEST_SKIP() << "memory that the host can touch";
  const piece memory = create_piece();
  *pointer_to(memory.address) = 7;
  expected_fault_address = memory.address;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    expect_fault_at(memory.address);
    _exit(*pointer_to(memory.address));
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_EQ(*pointer_to(memory.address), 7);
}

}  // namespace
}  // namespace gm::conformance
