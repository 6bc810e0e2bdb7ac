// SPDX-License-Identifier: Apache-2.0
#include "vm/advice_map.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/inject.h"
#include "unit/seeded.h"

namespace gm {
namespace {

auto make_cold() {
  return [](advice& a) { a.cold = true; };
}
auto make_read_mostly() {
  return [](advice& a) { a.read_mostly = true; };
}
auto forget() {
  return [](advice& a) { a = {}; };
}
constexpr page_range pages(std::uint64_t begin, std::uint64_t end) { return {{begin}, {end}}; }

class advices : public testing::Test {
 protected:
  void TearDown() override { inject::fail_nth(inject::point::record_memory, 0); }
  // The cold pages of [0, 40), as text.
  std::string cold_pages() const {
    std::string text;
    for (std::uint64_t page = 0; page < 40; ++page) text += map.at({page}).cold ? 'c' : '.';
    return text;
  }
  static std::string line(std::uint64_t begin, std::uint64_t end) {
    std::string text(40, '.');
    text.replace(begin, end - begin, end - begin, 'c');
    return text;
  }
  advice_map map;
};

TEST_F(advices, an_empty_map_has_no_advice) {
  EXPECT_EQ(map.at({0}), advice{});
  EXPECT_EQ(map.intervals(), 0U);
}

TEST_F(advices, cover_their_range_and_no_more) {
  ASSERT_EQ(map.update(pages(10, 20), make_cold()), status::ok);
  EXPECT_EQ(cold_pages(), line(10, 20));
  EXPECT_EQ(map.intervals(), 1U);
}

TEST_F(advices, an_empty_range_is_nothing) {
  ASSERT_EQ(map.update(pages(10, 10), make_cold()), status::ok);
  EXPECT_EQ(map.intervals(), 0U);
}

TEST_F(advices, are_added_to_what_was_advised) {
  ASSERT_EQ(map.update(pages(0, 20), make_cold()), status::ok);
  ASSERT_EQ(map.update(pages(10, 30), make_read_mostly()), status::ok);
  EXPECT_EQ(map.at({5}), (advice{.cold = true}));
  EXPECT_EQ(map.at({15}), (advice{.read_mostly = true, .cold = true}));
  EXPECT_EQ(map.at({25}), (advice{.read_mostly = true}));
  EXPECT_EQ(map.intervals(), 3U);
}

TEST_F(advices, neighbours_that_are_equal_become_one) {
  ASSERT_EQ(map.update(pages(0, 10), make_cold()), status::ok);
  ASSERT_EQ(map.update(pages(20, 30), make_cold()), status::ok);
  EXPECT_EQ(map.intervals(), 2U);
  ASSERT_EQ(map.update(pages(10, 20), make_cold()), status::ok);
  EXPECT_EQ(map.intervals(), 1U);
  EXPECT_EQ(cold_pages(), line(0, 30));
}

TEST_F(advices, a_page_by_page_walk_leaves_one_interval) {
  for (std::uint64_t page = 0; page < 40; ++page) ASSERT_EQ(map.update(pages(page, page + 1), make_cold()), status::ok);
  EXPECT_EQ(map.intervals(), 1U);
}

TEST_F(advices, normal_splits_and_forgets) {
  ASSERT_EQ(map.update(pages(0, 30), make_cold()), status::ok);
  ASSERT_EQ(map.update(pages(10, 20), forget()), status::ok);
  EXPECT_EQ(map.intervals(), 2U) << "no interval says nothing";
  EXPECT_EQ(cold_pages(), std::string(10, 'c') + std::string(10, '.') + std::string(10, 'c') + std::string(10, '.'));
  ASSERT_EQ(map.update(pages(0, 40), forget()), status::ok);
  EXPECT_EQ(map.intervals(), 0U);
}

TEST_F(advices, clear_cuts_ends_holes_and_wholes) {
  ASSERT_EQ(map.update(pages(10, 20), make_cold()), status::ok);
  map.clear(pages(5, 12));
  EXPECT_EQ(cold_pages(), line(12, 20));
  map.clear(pages(18, 25));
  EXPECT_EQ(cold_pages(), line(12, 18));
  map.clear(pages(14, 15));
  EXPECT_EQ(map.intervals(), 2U);
  EXPECT_FALSE(map.at({14}).cold);
  map.clear(pages(0, 40));
  EXPECT_EQ(map.intervals(), 0U);
}

TEST_F(advices, without_memory_nothing_changes) {
  ASSERT_EQ(map.update(pages(0, 20), make_cold()), status::ok);
  inject::fail_nth(inject::point::record_memory, 1);
  EXPECT_EQ(map.update(pages(10, 30), make_read_mostly()), status::no_memory);
  EXPECT_EQ(map.at({15}), (advice{.cold = true}));
  EXPECT_EQ(map.at({25}), advice{});
  EXPECT_EQ(map.intervals(), 1U);
}

TEST_F(advices, clear_without_memory_still_forgets_all_but_a_hole) {
  ASSERT_EQ(map.update(pages(0, 10), make_cold()), status::ok);
  ASSERT_EQ(map.update(pages(20, 30), make_cold()), status::ok);
  inject::fail_nth(inject::point::record_memory, 1);
  map.clear(pages(5, 25));
  EXPECT_EQ(cold_pages(), std::string(5, 'c') + std::string(20, '.') + std::string(5, 'c') + std::string(10, '.'));
}

advice random_advice(test::rng& random) {
  advice a;
  a.read_mostly = test::below(random, 2) != 0;
  a.cold = test::below(random, 2) != 0;
  a.preferred_node = static_cast<std::int8_t>(test::below(random, 2));
  return a;
}

TEST(advice_map, against_a_plain_array) {
  test::rng random(test::seed());
  SCOPED_TRACE(testing::Message() << "GM_TEST_SEED=" << test::seed());
  constexpr std::uint64_t count = 64;
  for (int round = 0; round < test::scaled(50); ++round) {
    advice_map map;
    std::vector<advice> oracle(count);
    for (int step = 0; step < 100; ++step) {
      const std::uint64_t begin = test::below(random, count);
      const std::uint64_t end = begin + test::below(random, count - begin + 1);
      const auto what = test::below(random, 4);
      const advice whole = random_advice(random);
      const auto change = [&](advice& a) {
        if (what == 0) a.cold = whole.cold;
        if (what == 1) a = whole;
        if (what == 2) a.preferred_node = whole.preferred_node;
      };
      if (what == 3) {
        map.clear(pages(begin, end));
        for (std::uint64_t p = begin; p < end; ++p) oracle[p] = {};
      } else {
        ASSERT_EQ(map.update(pages(begin, end), [&](advice& a) { change(a); }), status::ok);
        for (std::uint64_t p = begin; p < end; ++p) change(oracle[p]);
      }
      std::size_t at_least = 0;  // maximal runs of equal advice: what a merged map has
      for (std::uint64_t p = 0; p < count; ++p) {
        ASSERT_EQ(map.at({p}), oracle[p]) << "page " << p << ", step " << step;
        if (oracle[p] != advice{} && (p == 0 || oracle[p] != oracle[p - 1])) ++at_least;
      }
      ASSERT_EQ(map.intervals(), at_least) << "neighbours that are equal, or an interval that says nothing";
    }
  }
}

}  // namespace
}  // namespace gm
