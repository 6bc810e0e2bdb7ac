// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <gmem/gmem.hpp>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t page_bytes = 65536;

template <class X>
concept discardable = requires(X&& x) {
  gm::discard(std::forward<X>(x));
};
static_assert(discardable<gm::vector<int>&> && discardable<std::span<int>>);
static_assert(!discardable<const gm::vector<int>&> && !discardable<std::span<const int>>);

gm_status status_of(const auto& call) {
  try {
    call();
  } catch (const gm::error& failure) {
    return failure.status();
  }
  return GM_OK;
}

TEST(movement, prefetch_brings_a_copy) {
  gm::stream stream(2);
  const gm::vector<int> x(100000, 5);
  gm::prefetch(x, 1);
  EXPECT_EQ(gm::residency(x, 1), x.size() * sizeof(int));
  gm::prefetch(x.data() + 10, 1000, 2, stream);
  stream.synchronize();
  EXPECT_EQ(gm::residency(x.data() + 10, 1000, 2), 1000 * sizeof(int));
  EXPECT_EQ(gm::residency(x, GM_HOST), x.size() * sizeof(int)) << "others keep theirs";
  EXPECT_EQ(x[99999], 5);
}

TEST(movement, discard_gives_whole_pages_up) {
  const auto x = gm::make_unique_for_overwrite<unsigned char[]>(3 * page_bytes);
  gm::memset(x.get(), 0xab, 3 * page_bytes, GM_HOST);
  gm::discard(x.get() + 1, 2 * page_bytes);  // the second page whole, of the first and the third a part
  EXPECT_EQ(x[1], 0xab);
  EXPECT_EQ(x[page_bytes], 0);
  EXPECT_EQ(x[2 * page_bytes], 0xab);
  gm::discard(x);
  EXPECT_NE(gm::query(x.get()).flags & GM_PAGE_NOMAP, 0U);
}

TEST(movement, advice_is_taken) {
  const gm::vector<int> x(100000, 5);
  EXPECT_NO_THROW(gm::advise(x, GM_ADVISE_READ_MOSTLY));
  EXPECT_NO_THROW(gm::advise(x.data(), 10, GM_ADVISE_PREFERRED_NODE, 1));
  EXPECT_EQ(status_of([&] { gm::advise(x, GM_ADVISE_PREFERRED_NODE, 17); }), GM_ERROR_INVALID_ARGUMENT);
}

TEST(movement, pins_show_and_go) {
  gm::vector<int> x(100000, 5);
  gm::pin(x, 1);
  EXPECT_NE(gm::query(x.data()).flags & GM_PAGE_PINNED, 0U);
  gm::unpin(x, 1);
  EXPECT_EQ(gm::query(x.data()).flags & GM_PAGE_PINNED, 0U);
  gm::pin(x.data(), 10, GM_HOST);
  gm::stream stream;
  EXPECT_EQ(status_of([&] { gm::scope use(stream, gm::read_write(x)); }), GM_ERROR_BUSY);
  gm::unpin(x.data(), 10, GM_HOST);
  EXPECT_EQ(status_of([&] { gm::scope use(stream, gm::read_write(x)); }), GM_OK);
}

TEST(movement, copies_both_ways) {
  gm::stream stream;
  std::vector<int> plain(1000), back(1000);
  for (std::size_t i = 0; i < plain.size(); ++i) plain[i] = static_cast<int>(i);
  gm::vector<int> x(1000), y(1000);
  gm::memcpy(x.data(), plain.data(), 4000, 1, stream);
  gm::memcpy(y.data(), x.data(), 4000, 1, stream);
  gm::memcpy(back.data(), y.data(), 4000, 1, stream);
  stream.synchronize();
  EXPECT_EQ(back, plain);
  gm::memset(y.data(), 0, 4000, 2);
  EXPECT_EQ(y[999], 0);
  EXPECT_EQ(x[999], 999);
}

TEST(movement, an_empty_range_is_nothing_to_do) {
  gm::vector<int> none;
  gm::prefetch(none, 1);
  gm::advise(none, GM_ADVISE_COLD);
  gm::discard(none);
  gm::pin(none, 1);
  gm::unpin(none, 1);
  gm::memcpy(nullptr, nullptr, 0, 1);
  gm::memset(nullptr, 0, 0, 1);
  EXPECT_EQ(gm::residency(none, 1), 0U);
}

TEST(movement, what_is_not_managed_is_refused) {
  std::vector<int> plain(10);
  EXPECT_EQ(status_of([&] { gm::prefetch(plain, 1); }), GM_ERROR_NOT_MANAGED);
  EXPECT_EQ(status_of([&] { gm::advise(plain, GM_ADVISE_COLD); }), GM_ERROR_NOT_MANAGED);
  EXPECT_EQ(status_of([&] { gm::discard(plain); }), GM_ERROR_NOT_MANAGED);
  EXPECT_EQ(status_of([&] { gm::pin(plain, 1); }), GM_ERROR_NOT_MANAGED);
  EXPECT_EQ(status_of([&] { static_cast<void>(gm::residency(plain, 1)); }), GM_ERROR_NOT_MANAGED);
  EXPECT_EQ(status_of([&] { gm::memset(plain.data(), 0, 40, 1); }), GM_ERROR_NOT_MANAGED);
  gm::vector<int> x(10);
  EXPECT_EQ(status_of([&] { gm::prefetch(x, 99); }), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(status_of([&] { gm::prefetch(x.data(), std::numeric_limits<std::size_t>::max(), 1); }),
            GM_ERROR_INVALID_ARGUMENT)
      << "the size in bytes overflows";
}

}  // namespace
