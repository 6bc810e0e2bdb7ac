// SPDX-License-Identifier: Apache-2.0
// What a failure does: to its own unit, to the work behind it, to other streams, and when it is reported.
// Failures are made with fail_nth; a backend without it skips what needs one.
#include <chrono>
#include <stdexcept>
#include <thread>

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

class failure_test : public backend_test {
 protected:
  void SetUp() override {
    backend_test::SetUp();
    if (is_unusable()) return;
    if (table->fail_nth == nullptr) GTEST_SKIP() << "cannot be made to fail";
    memory = create_piece();
    stream* other = create_stream();
    upload(other, memory.address, bytes(frame_bytes, 0x77));
  }

  // A unit that will fail when it runs, over the piece's first bytes.
  gm_status failing_copy(stream* on, callback done = nullptr, void* argument = nullptr, fence* completion = nullptr) {
    table->fail_nth(opened, operation::copy_run, 1);
    return copy(on, memory.address, address_of(data.data()), data.size(), direction::host_to_device, done, argument,
                completion);
  }
  bytes piece_bytes(std::uint64_t offset, std::size_t count) {
    return download(create_stream(), memory.address + offset, count);
  }

  piece memory{};
  const bytes data = random_bytes(10'000, 40);
};
GM_ON_EVERY_FLAVOUR(failure_test);

TEST_P(failure_test, a_failing_unit_tells_its_callback_and_the_next_synchronize_once) {
  stream* on = create_stream();
  outcome result;
  fence completion;
  ASSERT_EQ(failing_copy(on, &outcome::record, &result, &completion), GM_OK);
  table->fence_wait(completion);
  EXPECT_EQ(result.calls, 1);
  EXPECT_EQ(result.status, GM_ERROR_DEVICE);
  EXPECT_EQ(piece_bytes(0, data.size()), bytes(data.size(), 0x77)) << "the destination is left untouched";
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_NE(error(), "");
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
}

TEST_P(failure_test, work_behind_a_failure_is_skipped_and_told_why) {
  stream* on = create_stream();
  gate& held = close_gate(on);
  ASSERT_EQ(fill(on, memory.address + 20'000, 100, 1), GM_OK);
  ASSERT_EQ(failing_copy(on), GM_OK);
  outcome skipped_copy;
  outcome skipped_fill;
  outcome fence_behind;
  std::atomic<int> calls{0};
  const auto count_call = [](void* counter) { ++*static_cast<std::atomic<int>*>(counter); };
  fence completion;
  ASSERT_EQ(copy(on, memory.address, address_of(data.data()), data.size(), direction::host_to_device, &outcome::record,
                 &skipped_copy),
            GM_OK);
  ASSERT_EQ(fill(on, memory.address, 100, 2, &outcome::record, &skipped_fill), GM_OK);
  ASSERT_EQ(table->call(on, count_call, &calls), GM_OK);
  ASSERT_EQ(table->fence_record(on, &outcome::record, &fence_behind, &completion), GM_OK);
  held.open();
  table->fence_wait(completion);
  EXPECT_EQ(skipped_copy.status, GM_ERROR_DEVICE);
  EXPECT_EQ(skipped_fill.status, GM_ERROR_DEVICE);
  EXPECT_EQ(fence_behind.status, GM_ERROR_DEVICE);
  EXPECT_EQ(skipped_copy.calls + skipped_fill.calls + fence_behind.calls, 3);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(piece_bytes(0, data.size()), bytes(data.size(), 0x77));
  EXPECT_EQ(piece_bytes(20'000, 100), bytes(100, 1)) << "work before the failure was done";
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
}

TEST_P(failure_test, a_stream_stays_failed_until_it_is_told) {
  stream* on = create_stream();
  fence completion;
  ASSERT_EQ(failing_copy(on, nullptr, nullptr, &completion), GM_OK);
  table->fence_wait(completion);
  for (int i = 0; i < 3; ++i) {
    outcome later;
    ASSERT_EQ(fill(on, memory.address, 100, 3, &outcome::record, &later, &completion), GM_OK);
    table->fence_wait(completion);
    EXPECT_EQ(later.status, GM_ERROR_DEVICE);
  }
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  outcome after;
  ASSERT_EQ(fill(on, memory.address, 100, 4, &outcome::record, &after), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(after.status, GM_OK);
  EXPECT_EQ(piece_bytes(0, 100), bytes(100, 4));
}

struct words_reader {
  const backend_table* table;
  std::string words;
  static void read(void* argument, gm_status status) {
    auto* const self = static_cast<words_reader*>(argument);
    if (status != GM_OK) self->words = self->table->error_text();
  }
};

TEST_P(failure_test, callbacks_of_failed_work_find_the_words) {
  stream* on = create_stream();
  words_reader own{table, ""};
  words_reader skipped{table, ""};
  ASSERT_EQ(failing_copy(on, &words_reader::read, &own), GM_OK);
  ASSERT_EQ(fill(on, memory.address, 1, 1, &words_reader::read, &skipped), GM_OK);
  wait_all(on);
  EXPECT_NE(own.words, "");
  EXPECT_EQ(skipped.words, own.words);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_EQ(error(), own.words);
}

TEST_P(failure_test, callbacks_of_work_skipped_for_another_threads_sake_find_words_too) {
  stream* on = create_stream();
  words_reader skipped{table, ""};
  table->stream_fail(on, GM_ERROR_DEVICE);
  ASSERT_EQ(fill(on, memory.address, 1, 1, &words_reader::read, &skipped), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_NE(skipped.words, "");
}

TEST_P(failure_test, other_streams_go_on) {
  stream* failing = create_stream();
  stream* other = create_stream();
  fence failed;
  ASSERT_EQ(failing_copy(failing, nullptr, nullptr, &failed), GM_OK);
  ASSERT_EQ(table->stream_wait(other, failed), GM_OK) << "a wait for failed work is a wait, not a failure";
  outcome result;
  ASSERT_EQ(fill(other, memory.address, 50, 9, &outcome::record, &result), GM_OK);
  EXPECT_EQ(table->stream_synchronize(other), GM_OK);
  EXPECT_EQ(result.status, GM_OK);
  EXPECT_EQ(piece_bytes(0, 50), bytes(50, 9));
  EXPECT_EQ(table->stream_synchronize(failing), GM_ERROR_DEVICE);
}

TEST_P(failure_test, a_failed_stream_still_waits) {
  // Or a fence behind the wait would say that work is done which is not.
  stream* slow = create_stream();
  stream* failed = create_stream();
  gate& held = close_gate(slow);
  ASSERT_EQ(failing_copy(failed), GM_OK);
  ASSERT_EQ(table->stream_wait(failed, record_fence(slow)), GM_OK);
  outcome result;
  fence behind;
  ASSERT_EQ(table->fence_record(failed, &outcome::record, &result, &behind), GM_OK);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(table->fence_done(behind));
  held.open();
  table->fence_wait(behind);
  EXPECT_EQ(result.status, GM_ERROR_DEVICE);
  EXPECT_EQ(table->stream_synchronize(failed), GM_ERROR_DEVICE);
}

TEST_P(failure_test, a_new_stream_inherits_no_failure) {
  stream* failed = create_stream();
  ASSERT_EQ(failing_copy(failed), GM_OK);
  destroy_stream(failed);
  stream* fresh = create_stream();
  outcome result;
  ASSERT_EQ(fill(fresh, memory.address, 10, 5, &outcome::record, &result), GM_OK);
  EXPECT_EQ(table->stream_synchronize(fresh), GM_OK);
  EXPECT_EQ(result.status, GM_OK);
}

TEST_P(failure_test, the_unit_stops_at_the_run_that_fails) {
  stream* on = create_stream();
  std::vector<copy_run> runs;
  for (std::uint64_t i = 0; i < 30; ++i) {
    runs.push_back({memory.address + i * 100, address_of(data.data()) + i * 100, 100, direction::host_to_device});
  }
  table->fail_nth(opened, operation::copy_run, 12);
  outcome result;
  ASSERT_EQ(table->transfer(on, nullptr, 0, runs.data(), runs.size(), &outcome::record, &result, nullptr), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_EQ(result.calls, 1);
  EXPECT_EQ(result.status, GM_ERROR_DEVICE);
  EXPECT_EQ(piece_bytes(1100, 1900), bytes(1900, 0x77));
}

// ---- Independent streams -------------------------------------------------------------------------------------------

TEST_P(failure_test, on_an_independent_stream_only_the_unit_fails) {
  stream* on = create_stream(stream_independent);
  gate& held = close_gate(on);
  outcome failed;
  outcome next;
  outcome fence_behind;
  outcome call_behind;
  ASSERT_EQ(failing_copy(on, &outcome::record, &failed), GM_OK);
  ASSERT_EQ(fill(on, memory.address, 100, 6, &outcome::record, &next), GM_OK);
  const auto on_call = [](void* argument) { outcome::record(argument, GM_OK); };
  ASSERT_EQ(table->call(on, on_call, &call_behind), GM_OK);
  ASSERT_EQ(table->fence_record(on, &outcome::record, &fence_behind, nullptr), GM_OK);
  held.open();
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(failed.status, GM_ERROR_DEVICE);
  EXPECT_EQ(next.status, GM_OK);
  EXPECT_EQ(call_behind.calls, 1);
  EXPECT_EQ(fence_behind.status, GM_OK);
  bytes expected(data.size(), 0x77);
  std::fill_n(expected.begin(), 100, std::uint8_t{6});
  EXPECT_EQ(piece_bytes(0, data.size()), expected);
}

TEST_P(failure_test, on_an_independent_stream_the_rest_of_the_unit_is_not_run) {
  stream* on = create_stream(stream_independent);
  table->fail_nth(opened, operation::fill_run, 2);
  const fill_run fills[] = {{memory.address, 10, 1}, {memory.address + 10, 10, 2}, {memory.address + 20, 10, 3}};
  const copy_run run{memory.address + 30, address_of(data.data()), 10, direction::host_to_device};
  outcome result;
  ASSERT_EQ(table->transfer(on, fills, 3, &run, 1, &outcome::record, &result, nullptr), GM_OK);
  ASSERT_EQ(fill(on, memory.address + 40, 10, 4), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(result.status, GM_ERROR_DEVICE);
  EXPECT_EQ(piece_bytes(10, 30), bytes(30, 0x77));
  EXPECT_EQ(piece_bytes(40, 10), bytes(10, 4));
}

// ---- stream_fail ---------------------------------------------------------------------------------------------------

TEST_P(failure_test, stream_fail_is_like_a_failure_of_its_work) {
  stream* on = create_stream();
  table->stream_fail(on, GM_ERROR_NO_MEMORY);
  outcome skipped;
  ASSERT_EQ(fill(on, memory.address, 100, 7, &outcome::record, &skipped), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_NO_MEMORY);
  EXPECT_NE(error(), "");
  EXPECT_EQ(skipped.status, GM_ERROR_NO_MEMORY);
  EXPECT_EQ(piece_bytes(0, 100), bytes(100, 0x77));
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
}

TEST_P(failure_test, stream_fail_skips_what_is_queued_already) {
  stream* on = create_stream();
  gate& held = close_gate(on);
  held.wait_entered();
  outcome queued;
  ASSERT_EQ(fill(on, memory.address, 100, 7, &outcome::record, &queued), GM_OK);
  table->stream_fail(on, GM_ERROR_DEVICE);
  held.open();
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_EQ(queued.status, GM_ERROR_DEVICE);
  if (is_sim()) {  // what is on a GPU already runs
    EXPECT_EQ(piece_bytes(0, 100), bytes(100, 0x77));
  }
}

TEST_P(failure_test, the_first_failure_is_the_one_reported) {
  stream* on = create_stream();
  table->stream_fail(on, GM_ERROR_SYSTEM);
  table->stream_fail(on, GM_ERROR_DEVICE);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_SYSTEM);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
}

TEST_P(failure_test, a_callback_fails_the_stream_that_waited_for_its_unit) {
  // As the runtime does: copies on a stream of its own, and the program's kernels behind a wait for them.
  struct teller {
    const backend_table* table;
    stream* waiting;
    static void tell(void* argument, gm_status status) {
      auto* const self = static_cast<teller*>(argument);
      if (status != GM_OK) self->table->stream_fail(self->waiting, status);
    }
  };
  for (int round = 0; round < 20; ++round) {
    stream* copies = create_stream(stream_independent);
    stream* kernels = create_stream();
    teller tells{table, kernels};
    fence copied;
    ASSERT_EQ(failing_copy(copies, &teller::tell, &tells, &copied), GM_OK);
    ASSERT_EQ(table->stream_wait(kernels, copied), GM_OK);
    outcome kernel;
    ASSERT_EQ(fill(kernels, memory.address, 10, 8, &outcome::record, &kernel), GM_OK);
    EXPECT_EQ(table->stream_synchronize(kernels), GM_ERROR_DEVICE);
    EXPECT_EQ(kernel.status, GM_ERROR_DEVICE);
    EXPECT_EQ(table->stream_synchronize(copies), GM_OK);
    destroy_stream(copies);
    destroy_stream(kernels);
  }
  if (is_sim()) {  // what is on a GPU already runs
    EXPECT_EQ(piece_bytes(0, 10), bytes(10, 0x77));
  }
}

// ---- Kernels and calls ---------------------------------------------------------------------------------------------

struct kernel_watch {
  std::atomic<int> bodies{0};
  std::atomic<int> finishes{0};
  static void body(void* self, std::size_t, std::size_t) { ++static_cast<kernel_watch*>(self)->bodies; }
  static void finish(void* self) { ++static_cast<kernel_watch*>(self)->finishes; }
  [[noreturn]] static void throwing_body(void* self, std::size_t, std::size_t) {
    ++static_cast<kernel_watch*>(self)->bodies;
    throw std::runtime_error("too hot");
  }
};

TEST_P(failure_test, a_skipped_kernel_still_finishes) {
  if (!can(has_host_launch)) GTEST_SKIP() << "no kernels on the host";
  stream* on = create_stream();
  table->stream_fail(on, GM_ERROR_DEVICE);
  kernel_watch watch;
  ASSERT_EQ(table->launch(on, 1000, &kernel_watch::body, &kernel_watch::finish, &watch), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_EQ(watch.bodies, 0);
  EXPECT_EQ(watch.finishes, 1);
}

TEST_P(failure_test, an_exception_out_of_a_kernel_fails_the_stream) {
  if (!can(has_host_launch)) GTEST_SKIP() << "no kernels on the host";
  stream* on = create_stream();
  kernel_watch watch;
  outcome behind;
  ASSERT_EQ(table->launch(on, 100'000, &kernel_watch::throwing_body, &kernel_watch::finish, &watch), GM_OK);
  ASSERT_EQ(fill(on, memory.address, 1, 1, &outcome::record, &behind), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_NE(error().find("too hot"), std::string::npos) << error();
  EXPECT_GE(watch.bodies, 1);
  EXPECT_EQ(watch.finishes, 1);
  EXPECT_EQ(behind.status, GM_ERROR_DEVICE);
  kernel_watch next;
  ASSERT_EQ(table->launch(on, 10, &kernel_watch::body, &kernel_watch::finish, &next), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_GE(next.bodies, 1);
}

TEST_P(failure_test, an_exception_out_of_a_call_fails_the_stream) {
  if (!is_sim()) GTEST_SKIP() << "the simulated device's own promise";
  stream* on = create_stream();
  ASSERT_EQ(table->call(
                on, [](void*) { throw 7; }, nullptr),
            GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
}

}  // namespace
}  // namespace gm::conformance
