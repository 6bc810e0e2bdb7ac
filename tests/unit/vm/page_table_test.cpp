// SPDX-License-Identifier: Apache-2.0
#include "vm/page_table.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "base/inject.h"

namespace gm {
namespace {

constexpr std::uint64_t gib = std::uint64_t{1} << 30;
constexpr std::uint64_t chunk = page_table::blocks_per_chunk;

class table : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(t.create(4 * gib, 3, metadata), status::ok); }
  void TearDown() override { inject::fail_nth(inject::point::table_memory, 0); }
  counter metadata;
  page_table t;
};

TEST_F(table, knows_nothing_at_first) {
  EXPECT_EQ(t.blocks(), 4 * gib / block_bytes);
  for (const std::uint64_t block : {std::uint64_t{0}, chunk - 1, chunk, t.blocks() - 1})
    EXPECT_EQ(t.find({block}), nullptr) << block;
}

TEST_F(table, beyond_the_arena_there_is_nothing) {
  ASSERT_EQ(t.ensure({t.blocks() - 1}, 1), status::ok);
  EXPECT_NE(t.find({t.blocks() - 1}), nullptr);
  EXPECT_EQ(t.find({t.blocks()}), nullptr);
  EXPECT_EQ(t.find({~std::uint64_t{0}}), nullptr);
}

TEST_F(table, a_block_asked_for_is_there_and_empty) {
  ASSERT_EQ(t.ensure({5}, 1), status::ok);
  const block* b = t.find({5});
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(&t.at({5}), b);
  EXPECT_EQ(b->allocated | b->backed | b->readable | b->parked | b->willneed | b->busy.load() | b->leases, 0U);
  for (unsigned n = 0; n < 3; ++n) {
    EXPECT_EQ(b->node(n).valid | b->node(n).writable | b->node(n).dirty | b->node(n).pinned | b->node(n).leases, 0U);
    EXPECT_FALSE(b->node(n).has_frame());
  }
  EXPECT_EQ(t.find({chunk}), nullptr) << "the next chunk was not asked for";
}

TEST_F(table, a_range_over_an_edge_has_both_chunks) {
  ASSERT_EQ(t.ensure({chunk - 1}, 2), status::ok);
  EXPECT_NE(t.find({0}), nullptr);
  EXPECT_NE(t.find({2 * chunk - 1}), nullptr);
  EXPECT_EQ(t.find({2 * chunk}), nullptr);
}

TEST_F(table, asking_again_changes_nothing) {
  ASSERT_EQ(t.ensure({0}, 1), status::ok);
  t.at({0}).allocated = 7;
  const std::uint64_t before = metadata.get();
  ASSERT_EQ(t.ensure({0}, chunk), status::ok);
  EXPECT_EQ(t.at({0}).allocated, 7U);
  EXPECT_EQ(metadata.get(), before);
}

TEST_F(table, blocks_and_their_nodes_lie_apart) {
  ASSERT_EQ(t.ensure({0}, 3), status::ok);
  for (std::uint64_t i = 0; i < 3; ++i) {
    t.at({i}).allocated = static_cast<page_mask>(i + 1);
    for (unsigned n = 0; n < 3; ++n) {
      t.at({i}).node(n).valid = static_cast<page_mask>(10 * i + n);
      t.at({i}).node(n).address = 100 * i + n;
    }
  }
  for (std::uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(t.at({i}).allocated, i + 1);
    for (unsigned n = 0; n < 3; ++n) {
      EXPECT_EQ(t.at({i}).node(n).valid, 10 * i + n);
      EXPECT_EQ(t.at({i}).node(n).address, 100 * i + n);
    }
  }
}

TEST_F(table, metadata_of_a_managed_gib_is_within_its_goal) {
  const std::uint64_t before = metadata.get();
  ASSERT_EQ(t.ensure({0}, 1), status::ok);
  EXPECT_GT(metadata.get(), before);
  EXPECT_LE(metadata.get() - before, 128U << 10);
}

TEST_F(table, without_memory_it_says_so_and_stands) {
  ASSERT_EQ(t.ensure({0}, 1), status::ok);
  const std::uint64_t before = metadata.get();
  inject::fail_nth(inject::point::table_memory, 1);
  EXPECT_EQ(t.ensure({chunk}, 1), status::no_memory);
  EXPECT_EQ(t.find({chunk}), nullptr);
  EXPECT_NE(t.find({0}), nullptr);
  EXPECT_EQ(metadata.get(), before);
  EXPECT_EQ(t.ensure({chunk}, 1), status::ok);
}

TEST_F(table, racing_makers_get_one_chunk) {
  const std::uint64_t before = metadata.get();
  std::vector<std::thread> running;
  std::vector<block*> got(4);
  for (unsigned i = 0; i < 4; ++i)
    running.emplace_back([&, i] {
      EXPECT_EQ(t.ensure({0}, 4 * chunk), status::ok);
      got[i] = t.find({3 * chunk});
      block_guard guard(got[i]->lock);
      ++got[i]->leases;
    });
  for (std::thread& r : running) r.join();
  for (const block* b : got) EXPECT_EQ(b, got[0]);
  EXPECT_EQ(got[0]->leases, 4U);
  EXPECT_LE(metadata.get() - before, 4 * (128U << 10)) << "the losers' memory is not counted";
}

TEST(page_table, an_arena_of_less_than_a_chunk_ends_where_it_ends) {
  counter metadata;
  page_table t;
  ASSERT_EQ(t.create(8 * block_bytes, 2, metadata), status::ok);
  EXPECT_EQ(t.blocks(), 8U);
  ASSERT_EQ(t.ensure({0}, 8), status::ok);
  EXPECT_NE(t.find({7}), nullptr);
  EXPECT_EQ(t.find({8}), nullptr);
}

}  // namespace
}  // namespace gm
