// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <gmem/gmem.hpp>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace {

static_assert(std::is_base_of_v<std::runtime_error, gm::error>);
static_assert(std::is_same_v<decltype(gm::device_pointer(static_cast<const int*>(nullptr), 1)), const int*>,
              "const stays const");

TEST(error, carries_the_status_and_the_sentence) {
  EXPECT_NO_THROW(gm::check(GM_OK));
  try {
    gm::check(gm_prefetch(nullptr, 1, 1, nullptr));
    FAIL() << "a null pointer was prefetched";
  } catch (const gm::error& failure) {
    EXPECT_NE(failure.status(), GM_OK);
    const std::string expected = std::string(gm_status_string(failure.status())) + ": " + gm_last_error();
    EXPECT_EQ(failure.what(), expected);
  }
  EXPECT_EQ(gm::error(GM_ERROR_BUSY, "later").status(), GM_ERROR_BUSY);
  EXPECT_STREQ(gm::error(GM_ERROR_BUSY, "later").what(), "GM_ERROR_BUSY: later");
}

TEST(runtime, default_options_are_sized_zeros) {
  const gm_options options = gm::default_options();
  EXPECT_EQ(options.size, sizeof(gm_options));
  EXPECT_EQ(options.backend, nullptr);
  EXPECT_EQ(options.device_budget_bytes, 0U);
}

TEST(runtime, starts_once) {
  try {
    gm::init(gm::default_options());
    FAIL() << "started twice";
  } catch (const gm::error& failure) {
    EXPECT_EQ(failure.status(), GM_ERROR_INVALID_ARGUMENT);
  }
}

TEST(runtime, does_not_stop_while_anything_lives) {
  const gm::vector<int> x(1);
  try {
    gm::shutdown();
    FAIL() << "stopped with an allocation alive";
  } catch (const gm::error& failure) {
    EXPECT_EQ(failure.status(), GM_ERROR_BUSY);
  }
}

TEST(runtime, knows_its_nodes) {
  EXPECT_STREQ(gm::node_info(GM_HOST).backend, "host");
  EXPECT_STREQ(gm::node_info(1).backend, "sim");
  EXPECT_EQ(gm::node_info(2).total_bytes, 64U << 20);
  EXPECT_THROW(static_cast<void>(gm::node_info(3)), gm::error);
}

TEST(runtime, device_pointers_keep_their_distances) {
  gm::vector<int> x(100000);
  gm::stream stream(2);
  gm::scope use(stream, gm::read_write(x));
  int* first = gm::device_pointer(x.data(), stream);
  int* last = gm::device_pointer(&x.back(), 2);
  EXPECT_EQ(last - first, 99999);
  EXPECT_EQ(gm::device_pointer(x.data(), GM_HOST), x.data());
  EXPECT_EQ(gm::device_pointer(static_cast<int*>(nullptr), 1), nullptr);
}

TEST(runtime, device_pointers_of_what_has_none_throw) {
  int plain = 0;
  gm::vector<int> x(1);
  try {
    static_cast<void>(gm::device_pointer(&plain, 1));
    FAIL() << "of ordinary memory";
  } catch (const gm::error& failure) {
    EXPECT_EQ(failure.status(), GM_ERROR_NOT_MANAGED);
  }
  try {
    static_cast<void>(gm::device_pointer(x.data(), 3));
    FAIL() << "of a node that is not there";
  } catch (const gm::error& failure) {
    EXPECT_EQ(failure.status(), GM_ERROR_INVALID_ARGUMENT);
  }
}

TEST(runtime, query_shows_a_page) {
  gm::vector<int> x(1, 1);
  const gm_mapping mapping = gm::query(x.data());
  EXPECT_NE(mapping.flags & GM_PAGE_CPU, 0U);
  EXPECT_EQ(mapping.valid_nodes, 1U);
  EXPECT_EQ(mapping.writer, GM_HOST);
  int plain = 0;
  EXPECT_THROW(static_cast<void>(gm::query(&plain)), gm::error);
}

TEST(runtime, stats_count_from_the_last_reset) {
  gm::vector<int> x(100000, 1);
  gm::reset_stats();
  EXPECT_EQ(gm::stats().node[1].bytes_in, 0U);
  gm::prefetch(x, 1);
  EXPECT_GE(gm::stats().node[1].bytes_in, x.size() * sizeof(int));
  EXPECT_EQ(gm::stats().node_count, 3U);
  EXPECT_GE(gm::stats().allocations, 1U);
}

}  // namespace
