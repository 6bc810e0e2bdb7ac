// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

// A body is called with an index, through const.
template <class Body>
concept launchable = requires(gm_stream stream, Body body) {
  gm::parallel_for(stream, 1, std::move(body));
};
inline constexpr auto takes_an_index = [](std::size_t) {};
inline constexpr auto takes_nothing = [] {};
inline constexpr auto changes_itself = [n = 0](std::size_t) mutable { ++n; };
static_assert(launchable<decltype(takes_an_index)>);
static_assert(!launchable<decltype(takes_nothing)>);
static_assert(!launchable<std::remove_const_t<decltype(changes_itself)>>);

TEST(parallel_for, covers_every_index_once) {
  gm::stream stream;
  for (const std::size_t count : {1UL, 2UL, 3UL, 64UL, 1000UL, 4097UL, 1000003UL}) {
    gm::vector<std::uint32_t> visits(count + 1);
    {
      gm::scope use(stream, gm::read_write(visits));
      std::uint32_t* to = gm::device_pointer(visits.data(), stream);
      gm::parallel_for(
          stream, count, GM_LAMBDA(std::size_t i) { to[i] += static_cast<std::uint32_t>(i) + 1; });
    }
    for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(visits[i], i + 1) << "of " << count;
    ASSERT_EQ(visits[count], 0U) << "beyond the end of " << count;
  }
}

TEST(parallel_for, no_index_is_nothing_to_do) {
  gm::stream stream;
  gm::parallel_for(
      stream, 0, GM_LAMBDA(std::size_t) { ADD_FAILURE(); });
  gm::parallel_for(
      nullptr, 0, GM_LAMBDA(std::size_t) { ADD_FAILURE(); });
  stream.synchronize();
}

TEST(parallel_for, keeps_the_streams_order) {
  gm::stream stream;
  constexpr std::size_t count = 10000;
  gm::vector<std::uint64_t> a(count, 1), b(count);
  {
    gm::scope use(stream, gm::read_write(a), gm::write(b));
    std::uint64_t *x = gm::device_pointer(a.data(), stream), *y = gm::device_pointer(b.data(), stream);
    // Each reads what the one before it wrote at the other end.
    gm::parallel_for(
        stream, count, GM_LAMBDA(std::size_t i) { x[i] = i; });
    gm::parallel_for(
        stream, count, GM_LAMBDA(std::size_t i) { y[i] = x[count - 1 - i]; });
    gm::parallel_for(
        stream, count, GM_LAMBDA(std::size_t i) { x[i] = 2 * y[count - 1 - i]; });
  }
  for (std::size_t i = 0; i < count; ++i) {
    ASSERT_EQ(a[i], 2 * i);
    ASSERT_EQ(b[i], count - 1 - i);
  }
}

TEST(parallel_for, follows_data_from_device_to_device) {
  gm::stream first(1), second(2);
  gm::vector<int> x(100000, 1);
  for (int round = 0; round < 10; ++round) {
    for (gm::stream* stream : {&first, &second}) {
      gm::scope use(*stream, gm::read_write(x));
      int* to = gm::device_pointer(x.data(), *stream);
      const int device = stream->node();
      gm::parallel_for(
          *stream, x.size(), GM_LAMBDA(std::size_t i) { to[i] = 2 * to[i] % 1009 + device; });
    }
  }
  int expected = 1;
  for (int step = 0; step < 20; ++step) expected = 2 * expected % 1009 + 1 + step % 2;
  for (const int value : x) ASSERT_EQ(value, expected);
}

TEST(parallel_for, without_a_stream_is_done_on_return) {
  gm::vector<int> x(1000);
  gm::scope use(nullptr, gm::write(x));
  int* to = gm::device_pointer(x.data(), 1);
  gm::parallel_for(
      nullptr, x.size(), GM_LAMBDA(std::size_t i) { to[i] = static_cast<int>(i); });
  EXPECT_EQ(to[999], 999);  // a device address: on the simulated device the host may look
}

TEST(parallel_for, leaves_nothing_of_the_body) {
  const auto token = std::make_shared<int>(7);  // makes the body not trivially copyable
  gm::vector<int> x(5000);
  gm::stream stream;
  {
    gm::scope use(stream, gm::write(x));
    int* to = gm::device_pointer(x.data(), stream);
    gm::parallel_for(
        stream, x.size(), GM_LAMBDA(std::size_t i) { to[i] = *token; });
  }
  stream.synchronize();
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_EQ(x[4999], 7);
}

TEST(parallel_for, a_body_that_cannot_be_copied_queues_nothing) {
  struct fragile {
    fragile() = default;
    fragile(const fragile&) { throw std::runtime_error("no copies"); }
    void operator()(std::size_t) const { ADD_FAILURE() << "called"; }
  };
  gm::stream stream;
  const fragile body;
  EXPECT_THROW(gm::parallel_for(stream, 10, body), std::runtime_error);
  stream.synchronize();
}

TEST(parallel_for_death_test, an_exception_out_of_the_body_ends_the_program) {
  EXPECT_DEATH(
      {
        gm::stream stream;
        gm::parallel_for(
            stream, 10, GM_LAMBDA(std::size_t i) {
              if (i == 7) throw std::runtime_error("out of a kernel");  // one thread: two would talk at once
            });
        stream.synchronize();
      },
      "out of a kernel");
}

}  // namespace
