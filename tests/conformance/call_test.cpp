// SPDX-License-Identifier: Apache-2.0
// call(): a function of the program's in stream order, which may block, enqueue, and raise signals of its own.
#include <pthread.h>
#include <signal.h>

#include <thread>

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

class call_test : public backend_test {};
GM_ON_EVERY_FLAVOUR(call_test);

TEST_P(call_test, sees_the_work_before_it_and_is_seen_by_the_work_behind) {
  struct turn {
    bytes host;
    std::atomic<int> mistakes{0};
    std::uint8_t expected = 0;
    static void take(void* argument) {
      auto* const self = static_cast<turn*>(argument);
      for (std::uint8_t& each : self->host) {
        if (each != self->expected) ++self->mistakes;
        each = static_cast<std::uint8_t>(each + 1);
      }
      ++self->expected;
    }
  };
  stream* on = create_stream();
  const piece memory = create_piece();
  turn state{bytes(5000), {}, 0};
  ASSERT_EQ(fill(on, memory.address, state.host.size(), 0), GM_OK);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(copy(on, address_of(state.host.data()), memory.address, state.host.size(), direction::device_to_host),
              GM_OK);
    ASSERT_EQ(table->call(on, &turn::take, &state), GM_OK);
    ASSERT_EQ(copy(on, memory.address, address_of(state.host.data()), state.host.size(), direction::host_to_device),
              GM_OK);
  }
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(state.mistakes, 0);
  EXPECT_EQ(download(on, memory.address, state.host.size()), bytes(state.host.size(), 100));
}

TEST_P(call_test, runs_on_a_thread_of_the_backend) {
  stream* on = create_stream();
  std::thread::id where;
  ASSERT_EQ(table->call(
                on, [](void* to) { *static_cast<std::thread::id*>(to) = std::this_thread::get_id(); }, &where),
            GM_OK);
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_NE(where, std::thread::id{});
  EXPECT_NE(where, std::this_thread::get_id());
}

TEST_P(call_test, may_wait_for_work_of_other_streams) {
  struct waiter {
    const backend_table* table;
    fence awaited;
    std::atomic<bool> saw_it_done{false};
    static void wait(void* argument) {
      auto* const self = static_cast<waiter*>(argument);
      self->table->fence_wait(self->awaited);
      self->saw_it_done = self->table->fence_done(self->awaited);
    }
  };
  stream* on = create_stream();
  stream* other = create_stream();
  gate& held = close_gate(other);
  waiter waits{table, record_fence(other), {}};
  ASSERT_EQ(table->call(on, &waiter::wait, &waits), GM_OK);
  const fence behind = record_fence(on);
  held.wait_entered();
  EXPECT_FALSE(table->fence_done(behind));
  held.open();
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_TRUE(waits.saw_it_done);
}

TEST_P(call_test, may_enqueue_more_than_the_queue_holds) {
  struct enqueuer {
    const backend_table* table;
    stream* on;
    outcome results;
    std::atomic<int> failures{0};
    static void run(void* argument) {
      auto* const self = static_cast<enqueuer*>(argument);
      for (int i = 0; i < 4000; ++i) {
        if (self->table->fence_record(self->on, &outcome::record, &self->results, nullptr) != GM_OK) ++self->failures;
      }
    }
  };
  stream* on = create_stream();
  enqueuer enqueues{table, on, {}, {}};
  ASSERT_EQ(table->call(on, &enqueuer::run, &enqueues), GM_OK);
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(enqueues.failures, 0);
  EXPECT_EQ(enqueues.results.calls, 4000);
}

TEST_P(call_test, takes_its_own_faults_and_no_signal_of_others) {
  // A handler for SIGSEGV or SIGBUS must run where the fault is; SIGINT and the like belong to the program's threads.
  if (!is_sim()) GTEST_SKIP() << "drivers keep their threads as they like";
  stream* on = create_stream();
  sigset_t mask;
  sigemptyset(&mask);
  ASSERT_EQ(table->call(
                on, [](void* to) { pthread_sigmask(SIG_SETMASK, nullptr, static_cast<sigset_t*>(to)); }, &mask),
            GM_OK);
  ASSERT_EQ(table->stream_synchronize(on), GM_OK);
  for (const int blocked : {SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGPROF}) EXPECT_EQ(sigismember(&mask, blocked), 1);
  for (const int open : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) EXPECT_EQ(sigismember(&mask, open), 0);
}

TEST_P(call_test, leaves_the_creators_signals_alone) {
  sigset_t few;
  sigset_t before;
  sigset_t after;
  sigemptyset(&few);
  sigaddset(&few, SIGUSR2);
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &few, &before), 0);
  create_stream();
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, &after), 0);
  for (int signal = 1; signal < 32; ++signal) {
    EXPECT_EQ(sigismember(&after, signal), sigismember(&few, signal)) << signal;
  }
}

}  // namespace
}  // namespace gm::conformance
