// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <gmem/gmem.hpp>
#include <limits>
#include <list>
#include <map>
#include <memory_resource>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace {

static_assert(std::is_same_v<std::allocator_traits<gm::allocator<int>>::rebind_alloc<char>, gm::allocator<char>>);
static_assert(std::allocator_traits<gm::allocator<int>>::is_always_equal::value);
static_assert(std::is_base_of_v<std::bad_alloc, gm::bad_alloc>);
static_assert(std::is_same_v<gm::vector<int>, std::vector<int, gm::allocator<int>>>);

bool is_managed(const void* pointer) {
  gm_mapping mapping;
  return gm_query(pointer, &mapping) == GM_OK;
}

std::uint64_t allocations() { return gm::stats().allocations; }

TEST(allocator, serves_the_standard_containers) {
  gm::vector<int> vector = {1, 2, 3};
  std::deque<int, gm::allocator<int>> deque = {1, 2, 3};
  std::list<int, gm::allocator<int>> list = {1, 2, 3};
  std::map<int, int, std::less<>, gm::allocator<std::pair<const int, int>>> map = {{1, 10}, {2, 20}};
  std::basic_string<char, std::char_traits<char>, gm::allocator<char>> string(100, 'x');
  for (int i = 4; i <= 1000; ++i) {
    vector.push_back(i);
    deque.push_back(i);
  }
  EXPECT_EQ(vector.back(), 1000);
  EXPECT_EQ(deque.back(), 1000);
  EXPECT_EQ(map.at(2), 20);
  EXPECT_TRUE(is_managed(vector.data()));
  EXPECT_TRUE(is_managed(&deque.back()));
  EXPECT_TRUE(is_managed(&list.front()));
  EXPECT_TRUE(is_managed(&*map.begin()));
  EXPECT_TRUE(is_managed(string.data()));
  EXPECT_FALSE(is_managed(&vector));
}

TEST(allocator, any_frees_what_another_gave) {
  const std::uint64_t before = allocations();
  gm::allocator<int> one;
  gm::allocator<int> other{gm::allocator<double>()};
  EXPECT_TRUE(one == other);
  EXPECT_FALSE(one != gm::allocator<char>());
  int* memory = one.allocate(10);
  EXPECT_EQ(allocations(), before + 1);
  other.deallocate(memory, 10);
  EXPECT_EQ(allocations(), before);
}

TEST(allocator, a_moved_vector_keeps_its_memory) {
  gm::vector<int> from(1000, 7);
  const int* const data = from.data();
  gm::vector<int> to;
  to = std::move(from);
  EXPECT_EQ(to.data(), data);
  EXPECT_EQ(to[999], 7);
}

TEST(allocator, keeps_alignment) {
  struct alignas(256) wide {
    char byte;
  };
  const gm::vector<wide> vector(3);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(vector.data()) % 256, 0U);
}

TEST(allocator, what_cannot_be_had_is_bad_alloc_with_a_sentence) {
  gm::allocator<double> allocator;
  EXPECT_THROW(static_cast<void>(allocator.allocate(std::numeric_limits<std::size_t>::max() / 4)),
               std::bad_array_new_length);
  try {
    static_cast<void>(allocator.allocate(std::size_t{1} << 50));
    FAIL() << "8 PiB were given";
  } catch (const std::bad_alloc& failure) {
    EXPECT_STREQ(failure.what(), gm_last_error());
    EXPECT_STRNE(failure.what(), "");
  }
}

TEST(unique_ptr, zeros_take_no_memory) {
  const auto array = gm::make_unique<float[]>(std::size_t{1} << 20);
  EXPECT_NE(gm::query(array.get()).flags & GM_PAGE_NOMAP, 0U);
  EXPECT_EQ(array[0], 0.0F);
  EXPECT_EQ(array[(std::size_t{1} << 20) - 1], 0.0F);
  EXPECT_EQ(array.get_deleter().count(), std::size_t{1} << 20);
}

TEST(unique_ptr, zeros_also_where_used_memory_comes_back) {
  constexpr std::size_t count = 300000;
  for (int round = 0; round < 3; ++round) {
    const auto array = gm::make_unique<std::uint32_t[]>(count);
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_EQ(array[i], 0U) << "round " << round << ", element " << i;
      array[i] = 0xffffffff;
    }
  }
}

TEST(unique_ptr, holds_one_object) {
  const auto pair = gm::make_unique<std::pair<int, std::string>>(3, "three");
  EXPECT_EQ(pair->first, 3);
  EXPECT_EQ(pair->second, "three");
  EXPECT_TRUE(is_managed(pair.get()));
}

TEST(unique_ptr, an_empty_array_is_one) {
  const auto none = gm::make_unique<int[]>(0);
  EXPECT_NE(none.get(), nullptr);
  EXPECT_EQ(none.get_deleter().count(), 0U);
  const gm::unique_ptr<int[]> null;
  EXPECT_EQ(null.get(), nullptr);
}

// Counts its living; the one after the limit fails to be born.
struct counted {
  inline static int living = 0, limit = 1000;
  counted() {
    if (living == limit) throw std::runtime_error("too many");
    ++living;
  }
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  ~counted() { --living; }
};

TEST(unique_ptr, constructs_and_destroys_every_element) {
  {
    const auto array = gm::make_unique<counted[]>(10);
    EXPECT_EQ(counted::living, 10);
    const auto one = gm::make_unique<counted>();
    EXPECT_EQ(counted::living, 11);
    const auto overwritten = gm::make_unique_for_overwrite<counted[]>(5);
    EXPECT_EQ(counted::living, 16);
  }
  EXPECT_EQ(counted::living, 0);
}

TEST(unique_ptr, a_constructor_that_throws_leaves_nothing) {
  const std::uint64_t before = allocations();
  counted::limit = 6;
  EXPECT_THROW(static_cast<void>(gm::make_unique<counted[]>(10)), std::runtime_error);
  EXPECT_THROW(static_cast<void>(gm::make_unique_for_overwrite<counted[]>(10)), std::runtime_error);
  counted::limit = 0;
  EXPECT_THROW(static_cast<void>(gm::make_unique<counted>()), std::runtime_error);
  counted::limit = 1000;
  EXPECT_EQ(counted::living, 0);
  EXPECT_EQ(allocations(), before);
}

TEST(unique_ptr, what_cannot_be_had_is_bad_alloc) {
  EXPECT_THROW(static_cast<void>(gm::make_unique<double[]>(std::numeric_limits<std::size_t>::max() / 4)),
               std::bad_alloc);
  EXPECT_THROW(static_cast<void>(gm::make_unique_for_overwrite<double[]>(std::numeric_limits<std::size_t>::max() / 4)),
               std::bad_array_new_length);
  EXPECT_THROW(static_cast<void>(gm::make_unique_for_overwrite<char[]>(std::size_t{1} << 53)), gm::bad_alloc);
}

TEST(memory_resource, serves_pmr_containers) {
  std::pmr::vector<std::pmr::string> strings(gm::memory_resource());
  for (int i = 0; i < 100; ++i) strings.emplace_back(std::string(200, static_cast<char>('a' + i % 26)));
  EXPECT_TRUE(is_managed(strings.data()));
  EXPECT_TRUE(is_managed(strings[99].data()));
  EXPECT_EQ(strings[99], std::pmr::string(200, 'v'));
}

TEST(memory_resource, serves_as_upstream) {
  const std::uint64_t before = allocations();
  {
    std::pmr::monotonic_buffer_resource pool(1 << 20, gm::memory_resource());
    std::pmr::list<int> list(&pool);
    for (int i = 0; i < 1000; ++i) list.push_back(i);
    EXPECT_TRUE(is_managed(&list.back()));
    EXPECT_EQ(allocations(), before + 1);
  }
  EXPECT_EQ(allocations(), before);
}

TEST(memory_resource, is_one_and_keeps_alignment) {
  EXPECT_EQ(gm::memory_resource(), gm::memory_resource());
  EXPECT_TRUE(gm::memory_resource()->is_equal(*gm::memory_resource()));
  EXPECT_FALSE(gm::memory_resource()->is_equal(*std::pmr::new_delete_resource()));
  for (std::size_t alignment = 1; alignment <= std::size_t{1} << 16; alignment *= 2) {
    void* memory = gm::memory_resource()->allocate(100, alignment);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % alignment, 0U);
    gm::memory_resource()->deallocate(memory, 100, alignment);
  }
  EXPECT_THROW(static_cast<void>(gm::memory_resource()->allocate(std::size_t{1} << 53)), std::bad_alloc);
}

}  // namespace
