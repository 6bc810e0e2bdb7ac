// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

// What compiles and what must not.
template <class X>
concept readable = requires(X&& x) {
  gm::read(std::forward<X>(x));
};
template <class X>
concept writable = requires(X&& x) {
  gm::write(std::forward<X>(x));
  gm::read_write(std::forward<X>(x));
};
template <class P>
concept writable_pointer = requires(P p) {
  gm::write(p, 1);
  gm::read_write(p, 1);
};

static_assert(readable<gm::vector<int>&> && readable<const gm::vector<int>&>);
static_assert(readable<std::span<int>> && readable<std::span<const int>> && readable<int (&)[4]>);
static_assert(readable<gm::unique_ptr<int[]>&> && readable<const gm::unique_ptr<int[]>&>);
static_assert(!readable<gm::vector<int>>, "a temporary is gone before the device comes to it");
static_assert(!readable<gm::unique_ptr<int[]>>);
static_assert(!readable<int&> && !readable<int*> && !readable<std::vector<bool>&>);

static_assert(writable<gm::vector<int>&> && writable<std::span<int>> && writable<const std::span<int>&>);
static_assert(writable<gm::unique_ptr<int[]>&> && writable<const gm::unique_ptr<int[]>&>, "as for any pointer");
static_assert(!writable<const gm::vector<int>&>, "what is const is not written");
static_assert(!writable<std::span<const int>> && !writable<const int (&)[4]> &&
              !writable<gm::unique_ptr<const int[]>&>);
static_assert(writable_pointer<int*> && writable_pointer<void*>);
static_assert(!writable_pointer<const int*> && !writable_pointer<const void*>);

static_assert(!std::is_copy_constructible_v<gm::scope> && std::is_nothrow_move_constructible_v<gm::scope>);
static_assert(!std::is_default_constructible_v<gm::scope>);
static_assert(std::is_constructible_v<gm::scope, gm::stream&, gm::access, gm::access, gm::access>);
static_assert(std::is_constructible_v<gm::scope, std::nullptr_t, gm::access>);

bool is_leased(const void* pointer) { return (gm::query(pointer).flags & GM_PAGE_LEASED) != 0; }

gm_status status_of(const auto& call) {
  try {
    call();
  } catch (const gm::error& failure) {
    EXPECT_NE(std::string(failure.what()), "");
    return failure.status();
  }
  return GM_OK;
}

TEST(access, knows_its_bytes_and_mode) {
  gm::vector<double> x(10);
  const auto& constant = x;
  EXPECT_EQ(gm::read(constant).native().ptr, x.data());
  EXPECT_EQ(gm::read(constant).native().bytes, 80U);
  EXPECT_EQ(gm::read(constant).native().mode, GM_READ);
  EXPECT_EQ(gm::write(x).native().mode, GM_WRITE);
  EXPECT_EQ(gm::read_write(std::span(x).subspan(2, 3)).native().mode, GM_READ_WRITE);
  EXPECT_EQ(gm::read_write(std::span(x).subspan(2, 3)).native().ptr, x.data() + 2);
  EXPECT_EQ(gm::read_write(std::span(x).subspan(2, 3)).native().bytes, 24U);
  EXPECT_EQ(gm::write(x.data() + 1, 4).native().bytes, 32U);
  EXPECT_EQ(gm::write(static_cast<void*>(x.data()), 5).native().bytes, 5U) << "void counts as bytes";
  const auto array = gm::make_unique<short[]>(7);
  EXPECT_EQ(gm::write(array).native().bytes, 14U);
}

TEST(access, a_count_that_overflows_is_refused) {
  int value = 0;
  const std::size_t count = std::numeric_limits<std::size_t>::max() / 2;
  EXPECT_EQ(status_of([&] { static_cast<void>(gm::read(&value, count)); }), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(status_of([&] { static_cast<void>(gm::write(&value, count)); }), GM_ERROR_INVALID_ARGUMENT);
}

TEST(scope, leases_until_its_end) {
  gm::stream stream;
  gm::vector<int> x(1000, 1);
  {
    const gm::scope use(stream, gm::read_write(x));
    EXPECT_TRUE(use.is_open());
    EXPECT_TRUE(is_leased(x.data()));
    stream.synchronize();
    EXPECT_EQ(gm::query(x.data()).valid_nodes & 2U, 2U) << "once the stream has come so far";
  }
  stream.synchronize();
  EXPECT_FALSE(is_leased(x.data()));
  EXPECT_EQ(x[999], 1);
}

TEST(scope, end_is_once_and_for_all) {
  gm::stream stream;
  gm::vector<int> x(10, 1);
  gm::scope use(stream, gm::read_write(x));
  use.end();
  EXPECT_FALSE(use.is_open());
  EXPECT_NO_THROW(use.end());
  x[0] = 2;  // would be SIGBUS were it still open
  gm::scope again(stream, gm::read_write(x));
  EXPECT_TRUE(again.is_open());
}

TEST(scope, moves) {
  // Of pages of their own: small ones would share one, which two scopes of a thread cannot.
  gm::stream stream;
  gm::vector<int> x(20000, 1), y(20000, 2);
  gm::scope first(stream, gm::read_write(x));
  gm::scope second(std::move(first));
  EXPECT_FALSE(first.is_open());  // NOLINT(bugprone-use-after-move): it says so
  EXPECT_TRUE(second.is_open());
  gm::scope third(stream, gm::read_write(y));
  third = std::move(second);  // ends the one over y
  EXPECT_TRUE(third.is_open());
  EXPECT_EQ(y[0], 2);
  third.end();
  EXPECT_EQ(x[0], 1);
}

TEST(scope, an_exception_ends_it) {
  gm::stream stream;
  gm::vector<int> x(10, 1);
  try {
    gm::scope use(stream, gm::read_write(x));
    throw std::runtime_error("on the way");
  } catch (const std::runtime_error&) {
  }
  x[0] = 5;
  EXPECT_EQ(x[0], 5);
}

TEST(scope, empty_ranges_are_left_out) {
  gm::stream stream;
  gm::vector<int> nothing, x(10, 1);
  gm::scope none(stream, gm::read(nothing), gm::write(nothing), gm::read(static_cast<int*>(nullptr), 0));
  EXPECT_FALSE(none.is_open());
  gm::scope some(stream, gm::read(nothing), gm::read_write(x));
  EXPECT_TRUE(some.is_open());
  const gm::scope empty_list(stream, std::span<const gm::access>());
  EXPECT_FALSE(empty_list.is_open());
}

TEST(scope, takes_a_number_of_ranges_known_at_run_time) {
  gm::stream stream;
  std::vector<gm::vector<int>> parts(20, gm::vector<int>(100, 1));
  std::vector<gm::access> accesses;
  accesses.reserve(parts.size());
  for (auto& part : parts) accesses.push_back(gm::read_write(part));
  {
    gm::scope use(stream, accesses);
    for (auto& part : parts) {
      EXPECT_TRUE(is_leased(part.data()));
      int* to = gm::device_pointer(part.data(), stream);
      gm::parallel_for(
          stream, part.size(), GM_LAMBDA(std::size_t i) { to[i] += static_cast<int>(i); });
    }
  }
  for (const auto& part : parts) EXPECT_EQ(part[99], 100);
}

TEST(scope, works_without_a_stream) {
  gm::vector<int> x(1000, 1);
  {
    gm::scope use(nullptr, gm::read_write(x));
    EXPECT_EQ(gm::query(x.data()).valid_nodes & 2U, 2U) << "everything is there on return";
    int* to = gm::device_pointer(x.data(), 1);
    gm::parallel_for(
        nullptr, x.size(), GM_LAMBDA(std::size_t i) { to[i] = 3; });
  }
  EXPECT_EQ(x[999], 3);
}

TEST(scope, a_conflict_in_one_thread_is_busy) {
  gm::stream stream, other(2);
  gm::vector<int> x(10, 1);
  gm::scope use(stream, gm::read_write(x));
  EXPECT_EQ(status_of([&] { gm::scope conflict(other, gm::read(x)); }), GM_ERROR_BUSY);
  EXPECT_TRUE(is_leased(x.data()));
  use.end();
  EXPECT_EQ(status_of([&] { gm::scope fine(other, gm::read(x)); }), GM_OK);
}

TEST(scope, readers_do_not_conflict) {
  gm::stream stream, other(2);
  gm::vector<int> x(10, 1);
  gm::scope one(stream, gm::read(x));
  gm::scope two(other, gm::read(x));
  EXPECT_EQ(x[0], 1) << "nor does the CPU, reading";
  stream.synchronize();
  other.synchronize();
  EXPECT_EQ(gm::query(x.data()).valid_nodes, 7U);
}

TEST(scope, refuses_what_is_not_managed_and_holds_nothing_then) {
  gm::stream stream;
  gm::vector<int> x(10, 1);
  std::vector<int> plain(10, 1);
  EXPECT_EQ(status_of([&] { gm::scope use(stream, gm::read_write(x), gm::read(plain)); }), GM_ERROR_NOT_MANAGED);
  EXPECT_FALSE(is_leased(x.data()));
  x[0] = 2;
  EXPECT_EQ(x[0], 2);
}

TEST(scope, refuses_more_than_the_device_has) {
  gm::stream stream;
  const auto big = gm::make_unique<char[]>(std::size_t{1} << 27);
  EXPECT_EQ(status_of([&] { gm::scope use(stream, gm::read(big)); }), GM_ERROR_NO_MEMORY);
  EXPECT_FALSE(is_leased(big.get()));
}

TEST(scope, keeps_what_write_does_not_cover) {
  gm::stream stream;
  gm::vector<int> x(1000, 1);
  {
    gm::scope use(stream, gm::write(std::span(x).subspan(100, 50)));
    int* to = gm::device_pointer(x.data() + 100, stream);
    gm::parallel_for(
        stream, 50, GM_LAMBDA(std::size_t i) { to[i] = 2; });
  }
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], i >= 100 && i < 150 ? 2 : 1) << i;
}

}  // namespace
