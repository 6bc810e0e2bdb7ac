// SPDX-License-Identifier: Apache-2.0
// bad_input_test.cpp - null, zero, overflowing, foreign and unknown arguments: a status and a sentence, and nothing
// moves.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

constexpr std::size_t huge = std::numeric_limits<std::size_t>::max();

// One function of a range of managed memory.
struct range_call {
  const char* name;
  std::function<gm_status(void*, std::size_t)> call;
};

class bad_input : public running_gmem {
 protected:
  void SetUp() override {
    start(small_options());
    p = make_written(3 * page);
    neighbour = make_written(page, 50);
    ASSERT_EQ(neighbour, p + 3 * page) << "for what follows";
    s = stream();
    before = stats();
    before_map = query(p);
  }
  void TearDown() override {
    if (p != nullptr && running() != nullptr) {
      // Whatever was refused has moved, written, allocated nothing.
      const gm_stats now = stats();
      for (std::uint64_t n = 0; n < now.node_count; ++n) {
        EXPECT_EQ(now.node[n].pages_in, before.node[n].pages_in);
        EXPECT_EQ(now.node[n].frames_used, before.node[n].frames_used);
      }
      EXPECT_EQ(now.allocations, before.allocations);
      EXPECT_EQ(query(p).flags, before_map.flags);
      EXPECT_TRUE(all_are(p, page, 1));
      EXPECT_TRUE(all_are(neighbour, page, 50));
    }
    running_gmem::TearDown();
  }

  std::vector<range_call> calls() {
    return {
        {"prefetch", [](void* a, std::size_t n) { return gm_prefetch(a, n, 1, nullptr); }},
        {"advise", [](void* a, std::size_t n) { return gm_advise(a, n, GM_ADVISE_COLD, 0); }},
        {"discard", [](void* a, std::size_t n) { return gm_discard(a, n); }},
        {"pin", [](void* a, std::size_t n) { return gm_pin(a, n, 1); }},
        {"unpin", [](void* a, std::size_t n) { return gm_unpin(a, n, 1); }},
        {"memset", [](void* a, std::size_t n) { return gm_memset(a, 1, n, 1, nullptr); }},
        {"scope", [this](void* a, std::size_t n) { return try_begin(s, a, n, GM_READ); }},
        {"residency",
         [](void* a, std::size_t n) {
           std::size_t out = 0;
           return gm_residency(a, n, 1, &out);
         }},
    };
  }

  byte* p = nullptr;
  byte* neighbour = nullptr;
  gm_stream s = nullptr;
  gm_stats before{};
  gm_mapping before_map{};
};

TEST_F(bad_input, null_pointers) {
  for (const range_call& c : calls()) {
    EXPECT_EQ(c.call(nullptr, page), GM_ERROR_INVALID_ARGUMENT) << c.name;
    expect_error("null");
  }
}

TEST_F(bad_input, ranges_of_no_bytes) {
  for (const range_call& c : calls()) {
    if (std::strcmp(c.name, "memset") == 0) continue;  // as memset: nothing to do
    EXPECT_EQ(c.call(p, 0), GM_ERROR_INVALID_ARGUMENT) << c.name;
    expect_error("0 bytes");
  }
  EXPECT_EQ(gm_memset(p, 1, 0, 1, nullptr), GM_OK);
  EXPECT_EQ(gm_memcpy(p, neighbour, 0, 1, nullptr), GM_OK);
}

TEST_F(bad_input, ranges_that_leave_their_allocation) {
  for (const range_call& c : calls()) {
    EXPECT_EQ(c.call(p, 3 * page + 1), GM_ERROR_NOT_MANAGED) << c.name << " into the neighbour";
    EXPECT_EQ(c.call(p + page, 2 * page + 1), GM_ERROR_NOT_MANAGED) << c.name;
    EXPECT_EQ(c.call(neighbour, page + 1), GM_ERROR_NOT_MANAGED) << c.name << " past the end";
    EXPECT_EQ(c.call(neighbour + page, 1), GM_ERROR_NOT_MANAGED) << c.name << " behind it";
  }
}

TEST_F(bad_input, ranges_that_overflow) {
  for (const range_call& c : calls()) {
    EXPECT_EQ(c.call(p, huge), GM_ERROR_NOT_MANAGED) << c.name;
    EXPECT_EQ(c.call(p + 1, huge), GM_ERROR_NOT_MANAGED) << c.name;
    EXPECT_EQ(c.call(p, huge - reinterpret_cast<std::uintptr_t>(p) + 1), GM_ERROR_NOT_MANAGED) << c.name;
  }
}

TEST_F(bad_input, foreign_and_freed_memory) {
  int local = 0;
  byte* gone = make(page);
  free(gone);
  settle();
  for (const range_call& c : calls()) {
    EXPECT_EQ(c.call(&local, sizeof local), GM_ERROR_NOT_MANAGED) << c.name;
    EXPECT_EQ(c.call(gone, page), GM_ERROR_NOT_MANAGED) << c.name;
    EXPECT_EQ(c.call(reinterpret_cast<void*>(1), 1), GM_ERROR_NOT_MANAGED) << c.name;
    EXPECT_EQ(c.call(reinterpret_cast<void*>(huge), 1), GM_ERROR_NOT_MANAGED) << c.name;
  }
  before = stats();
}

TEST_F(bad_input, unknown_nodes) {
  gm_node_info info;
  gm_stream other = nullptr;
  std::size_t n = 0;
  for (const int node : {-1, 3, 33, 1 << 30, std::numeric_limits<int>::min(), std::numeric_limits<int>::max()}) {
    EXPECT_EQ(gm_node_info_get(node, &info), GM_ERROR_INVALID_ARGUMENT);
    expect_error("there is no node");
    EXPECT_EQ(gm_device_pointer(p, node), nullptr);
    EXPECT_EQ(gm_stream_create(node, &other), GM_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(gm_stream_from_native(node, nullptr, &other), GM_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(gm_prefetch(p, page, node, nullptr), GM_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(gm_pin(p, page, node), GM_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(gm_unpin(p, page, node), GM_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(gm_memset(p, 1, page, node, nullptr), GM_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(gm_memcpy(p, neighbour, page, node, nullptr), GM_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(gm_residency(p, page, node, &n), GM_ERROR_INVALID_ARGUMENT);
    for (const gm_advice advice : {GM_ADVISE_PREFERRED_NODE, GM_ADVISE_ACCESSED_BY, GM_ADVISE_WILLNEED})
      EXPECT_EQ(gm_advise(p, page, advice, node), GM_ERROR_INVALID_ARGUMENT);
  }
  EXPECT_EQ(gm_stream_create(GM_HOST, &other), GM_ERROR_INVALID_ARGUMENT) << "a stream is of a device";
  expect_error("device node 0");
  EXPECT_EQ(other, nullptr);
  EXPECT_EQ(gm_advise(p, page, GM_ADVISE_NORMAL, 99), GM_OK) << "where the node does not matter it is not looked at";
}

TEST_F(bad_input, unknown_modes_and_advice) {
  gm_scope scope = nullptr;
  for (const int mode : {0, GM_ON_DEMAND + 0, GM_WRITE | GM_ON_DEMAND, 8, -1}) {
    const gm_access accesses[] = {{p, page, GM_READ}, {p + page, page, static_cast<gm_mode>(mode)}};
    EXPECT_EQ(gm_access_begin(s, accesses, 2, &scope), GM_ERROR_INVALID_ARGUMENT);
    expect_error("range 1 has mode");
  }
  for (const int advice : {-1, GM_ADVISE_COLD + 1, 1000})
    EXPECT_EQ(gm_advise(p, page, static_cast<gm_advice>(advice), 0), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(scope, nullptr);
}

TEST_F(bad_input, scopes_of_nothing) {
  gm_scope scope = nullptr;
  const gm_access access{p, page, GM_READ};
  EXPECT_EQ(gm_access_begin(s, nullptr, 1, &scope), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_access_begin(s, &access, 0, &scope), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_access_begin(s, &access, 1, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_access_end(nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(scope, nullptr);
}

TEST_F(bad_input, one_bad_range_of_many_begins_nothing) {
  int local = 0;
  gm_scope scope = nullptr;
  const gm_access accesses[] = {{p, page, GM_READ_WRITE}, {neighbour, page, GM_WRITE}, {&local, 4, GM_READ}};
  EXPECT_EQ(gm_access_begin(s, accesses, 3, &scope), GM_ERROR_NOT_MANAGED);
  EXPECT_EQ(flags(p) & GM_PAGE_LEASED, 0U);
  touch_write(p, 1);  // and nobody waits for it
}

TEST_F(bad_input, null_places_for_results) {
  EXPECT_EQ(gm_node_info_get(0, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stream_create(1, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_query(p, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_query(nullptr, &before_map), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_residency(p, page, 0, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stats_get(nullptr), GM_ERROR_INVALID_ARGUMENT);
}

TEST_F(bad_input, streams) {
  EXPECT_EQ(gm_stream_synchronize(nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stream_call(
                nullptr, [](void*) {}, nullptr),
            GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stream_call(s, nullptr, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stream_launch(nullptr, 1, kernel_work::run, nullptr, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stream_launch(s, 1, nullptr, nullptr, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stream_node(nullptr), GM_HOST);
  EXPECT_EQ(gm_stream_node(s), 1);
  gm_stream native = nullptr;
  EXPECT_EQ(gm_stream_from_native(1, nullptr, &native), GM_ERROR_UNSUPPORTED);
  gm_native_stream known{};
  EXPECT_EQ(gm_stream_native(nullptr, &known), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stream_native(s, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_stream_native(s, &known), GM_ERROR_UNSUPPORTED);
  expect_error("gm_stream_launch");
  EXPECT_EQ(native, nullptr);
}

TEST_F(bad_input, a_stream_of_another_node) {
  gm_stream other = stream(2);
  EXPECT_EQ(gm_prefetch(p, page, 1, other), GM_ERROR_INVALID_ARGUMENT);
  expect_error("the stream is of node 2");
  EXPECT_EQ(gm_memset(p, 1, page, 1, other), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_memcpy(p, neighbour, page, 1, other), GM_ERROR_INVALID_ARGUMENT);
}

TEST_F(bad_input, copies) {
  byte ordinary[16] = {};
  byte more[16] = {};
  EXPECT_EQ(gm_memcpy(nullptr, p, 1, 0, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_memcpy(p, nullptr, 1, 0, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_memcpy(ordinary, more, 16, 0, nullptr), GM_ERROR_NOT_MANAGED) << "both sides ordinary";
  EXPECT_EQ(gm_memset(ordinary, 1, 16, 0, nullptr), GM_ERROR_NOT_MANAGED);
  EXPECT_EQ(gm_memcpy(p, p + 1, 2, 0, nullptr), GM_ERROR_INVALID_ARGUMENT) << "they overlap";
  EXPECT_EQ(gm_memcpy(p + 1, p, 2, 1, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_memcpy(p, p, 1, 1, nullptr), GM_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(gm_memcpy(p, neighbour, page + 1, 0, nullptr), GM_ERROR_NOT_MANAGED) << "past the source";
  EXPECT_EQ(gm_memcpy(neighbour, p, page + 1, 0, nullptr), GM_ERROR_NOT_MANAGED) << "past the destination";
  EXPECT_EQ(gm_memcpy(p, ordinary, huge, 0, nullptr), GM_ERROR_NOT_MANAGED);
  EXPECT_EQ(gm_memcpy(p, reinterpret_cast<void*>(huge - 1), page, 0, nullptr), GM_ERROR_NOT_MANAGED);
}

TEST_F(bad_input, a_struct_of_unknown_size) {
  gm_stats small{};
  for (const std::size_t size : {std::size_t{0}, std::size_t{8}, std::size_t{15}}) {
    small.size = size;
    EXPECT_EQ(gm_stats_get(&small), GM_ERROR_INVALID_ARGUMENT);
    expect_error("sizeof(gm_stats)");
  }
}

TEST_F(bad_input, addresses_for_kernels) {
  int local = 0;
  EXPECT_EQ(gm_device_pointer(nullptr, 1), nullptr);
  EXPECT_EQ(gm_device_pointer(&local, 1), nullptr);
  EXPECT_EQ(gm_device_pointer(&local, GM_HOST), nullptr);
  EXPECT_EQ(gm_device_pointer(neighbour + page, 1), nullptr) << "nobody's";
  EXPECT_EQ(gm_device_pointer(p + 5, GM_HOST), p + 5);
}

TEST_F(bad_input, the_sentence_belongs_to_the_thread) {
  EXPECT_EQ(gm_query(nullptr, nullptr), GM_ERROR_INVALID_ARGUMENT);
  const std::string mine = gm_last_error();
  std::thread([&] { EXPECT_EQ(gm_stats_get(nullptr), GM_ERROR_INVALID_ARGUMENT); }).join();
  EXPECT_EQ(gm_last_error(), mine);
}

TEST_F(bad_input, more_ranges_than_there_can_be) {
  const gm_access access{p, page, GM_READ};
  gm_scope scope = nullptr;
  for (const std::size_t count : {~std::size_t{0}, ~std::size_t{0} / sizeof(gm_access), std::size_t{1} << 60}) {
    EXPECT_EQ(gm_access_begin(s, &access, count, &scope), GM_ERROR_INVALID_ARGUMENT);
    expect_error("overflow");
  }
}

}  // namespace
}  // namespace gm::test
