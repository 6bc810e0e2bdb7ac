// SPDX-License-Identifier: Apache-2.0
// Fences and waits: what a fence covers, how long it lives, and streams that wait for each other.
#include <chrono>
#include <thread>

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

class fence_test : public backend_test {
 protected:
  // Long enough for work that wrongly does not wait to show itself; a right backend passes however slow it is.
  static void let_errors_happen() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }
};
GM_ON_EVERY_FLAVOUR(fence_test);

TEST_P(fence_test, the_null_fence_is_complete) {
  EXPECT_TRUE(table->fence_done(fence{}));
  table->fence_wait(fence{});
  stream* on = create_stream();
  EXPECT_EQ(table->stream_wait(on, fence{}), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
}

TEST_P(fence_test, a_fence_on_an_idle_stream_completes) {
  stream* on = create_stream();
  const fence empty = record_fence(on);
  table->fence_wait(empty);
  EXPECT_TRUE(table->fence_done(empty));
}

TEST_P(fence_test, a_fence_completes_when_the_work_before_it_has) {
  stream* on = create_stream();
  gate& held = close_gate(on);
  outcome result;
  fence with_callback;
  ASSERT_EQ(table->fence_record(on, &outcome::record, &result, &with_callback), GM_OK);
  const fence without = record_fence(on);
  held.wait_entered();
  let_errors_happen();
  EXPECT_FALSE(table->fence_done(with_callback));
  EXPECT_FALSE(table->fence_done(without));
  EXPECT_EQ(result.calls, 0);
  held.open();
  table->fence_wait(without);
  EXPECT_TRUE(table->fence_done(with_callback));
  EXPECT_TRUE(table->fence_done(without));
  EXPECT_EQ(result.calls, 1);
  EXPECT_EQ(result.status, GM_OK);
}

TEST_P(fence_test, a_fence_does_not_cover_later_work) {
  stream* on = create_stream();
  const fence before = record_fence(on);
  close_gate(on);
  const fence after = record_fence(on);
  table->fence_wait(before);
  EXPECT_TRUE(table->fence_done(before));
  EXPECT_FALSE(table->fence_done(after));
}

TEST_P(fence_test, a_fence_waits_for_the_callbacks_before_it) {
  stream* on = create_stream();
  gate slow;
  const auto linger = [](void* argument, gm_status) { gate::pass(argument); };
  fence completion;
  ASSERT_EQ(table->transfer(on, nullptr, 0, nullptr, 0, linger, &slow, &completion), GM_OK);
  const fence behind = record_fence(on);
  slow.wait_entered();
  let_errors_happen();
  EXPECT_FALSE(table->fence_done(completion));
  EXPECT_FALSE(table->fence_done(behind));
  slow.open();
  table->fence_wait(completion);
  table->fence_wait(behind);
}

TEST_P(fence_test, many_threads_wait_for_one_fence) {
  stream* on = create_stream();
  gate& held = close_gate(on);
  const fence all = record_fence(on);
  std::atomic<int> returned_early{0};
  std::atomic<bool> is_open{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      table->fence_wait(all);
      if (!is_open || !table->fence_done(all)) ++returned_early;
    });
  }
  held.wait_entered();
  let_errors_happen();
  is_open = true;
  held.open();
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(returned_early, 0);
}

TEST_P(fence_test, a_fence_outlives_its_stream) {
  stream* on = create_stream();
  std::vector<fence> old;
  for (int i = 0; i < 100; ++i) {
    fence each;
    ASSERT_EQ(table->transfer(on, nullptr, 0, nullptr, 0, nullptr, nullptr, &each), GM_OK);
    old.push_back(each);
  }
  destroy_stream(on);
  for (const fence& each : old) EXPECT_TRUE(table->fence_done(each));
  // Streams that come later, perhaps in its place, change nothing, however little they have done.
  for (int i = 0; i < 5; ++i) {
    stream* later = create_stream(stream_ordinary, static_cast<std::size_t>(i) % devices.size());
    gate& held = close_gate(later);
    const fence fresh = record_fence(later);
    EXPECT_FALSE(table->fence_done(fresh));
    for (const fence& each : old) {
      EXPECT_TRUE(table->fence_done(each));
      EXPECT_NE(each, fresh);
      table->fence_wait(each);
    }
    EXPECT_EQ(table->stream_wait(later, old.back()), GM_OK);
    held.open();
    EXPECT_EQ(table->stream_synchronize(later), GM_OK);
    old.push_back(fresh);
    destroy_stream(later);
  }
}

TEST_P(fence_test, work_behind_a_wait_waits) {
  stream* first = create_stream();
  stream* second = create_stream();
  gate& held = close_gate(first);
  const fence awaited = record_fence(first);
  order_log log;
  ASSERT_EQ(table->fence_record(second, &order_log::on_done, log.ticket_for(0), nullptr), GM_OK);
  const fence before = record_fence(second);
  ASSERT_EQ(table->stream_wait(second, awaited), GM_OK);
  ASSERT_EQ(table->fence_record(second, &order_log::on_done, log.ticket_for(1), nullptr), GM_OK);
  const fence after = record_fence(second);
  table->fence_wait(before);
  let_errors_happen();
  EXPECT_EQ(log.numbers(), std::vector<int>{0});
  EXPECT_FALSE(table->fence_done(after));
  held.open();
  table->fence_wait(after);
  EXPECT_EQ(log.numbers(), (std::vector<int>{0, 1}));
  EXPECT_TRUE(table->fence_done(awaited));
}

TEST_P(fence_test, a_fence_behind_a_wait_covers_it) {
  stream* first = create_stream();
  stream* second = create_stream();
  gate& held = close_gate(first);
  ASSERT_EQ(table->stream_wait(second, record_fence(first)), GM_OK);
  const fence behind = record_fence(second);
  let_errors_happen();
  EXPECT_FALSE(table->fence_done(behind));
  held.open();
  table->fence_wait(behind);
}

TEST_P(fence_test, a_stream_may_wait_for_itself) {
  stream* on = create_stream();
  gate& held = close_gate(on);
  ASSERT_EQ(table->stream_wait(on, record_fence(on)), GM_OK);
  outcome result;
  ASSERT_EQ(table->fence_record(on, &outcome::record, &result, nullptr), GM_OK);
  held.open();
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(result.calls, 1);
}

TEST_P(fence_test, data_goes_round_all_devices_in_order) {
  // Host to device 0, on to the next through the host, ..., with nothing but fences to keep the order.
  const bytes data = random_bytes(200 * kib, 30);
  std::vector<stream*> streams;
  std::vector<piece> pieces;
  const std::size_t stops = devices.size() + 2;
  for (std::size_t i = 0; i < stops; ++i) {
    streams.push_back(create_stream(stream_ordinary, i % devices.size()));
    pieces.push_back(create_piece(1, i % devices.size()));
  }
  for (int round = 0; round < 10; ++round) {
    std::vector<bytes> hops(stops + 1, bytes(data.size(), 0));
    hops[0] = data;
    for (std::size_t i = 0; i < data.size(); i += 1000) hops[0][i] = static_cast<std::uint8_t>(round);
    fence previous;
    for (std::size_t i = 0; i < stops; ++i) {
      ASSERT_EQ(table->stream_wait(streams[i], previous), GM_OK);
      ASSERT_EQ(copy(streams[i], pieces[i].address, address_of(hops[i].data()), data.size(), direction::host_to_device),
                GM_OK);
      ASSERT_EQ(copy(streams[i], address_of(hops[i + 1].data()), pieces[i].address, data.size(),
                     direction::device_to_host, nullptr, nullptr, &previous),
                GM_OK);
    }
    table->fence_wait(previous);
    ASSERT_EQ(hops.back(), hops.front());
  }
}

TEST_P(fence_test, many_streams_wait_for_one) {
  stream* source = create_stream();
  gate& held = close_gate(source);
  outcome results;
  std::vector<fence> ends;
  const fence awaited = record_fence(source);
  for (std::size_t i = 0; i < 8; ++i) {
    stream* each = create_stream(stream_ordinary, i % devices.size());
    ASSERT_EQ(table->stream_wait(each, awaited), GM_OK);
    ASSERT_EQ(table->fence_record(each, &outcome::record, &results, &ends.emplace_back()), GM_OK);
  }
  let_errors_happen();
  EXPECT_EQ(results.calls, 0);
  held.open();
  for (const fence& each : ends) table->fence_wait(each);
  EXPECT_EQ(results.calls, 8);
}

TEST_P(fence_test, waits_and_fences_across_threads_do_not_get_lost) {
  // Two streams hand a turn back and forth; each wait is for the other's latest fence.
  stream* streams[2] = {create_stream(), create_stream(stream_ordinary, devices.size() - 1)};
  order_log log;
  constexpr int turns = 400;
  fence last;
  for (int i = 0; i < turns; ++i) {
    stream* on = streams[i % 2];
    ASSERT_EQ(table->stream_wait(on, last), GM_OK);
    ASSERT_EQ(table->transfer(on, nullptr, 0, nullptr, 0, &order_log::on_done, log.ticket_for(i), &last), GM_OK);
    if (i % 50 == 0) table->fence_wait(last);
  }
  table->fence_wait(last);
  EXPECT_EQ(log.numbers(), count_to(turns));
}

}  // namespace
}  // namespace gm::conformance
