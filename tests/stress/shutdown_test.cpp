// SPDX-License-Identifier: Apache-2.0
// shutdown_test.cpp - gm_shutdown: refused while anything lives; after it every call is; and gmem starts again.
#include "model/gate.h"
#include "stress/device_work.h"
#include "stress/stress_flavours.h"

namespace gm::test {
namespace {

class shutdown : public testing::TestWithParam<flavour> {};

TEST_P(shutdown, is_refused_while_anything_lives) {
  const live_runtime live(GetParam());  // its end shuts down
  ASSERT_TRUE(live.started());
  auto* words = static_cast<std::uint64_t*>(gm_calloc(1, page_size));
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY) << "an allocation lives";
  EXPECT_STRNE(gm_last_error(), "");
  {
    const device_stream held(1), other(1);
    gate g;
    EXPECT_EQ(g.hold(held.get()), GM_OK) << gm_last_error();
    EXPECT_EQ(add_on_device(held, words, 10, 1), GM_OK) << gm_last_error();
    EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY) << "work is queued";
    const gm_access access{words, page_size, GM_READ};
    gm_scope scope = nullptr;
    ASSERT_EQ(gm_access_begin(other.get(), &access, 1, &scope), GM_OK) << gm_last_error();
    EXPECT_EQ(gm_stream_destroy(other.get()), GM_ERROR_BUSY) << "a scope is open on it";
    EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY) << "a scope is open";
    EXPECT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
    g.open();
    EXPECT_EQ(words[9], 1u);
    ASSERT_EQ(gm_access_begin(other.get(), &access, 1, &scope), GM_OK) << gm_last_error();
    gm_free(words);
    EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY) << "a scope is open over what was freed";
    EXPECT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
    EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY) << "streams live";
  }
}

// Everything as the library chooses.
constexpr flavour defaults{
    .name = "defaults", .devices = 0, .fault_mode = nullptr, .arena_bytes = 0, .sim_memory_bytes = 0};
INSTANTIATE_TEST_SUITE_P(stress, shutdown, testing::ValuesIn(every_flavour(0, {tight, defaults})), flavour_name);

void expect_every_call_is_refused() {
  int here = 0;
  gm_stream stream = nullptr;
  gm_scope scope = nullptr;
  gm_mapping m{};
  gm_stats stats{};
  stats.size = sizeof stats;
  gm_node_info info{};
  size_t resident = 0;
  const gm_access access{&here, 1, GM_READ};
  EXPECT_EQ(gm_malloc(1), nullptr);
  EXPECT_EQ(gm_calloc(1, 1), nullptr);
  EXPECT_EQ(gm_aligned_alloc(64, 1), nullptr);
  EXPECT_EQ(gm_usable_size(&here), 0u);
  EXPECT_EQ(gm_node_count(), 0);
  EXPECT_EQ(gm_device_pointer(&here, 1), nullptr);
  EXPECT_EQ(gm_node_info_get(0, &info), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stream_create(1, &stream), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_access_begin(nullptr, &access, 1, &scope), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_prefetch(&here, 1, 0, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_advise(&here, 1, GM_ADVISE_COLD, 0), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_discard(&here, 1), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_pin(&here, 1, 0), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_unpin(&here, 1, 0), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_memcpy(&here, &here, 1, 0, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_memset(&here, 0, 1, 0, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_query(&here, &m), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_residency(&here, 1, 0, &resident), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stats_get(&stats), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_STRNE(gm_last_error(), "");
}

// As often as one likes, each time in another flavour.
TEST(shutdown, makes_every_call_refuse_until_the_next_start) {
  std::vector<flavour> turns = every_flavour(0, {tight, defaults});
  for (int twice = 0; twice < 2; ++twice)
    for (const flavour& f : turns) {
      SCOPED_TRACE(f.name);
      {
        const live_runtime live(f);
        ASSERT_TRUE(live.started());
        auto* p = static_cast<std::uint8_t*>(gm_calloc(2, block_size));
        ASSERT_NE(p, nullptr) << gm_last_error();
        p[block_size] = 3;
        EXPECT_EQ(gm_prefetch(p, 2 * block_size, 1, nullptr), GM_OK) << gm_last_error();
        EXPECT_EQ(p[block_size], 3);
        gm_free(p);
      }
      expect_every_call_is_refused();
    }
}

}  // namespace
}  // namespace gm::test
