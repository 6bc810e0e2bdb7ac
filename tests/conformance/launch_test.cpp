// SPDX-License-Identifier: Apache-2.0
// launch(): kernels that are host code cover [0, count) exactly once, in stream order, and finish once.
#include <limits>

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

class launch_test : public backend_test {
 protected:
  void SetUp() override {
    backend_test::SetUp();
    if (is_unusable()) return;
    if (!can(has_host_launch)) GTEST_SKIP() << "no kernels on the host";
    on = create_stream();
  }

  stream* on = nullptr;
};
GM_ON_EVERY_FLAVOUR(launch_test);

// Counts how often each index was run.
struct coverage {
  std::vector<std::atomic<std::uint8_t>> runs;
  std::atomic<int> finishes{0};
  std::atomic<int> mistakes{0};

  explicit coverage(std::size_t count) : runs(count) {}

  static void body(void* argument, std::size_t first, std::size_t last) {
    auto* const self = static_cast<coverage*>(argument);
    if (first >= last || last > self->runs.size() || self->finishes != 0) {
      ++self->mistakes;
      return;
    }
    for (std::size_t i = first; i < last; ++i) ++self->runs[i];
  }
  static void finish(void* argument) { ++static_cast<coverage*>(argument)->finishes; }
};

TEST_P(launch_test, covers_every_index_once_and_finishes_once) {
  for (const std::size_t count : {0u, 1u, 2u, 3u, 7u, 64u, 1000u, 4097u, 1'000'003u}) {
    coverage seen(count);
    ASSERT_EQ(table->launch(on, count, &coverage::body, &coverage::finish, &seen), GM_OK);
    ASSERT_EQ(table->stream_synchronize(on), GM_OK);
    EXPECT_EQ(seen.finishes, 1) << count;
    EXPECT_EQ(seen.mistakes, 0) << count;
    EXPECT_TRUE(std::all_of(seen.runs.begin(), seen.runs.end(), [](const auto& n) { return n == 1; })) << count;
  }
}

TEST_P(launch_test, finish_may_be_null) {
  std::atomic<std::size_t> indices{0};
  const auto body = [](void* sum, std::size_t first, std::size_t last) {
    *static_cast<std::atomic<std::size_t>*>(sum) += last - first;
  };
  ASSERT_EQ(table->launch(on, 12345, body, nullptr, &indices), GM_OK);
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(indices, 12345u);
}

TEST_P(launch_test, covers_counts_that_no_loop_could) {
  struct totals {
    std::atomic<std::size_t> indices{0};
    std::atomic<std::size_t> last{0};
    static void body(void* argument, std::size_t first, std::size_t end) {
      auto* const self = static_cast<totals*>(argument);
      self->indices += end - first;
      std::size_t before = self->last;
      while (before < end && !self->last.compare_exchange_weak(before, end)) {
      }
    }
  };
  for (const std::size_t count : {std::size_t{1} << 40, std::numeric_limits<std::size_t>::max()}) {
    totals seen;
    ASSERT_EQ(table->launch(on, count, &totals::body, nullptr, &seen), GM_OK);
    ASSERT_EQ(table->stream_synchronize(on), GM_OK);
    EXPECT_EQ(seen.indices, count);
    EXPECT_EQ(seen.last, count);
  }
}

TEST_P(launch_test, kernels_and_copies_take_turns) {
  if (!is_sim()) GTEST_SKIP() << "device memory that the host can touch";
  struct kernel {
    std::uint8_t* memory;
    static void increment(void* argument, std::size_t first, std::size_t last) {
      auto* const self = static_cast<kernel*>(argument);
      for (std::size_t i = first; i < last; ++i) self->memory[i] = static_cast<std::uint8_t>(self->memory[i] + 1);
    }
  };
  const piece memory = create_piece();
  kernel adds{reinterpret_cast<std::uint8_t*>(memory.address)};
  const bytes start = random_bytes(300'000, 60);
  bytes expected = start;
  upload(on, memory.address, start);
  for (int i = 0; i < 20; ++i) {
    bytes between(start.size());
    ASSERT_EQ(table->launch(on, start.size(), &kernel::increment, nullptr, &adds), GM_OK);
    for (std::uint8_t& each : expected) each = static_cast<std::uint8_t>(each + 1);
    ASSERT_EQ(copy(on, address_of(between.data()), memory.address, between.size(), direction::device_to_host), GM_OK);
    if (i % 2 == 0) {
      ASSERT_EQ(table->stream_synchronize(on), GM_OK);
      ASSERT_EQ(between, expected);
    }
    wait_all(on);
  }
  EXPECT_EQ(download(on, memory.address, start.size()), expected);
}

TEST_P(launch_test, finish_comes_before_the_work_behind) {
  order_log log;
  for (int i = 0; i < 50; i += 2) {
    ASSERT_EQ(table->launch(
                  on, 1000, [](void*, std::size_t, std::size_t) {}, &order_log::on_call, log.ticket_for(i)),
              GM_OK);
    ASSERT_EQ(table->fence_record(on, &order_log::on_done, log.ticket_for(i + 1), nullptr), GM_OK);
  }
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(log.numbers(), count_to(50));
}

TEST_P(launch_test, kernels_of_many_streams_run_at_once) {
  constexpr std::size_t stream_count = 6;
  constexpr std::size_t count = 20'000;
  std::vector<stream*> streams;
  std::vector<std::unique_ptr<coverage>> seen;
  for (std::size_t i = 0; i < stream_count; ++i) {
    streams.push_back(create_stream(stream_ordinary, i % devices.size()));
    for (int k = 0; k < 10; ++k) {
      seen.push_back(std::make_unique<coverage>(count));
      ASSERT_EQ(table->launch(streams[i], count, &coverage::body, &coverage::finish, seen.back().get()), GM_OK);
    }
  }
  for (stream* each : streams) ASSERT_EQ(table->stream_synchronize(each), GM_OK);
  for (const auto& each : seen) {
    EXPECT_EQ(each->mistakes, 0);
    EXPECT_EQ(each->finishes, 1);
    EXPECT_TRUE(std::all_of(each->runs.begin(), each->runs.end(), [](const auto& n) { return n == 1; }));
  }
}

}  // namespace
}  // namespace gm::conformance
