// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <chrono>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <memory>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

static_assert(!std::is_copy_constructible_v<gm::stream>);
static_assert(std::is_nothrow_move_constructible_v<gm::stream> && std::is_nothrow_move_assignable_v<gm::stream>);
static_assert(std::is_convertible_v<gm::stream&, gm_stream> && !std::is_convertible_v<gm_stream, gm::stream>);
static_assert(!std::is_convertible_v<int, gm::stream>);

TEST(stream, is_of_its_node) {
  const gm::stream first, second(2);
  EXPECT_EQ(first.node(), 1);
  EXPECT_EQ(second.node(), 2);
  EXPECT_EQ(gm_stream_node(second.native()), 2);
}

TEST(stream, there_is_none_of_the_host_or_of_unknown_nodes) {
  for (const int node : {int{GM_HOST}, 3, -1}) {
    try {
      const gm::stream wrong(node);
      ADD_FAILURE() << "a stream of node " << node;
    } catch (const gm::error& failure) {
      EXPECT_EQ(failure.status(), GM_ERROR_INVALID_ARGUMENT);
    }
  }
}

TEST(stream, the_simulated_device_has_none_to_wrap) {
  int something = 0;
  try {
    const gm::stream wrapped = gm::stream::wrap(1, &something);
    ADD_FAILURE() << "wrapped an int";
  } catch (const gm::error& failure) {
    EXPECT_EQ(failure.status(), GM_ERROR_UNSUPPORTED);
  }
}

TEST(stream, moves) {
  gm::stream stream(2);
  gm_stream_s* const handle = stream.native();
  gm::stream moved(std::move(stream));
  EXPECT_EQ(moved.native(), handle);
  EXPECT_EQ(stream.native(), nullptr);  // NOLINT(bugprone-use-after-move): it says so
  gm::stream assigned;
  assigned = std::move(moved);
  EXPECT_EQ(assigned.native(), handle);
  EXPECT_EQ(assigned.node(), 2);
}

TEST(stream, calls_in_order) {
  std::vector<int> order;
  gm::stream stream;
  for (int i = 0; i < 100; ++i) stream.call([&order, i] { order.push_back(i); });
  stream.synchronize();
  ASSERT_EQ(order.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(stream, a_call_sees_the_kernel_before_it) {
  gm::stream stream;
  gm::vector<int> x(1000, 0);
  int seen = -1;
  {
    gm::scope use(stream, gm::write(x));
    int* to = gm::device_pointer(x.data(), stream);
    gm::parallel_for(
        stream, x.size(), GM_LAMBDA(std::size_t i) { to[i] = 6; });
    stream.call([to, &seen] { seen = to[999]; });  // a device address: on the simulated device the host may look
  }
  stream.synchronize();
  EXPECT_EQ(seen, 6);
}

TEST(stream, a_moved_stream_keeps_its_calls) {
  bool called = false;
  gm::stream stream;
  stream.call([&called] { called = true; });
  gm::stream moved(std::move(stream));
  moved.synchronize();
  EXPECT_TRUE(called);
}

TEST(stream, a_function_is_destroyed_once_it_was_called) {
  const auto token = std::make_shared<int>(1);
  auto only_movable = std::make_unique<int>(2);
  int sum = 0;
  gm::stream stream;
  stream.call([token, moved = std::move(only_movable), &sum] { sum = *token + *moved; });
  stream.call([] {});
  stream.synchronize();
  EXPECT_EQ(sum, 3);
  EXPECT_EQ(token.use_count(), 1);
}

TEST(stream, the_destructor_waits) {
  bool called = false;
  {
    gm::stream stream;
    stream.call([&called] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      called = true;
    });
  }
  EXPECT_TRUE(called);
}

TEST(stream, a_copy_that_throws_queues_nothing) {
  struct fragile {
    fragile() = default;
    fragile(const fragile&) { throw std::runtime_error("no copies"); }
    void operator()() const { ADD_FAILURE() << "called"; }
  };
  gm::stream stream;
  const fragile function;
  EXPECT_THROW(stream.call(function), std::runtime_error);
  stream.synchronize();
}

TEST(stream, takes_calls_from_several_threads) {
  gm::stream stream;
  int calls = 0;  // no lock: a stream calls one function at a time
  std::vector<std::jthread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 250; ++i) stream.call([&calls] { ++calls; });
    });
  }
  threads.clear();
  stream.synchronize();
  EXPECT_EQ(calls, 1000);
}

TEST(stream_death_test, an_exception_out_of_a_call_ends_the_program) {
  EXPECT_DEATH(
      {
        gm::stream stream;
        stream.call([] { throw std::runtime_error("out of a call"); });
        stream.synchronize();
      },
      "out of a call");
}

// What an optimizer makes of a function with something to destroy is another matter than a bare throw.
TEST(stream_death_test, so_does_one_that_leaves_things_to_destroy) {
  EXPECT_DEATH(
      {
        gm::stream stream;
        const std::string words = "an exception with a past, out of a call";
        stream.call([words] {
          const std::string local = words + "!";
          throw std::runtime_error(local);
        });
        stream.synchronize();
      },
      "an exception with a past, out of a call!");
}

}  // namespace
