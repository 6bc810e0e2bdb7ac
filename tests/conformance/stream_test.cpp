// SPDX-License-Identifier: Apache-2.0
// Streams: order, many threads on one, full queues, callbacks that enqueue, and ends that wait for their work.
#include <thread>

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

class stream_test : public backend_test {
 protected:
  // An empty unit whose callback goes into the log.
  gm_status mark(stream* on, order_log& log, int number) {
    return table->transfer(on, nullptr, 0, nullptr, 0, &order_log::on_done, log.ticket_for(number), nullptr);
  }
};
GM_ON_EVERY_FLAVOUR(stream_test);

TEST_P(stream_test, work_is_done_in_order) {
  stream* on = create_stream();
  const piece memory = create_piece();
  constexpr std::size_t rounds = 200;
  bytes seen(rounds);
  for (std::size_t i = 0; i < rounds; ++i) {
    ASSERT_EQ(fill(on, memory.address, 4096, static_cast<std::uint8_t>(i)), GM_OK);
    ASSERT_EQ(copy(on, address_of(&seen[i]), memory.address + 4000, 1, direction::device_to_host), GM_OK);
  }
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  for (std::size_t i = 0; i < rounds; ++i) EXPECT_EQ(seen[i], static_cast<std::uint8_t>(i));
}

TEST_P(stream_test, callbacks_of_every_kind_come_in_order) {
  stream* on = create_stream();
  const piece memory = create_piece();
  order_log log;
  gate& held = close_gate(on);
  for (int i = 0; i < 60; i += 3) {
    ASSERT_EQ(fill(on, memory.address, 100'000, 1, &order_log::on_done, log.ticket_for(i)), GM_OK);
    ASSERT_EQ(table->fence_record(on, &order_log::on_done, log.ticket_for(i + 1), nullptr), GM_OK);
    ASSERT_EQ(table->call(on, &order_log::on_call, log.ticket_for(i + 2)), GM_OK);
  }
  EXPECT_TRUE(log.entries().empty());
  held.open();
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(log.numbers(), count_to(60));
}

TEST_P(stream_test, a_full_queue_makes_enqueueing_wait_and_loses_nothing) {
  stream* on = create_stream();
  order_log log;
  gate& held = close_gate(on);
  constexpr int units = 5000;
  std::atomic<int> enqueued{0};
  std::thread enqueuer([&] {
    for (int i = 0; i < units; ++i) {
      if (mark(on, log, i) == GM_OK) ++enqueued;
    }
  });
  held.wait_entered();
  EXPECT_TRUE(log.entries().empty());
  held.open();
  enqueuer.join();
  ASSERT_EQ(enqueued, units);
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(log.numbers(), count_to(units));
}

TEST_P(stream_test, sim_queues_a_thousand_units_and_no_more_behind_a_gate) {
  if (!is_sim()) GTEST_SKIP() << "the simulated device's own bound";
  stream* on = create_stream();
  gate& held = close_gate(on);
  held.wait_entered();
  std::atomic<int> enqueued{0};
  constexpr int units = 3000;
  std::thread enqueuer([&] {
    for (int i = 0; i < units; ++i) {
      if (table->transfer(on, nullptr, 0, nullptr, 0, nullptr, nullptr, nullptr) == GM_OK) ++enqueued;
    }
  });
  while (enqueued < 1000) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_LE(enqueued, 1100) << "the queue is bounded";
  held.open();
  enqueuer.join();
  EXPECT_EQ(enqueued, units);
}

TEST_P(stream_test, units_of_many_threads_stay_together) {
  stream* on = create_stream();
  const piece memory = create_piece();
  constexpr std::size_t thread_count = 4;
  constexpr std::size_t rounds = 60;
  constexpr std::size_t runs = 20;
  constexpr std::size_t run_bytes = 512;
  // Each unit fills a region with its own number and reads it back in many runs: a foreign unit in between shows.
  std::vector<bytes> seen(thread_count * rounds, bytes(runs * run_bytes));
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < thread_count; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < rounds; ++i) {
        const std::size_t unit = t * rounds + i;
        std::vector<fill_run> fills;
        std::vector<copy_run> copies;
        for (std::size_t r = 0; r < runs; ++r) {
          fills.push_back({memory.address + r * run_bytes, run_bytes, static_cast<std::uint8_t>(unit)});
          copies.push_back({address_of(seen[unit].data()) + r * run_bytes, memory.address + r * run_bytes, run_bytes,
                            direction::device_to_host});
        }
        if (table->transfer(on, fills.data(), runs, copies.data(), runs, nullptr, nullptr, nullptr) != GM_OK) {
          ++failures;
        }
      }
    });
  }
  for (std::thread& each : threads) each.join();
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(failures, 0);
  for (std::size_t unit = 0; unit < seen.size(); ++unit) {
    EXPECT_EQ(seen[unit], bytes(runs * run_bytes, static_cast<std::uint8_t>(unit))) << "unit " << unit;
  }
}

TEST_P(stream_test, each_threads_work_keeps_its_order) {
  stream* on = create_stream();
  order_log log;
  constexpr int thread_count = 4;
  constexpr int rounds = 1000;
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < thread_count; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < rounds; ++i) {
        if (mark(on, log, t * rounds + i) != GM_OK) ++failures;
      }
    });
  }
  for (std::thread& each : threads) each.join();
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(failures, 0);
  std::vector<int> next(thread_count, 0);
  const std::vector<int> ran = log.numbers();
  ASSERT_EQ(ran.size(), static_cast<std::size_t>(thread_count * rounds));
  for (const int number : ran) EXPECT_EQ(number % rounds, next[static_cast<std::size_t>(number / rounds)]++);
}

struct chain {
  const backend_table* table;
  stream* on;
  std::atomic<int> left;
  std::atomic<int> failures{0};

  static void step(void* argument, gm_status) {
    auto* const self = static_cast<chain*>(argument);
    if (self->left.fetch_sub(1) <= 1) return;
    if (self->table->transfer(self->on, nullptr, 0, nullptr, 0, &chain::step, self, nullptr) != GM_OK) ++self->failures;
  }
};

TEST_P(stream_test, callbacks_may_enqueue_on_their_own_stream) {
  stream* on = create_stream();
  chain links{table, on, 500};
  ASSERT_EQ(table->transfer(on, nullptr, 0, nullptr, 0, &chain::step, &links, nullptr), GM_OK);
  while (links.left > 0) ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(links.failures, 0);
  EXPECT_EQ(links.left, 0);
}

struct burst {
  const backend_table* table;
  stream* on;
  int units;
  outcome results;
  std::atomic<int> failures{0};

  static void run(void* argument, gm_status) {
    auto* const self = static_cast<burst*>(argument);
    for (int i = 0; i < self->units; ++i) {
      const gm_status status =
          self->table->transfer(self->on, nullptr, 0, nullptr, 0, &outcome::record, &self->results, nullptr);
      if (status != GM_OK) ++self->failures;
    }
  }
};

TEST_P(stream_test, callbacks_may_enqueue_on_a_full_queue) {
  stream* on = create_stream();
  burst many{table, on, 3000, {}, {}};
  order_log log;
  gate& held = close_gate(on);
  ASSERT_EQ(table->transfer(on, nullptr, 0, nullptr, 0, &burst::run, &many, nullptr), GM_OK);
  constexpr int units = 4000;
  std::atomic<int> failures{0};
  std::thread enqueuer([&] {
    for (int i = 0; i < units; ++i) {
      if (mark(on, log, i) != GM_OK) ++failures;
    }
  });
  held.wait_entered();
  held.open();
  enqueuer.join();
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(many.failures, 0);
  EXPECT_EQ(many.results.calls, many.units);
  EXPECT_EQ(log.numbers(), count_to(units));
}

TEST_P(stream_test, callbacks_of_two_full_streams_enqueue_on_each_other) {
  stream* first = create_stream();
  stream* second = create_stream();
  burst there{table, second, 2500, {}, {}};
  burst back{table, first, 2500, {}, {}};
  gate& hold_first = close_gate(first);
  gate& hold_second = close_gate(second);
  ASSERT_EQ(table->transfer(first, nullptr, 0, nullptr, 0, &burst::run, &there, nullptr), GM_OK);
  ASSERT_EQ(table->transfer(second, nullptr, 0, nullptr, 0, &burst::run, &back, nullptr), GM_OK);
  const int nearly_full = is_sim() ? 900 : 400;  // units, of what the queue holds
  for (int i = 0; i < nearly_full; ++i) {
    ASSERT_EQ(table->transfer(first, nullptr, 0, nullptr, 0, nullptr, nullptr, nullptr), GM_OK);
    ASSERT_EQ(table->transfer(second, nullptr, 0, nullptr, 0, nullptr, nullptr, nullptr), GM_OK);
  }
  hold_first.open();
  hold_second.open();
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(table->stream_synchronize(first), GM_OK);
    ASSERT_EQ(table->stream_synchronize(second), GM_OK);
  }
  EXPECT_EQ(there.failures + back.failures, 0);
  EXPECT_EQ(there.results.calls, there.units);
  EXPECT_EQ(back.results.calls, back.units);
}

TEST_P(stream_test, a_held_stream_does_not_hold_others) {
  stream* held_stream = create_stream();
  close_gate(held_stream).wait_entered();
  const fence held = record_fence(held_stream);
  for (std::size_t i = 0; i < devices.size(); ++i) {
    stream* other = create_stream(stream_ordinary, i);
    const piece memory = create_piece(1, i);
    const bytes data = random_bytes(5000, 20);
    upload(other, memory.address, data);
    EXPECT_EQ(download(other, memory.address, data.size()), data);
  }
  EXPECT_FALSE(table->fence_done(held));
}

TEST_P(stream_test, synchronize_waits_for_what_is_queued) {
  stream* on = create_stream();
  for (int round = 0; round < 20; ++round) {
    std::atomic<bool> ran{false};
    gate& held = close_gate(on);
    const auto set = [](void* flag) { *static_cast<std::atomic<bool>*>(flag) = true; };
    ASSERT_EQ(table->call(on, set, &ran), GM_OK);
    std::thread opener([&] { held.open(); });
    EXPECT_EQ(table->stream_synchronize(on), GM_OK);
    EXPECT_TRUE(ran);
    opener.join();
  }
}

TEST_P(stream_test, an_empty_stream_synchronizes_at_once) {
  stream* on = create_stream();
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
}

TEST_P(stream_test, destroy_waits_for_its_work) {
  for (int round = 0; round < 20; ++round) {
    stream* on = create_stream();
    outcome results;
    for (int i = 0; i < 300; ++i) {
      ASSERT_EQ(table->fence_record(on, &outcome::record, &results, nullptr), GM_OK);
    }
    destroy_stream(on);
    ASSERT_EQ(results.calls, 300);
  }
}

TEST_P(stream_test, many_streams_live_at_once) {
  std::vector<stream*> streams;
  for (std::size_t i = 0; i < 20; ++i) streams.push_back(create_stream(stream_ordinary, i % devices.size()));
  outcome results;
  for (stream* each : streams) {
    for (int i = 0; i < 50; ++i) ASSERT_EQ(table->fence_record(each, &outcome::record, &results, nullptr), GM_OK);
  }
  for (stream* each : streams) EXPECT_EQ(table->stream_synchronize(each), GM_OK);
  EXPECT_EQ(results.calls, 1000);
}

TEST_P(stream_test, threads_create_use_and_destroy_streams) {
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        stream* on = nullptr;
        if (table->stream_create(devices[0], stream_ordinary, &on) != GM_OK) {
          ++failures;
          continue;
        }
        outcome result;
        if (table->fence_record(on, &outcome::record, &result, nullptr) != GM_OK) ++failures;
        if (table->stream_synchronize(on) != GM_OK || result.calls != 1) ++failures;
        table->stream_destroy(on);
      }
    });
  }
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(failures, 0);
}

}  // namespace
}  // namespace gm::conformance
