// SPDX-License-Identifier: Apache-2.0
// fail_nth: for each operation, the n-th pass fails as the contract says, exactly once, and nothing else does.
#include <latch>
#include <thread>

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

class injection_test : public backend_test {
 protected:
  void SetUp() override {
    backend_test::SetUp();
    if (is_unusable()) return;
    if (table->fail_nth == nullptr) GTEST_SKIP() << "cannot be made to fail";
    on = create_stream();
    memory = create_piece();
    upload(on, memory.address, bytes(4096, 0));
  }

  void arm(operation what, std::uint64_t n) { table->fail_nth(opened, what, n); }

  // attempt(i) is refused with `refusal` at the n-th try and at no other; then 0 turns an armed failure off.
  template <class Attempt>
  void expect_refused_exactly_at(operation what, gm_status refusal, Attempt attempt) {
    for (std::uint64_t n = 1; n <= 4; ++n) {
      arm(what, n);
      for (std::uint64_t i = 1; i <= 8; ++i) {
        EXPECT_EQ(attempt(), i == n ? refusal : GM_OK) << "try " << i << " of n = " << n;
        if (i == n) {
          EXPECT_NE(error(), "");
        }
      }
    }
    arm(what, 2);
    arm(what, 0);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(attempt(), GM_OK);
  }

  // As above, for work that is enqueued and fails when it runs. attempt(outcome) enqueues one unit.
  template <class Attempt>
  void expect_fails_exactly_at(operation what, Attempt attempt) {
    for (std::uint64_t n = 1; n <= 4; ++n) {
      arm(what, n);
      for (std::uint64_t i = 1; i <= 8; ++i) {
        ASSERT_EQ(attempt(), GM_OK);
        EXPECT_EQ(table->stream_synchronize(on), i == n ? GM_ERROR_DEVICE : GM_OK) << "unit " << i << " of n = " << n;
      }
    }
    arm(what, 2);
    arm(what, 0);
    for (int i = 0; i < 4; ++i) {
      ASSERT_EQ(attempt(), GM_OK);
      EXPECT_EQ(table->stream_synchronize(on), GM_OK);
    }
  }

  gm_status a_copy() {
    return copy(on, memory.address, address_of(data.data()), data.size(), direction::host_to_device, &outcome::record,
                &result);
  }
  gm_status a_fill() { return fill(on, memory.address, 100, 1, &outcome::record, &result); }
  gm_status a_call() {
    return table->call(
        on, [](void* self) { outcome::record(self, GM_OK); }, &result);
  }
  gm_status a_launch() {
    return table->launch(
        on, 1, [](void*, std::size_t, std::size_t) {}, [](void* self) { outcome::record(self, GM_OK); }, &result);
  }

  stream* on = nullptr;
  piece memory{};
  const bytes data = random_bytes(100, 50);
  outcome result;
};
GM_ON_EVERY_FLAVOUR(injection_test);

constexpr int accepted = 4 * 7 + 4;  // attempts that expect_refused_exactly_at lets through

TEST_P(injection_test, piece_create_is_refused_with_no_memory) {
  const std::uint64_t free_bytes = info(devices[0]).free_bytes;
  expect_refused_exactly_at(operation::piece_create, GM_ERROR_NO_MEMORY, [&] {
    std::uint64_t address = 0;
    const gm_status status = table->piece_create(devices[0], 9 * frame_bytes, 1, &address);
    if (status == GM_OK) {
      table->piece_destroy(devices[0], 9 * frame_bytes, 1, address);
    } else {
      EXPECT_EQ(address, 0u);
    }
    return status;
  });
  if (owns_the_machine()) {
    EXPECT_EQ(info(devices[0]).free_bytes, free_bytes);
  }
}

TEST_P(injection_test, stream_create_is_refused) {
  expect_refused_exactly_at(operation::stream_create, GM_ERROR_DEVICE, [&] {
    stream* made = nullptr;
    const gm_status status = table->stream_create(devices[0], stream_ordinary, &made);
    if (status == GM_OK) {
      table->stream_destroy(made);
    } else {
      EXPECT_EQ(made, nullptr);
    }
    return status;
  });
}

TEST_P(injection_test, a_refused_copy_was_not_enqueued) {
  expect_refused_exactly_at(operation::copy_submit, GM_ERROR_DEVICE, [&] { return a_copy(); });
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(result.calls, accepted);
}

TEST_P(injection_test, a_refused_copy_leaves_fence_and_destination) {
  arm(operation::copy_submit, 1);
  const fill_run fill_part{memory.address, 100, 9};
  const copy_run copy_part{memory.address, address_of(data.data()), 100, direction::host_to_device};
  fence completion{nullptr, 77};
  ASSERT_EQ(table->transfer(on, &fill_part, 1, &copy_part, 1, &outcome::record, &result, &completion), GM_ERROR_DEVICE);
  EXPECT_EQ(completion, (fence{nullptr, 77}));
  EXPECT_EQ(download(on, memory.address, 100), bytes(100, 0));
  EXPECT_EQ(result.calls, 0);
}

TEST_P(injection_test, a_refused_fill_was_not_enqueued) {
  expect_refused_exactly_at(operation::fill_submit, GM_ERROR_DEVICE, [&] { return a_fill(); });
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(result.calls, accepted);
}

TEST_P(injection_test, a_refused_call_was_not_enqueued) {
  expect_refused_exactly_at(operation::call_submit, GM_ERROR_DEVICE, [&] { return a_call(); });
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(result.calls, accepted);
}

TEST_P(injection_test, a_refused_launch_was_not_enqueued) {
  if (!can(has_host_launch)) GTEST_SKIP() << "no kernels on the host";
  expect_refused_exactly_at(operation::launch_submit, GM_ERROR_DEVICE, [&] { return a_launch(); });
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(result.calls, accepted);
}

TEST_P(injection_test, a_refused_wait_was_not_enqueued) {
  stream* other = create_stream();
  close_gate(other).wait_entered();
  const fence awaited = record_fence(other);
  arm(operation::wait_submit, 1);
  ASSERT_EQ(table->stream_wait(on, awaited), GM_ERROR_DEVICE);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK) << "which would wait for ever behind the gate";
  expect_refused_exactly_at(operation::wait_submit, GM_ERROR_DEVICE, [&] { return table->stream_wait(on, fence{}); });
}

TEST_P(injection_test, a_refused_fence_was_not_enqueued) {
  expect_refused_exactly_at(operation::fence_record, GM_ERROR_DEVICE, [&] {
    fence completion{nullptr, 77};
    const gm_status status = table->fence_record(on, &outcome::record, &result, &completion);
    if (status != GM_OK) {
      EXPECT_EQ(completion, (fence{nullptr, 77}));
    }
    return status;
  });
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(result.calls, accepted);
  expect_refused_exactly_at(operation::fence_record, GM_ERROR_DEVICE,
                            [&] { return table->fence_record(on, nullptr, nullptr, nullptr); });
}

TEST_P(injection_test, a_copy_fails_when_it_runs) {
  expect_fails_exactly_at(operation::copy_run, [&] { return a_copy(); });
}

TEST_P(injection_test, a_fill_fails_when_it_runs) {
  expect_fails_exactly_at(operation::fill_run, [&] { return a_fill(); });
}

TEST_P(injection_test, a_kernel_fails_when_it_runs_and_still_finishes) {
  if (!can(has_host_launch)) GTEST_SKIP() << "no kernels on the host";
  expect_fails_exactly_at(operation::launch_run, [&] { return a_launch(); });
  EXPECT_EQ(result.calls, 4 * 8 + 4);
}

TEST_P(injection_test, a_failed_kernel_does_not_run) {
  if (!can(has_host_launch)) GTEST_SKIP() << "no kernels on the host";
  std::atomic<int> bodies{0};
  arm(operation::launch_run, 1);
  const auto body = [](void* counter, std::size_t, std::size_t) { ++*static_cast<std::atomic<int>*>(counter); };
  ASSERT_EQ(table->launch(on, 1000, body, nullptr, &bodies), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_EQ(bodies, 0);
}

TEST_P(injection_test, a_failed_fill_leaves_its_destination) {
  arm(operation::fill_run, 1);
  ASSERT_EQ(a_fill(), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_EQ(download(on, memory.address, 100), bytes(100, 0));
}

TEST_P(injection_test, an_armed_operation_disturbs_no_other) {
  for (int i = 0; i < static_cast<int>(operation::count_); ++i) {
    const auto armed = static_cast<operation>(i);
    arm(armed, 1);
    if (armed != operation::copy_submit && armed != operation::copy_run) {
      EXPECT_EQ(a_copy(), GM_OK);
    }
    if (armed != operation::fill_submit && armed != operation::fill_run) {
      EXPECT_EQ(a_fill(), GM_OK);
    }
    if (armed != operation::call_submit) {
      EXPECT_EQ(a_call(), GM_OK);
    }
    if (armed != operation::fence_record) {
      EXPECT_EQ(table->fence_record(on, nullptr, nullptr, nullptr), GM_OK);
    }
    if (armed != operation::wait_submit) {
      EXPECT_EQ(table->stream_wait(on, fence{}), GM_OK);
    }
    EXPECT_EQ(table->stream_synchronize(on), GM_OK) << "operation " << i;
    arm(armed, 0);
  }
}

TEST_P(injection_test, skipped_work_does_not_count) {
  gate& held = close_gate(on);
  arm(operation::copy_run, 2);
  table->stream_fail(on, GM_ERROR_DEVICE);
  for (int i = 0; i < 5; ++i) ASSERT_EQ(a_copy(), GM_OK);
  held.open();
  ASSERT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  ASSERT_EQ(a_copy(), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  ASSERT_EQ(a_copy(), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
}

TEST_P(injection_test, one_pass_of_many_threads_fails) {
  // With n the number of all passes, one that is counted twice or not at all shows.
  constexpr int thread_count = 4;
  constexpr int rounds = 50'000;
  for (const int n : {1, thread_count * rounds / 2, thread_count * rounds}) {
    arm(operation::wait_submit, static_cast<std::uint64_t>(n));
    std::atomic<int> refused{0};
    std::latch all_started(thread_count);
    std::vector<std::thread> threads;
    for (int t = 0; t < thread_count; ++t) {
      threads.emplace_back([&] {
        all_started.arrive_and_wait();
        for (int i = 0; i < rounds; ++i) refused += table->stream_wait(on, fence{}) != GM_OK ? 1 : 0;
      });
    }
    for (std::thread& each : threads) each.join();
    EXPECT_EQ(refused, 1) << n;
  }
}

TEST_P(injection_test, all_devices_and_streams_count_together) {
  stream* other = create_stream(stream_independent, devices.size() - 1);
  arm(operation::fence_record, 3);
  EXPECT_EQ(table->fence_record(on, nullptr, nullptr, nullptr), GM_OK);
  EXPECT_EQ(table->fence_record(other, nullptr, nullptr, nullptr), GM_OK);
  EXPECT_EQ(table->fence_record(on, nullptr, nullptr, nullptr), GM_ERROR_DEVICE);
  EXPECT_EQ(table->fence_record(other, nullptr, nullptr, nullptr), GM_OK);
}

}  // namespace
}  // namespace gm::conformance
