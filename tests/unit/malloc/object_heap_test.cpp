// SPDX-License-Identifier: Apache-2.0
// Objects that share pages.
#include "malloc/object_heap.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <list>
#include <map>
#include <memory_resource>
#include <string>
#include <thread>
#include <vector>

#include "api/debug.h"
#include "gmem/gmem.hpp"
#include "gmem/parallel.hpp"
#include "gmem/view.hpp"
#include "unit/running_gmem.h"
#include "unit/seeded.h"

namespace gm::test {
namespace {

class objects : public every_flavour {
 protected:
  std::uint64_t host_pages() { return stats().node[0].frames_used; }
  // A fault may be served late, and bring a page that nobody uses any more.
  bool gives_all_back() {
    return soon([&] {
      settle();
      return host_pages() == 0;
    });
  }
  static bool is_object(const void* p) { return live_objects.has(p); }
  // Objects of their own, each filled with its number.
  std::vector<byte*> make_many(std::size_t count, std::size_t bytes) {
    std::vector<byte*> all;
    for (std::size_t i = 0; i < count; ++i) {
      all.push_back(static_cast<byte*>(gm_malloc(bytes)));
      std::memset(all.back(), static_cast<int>(i % 251), bytes);
    }
    return all;
  }
  static void free_all(std::vector<byte*>& all) {
    for (byte* p : all) gm_free(p);
    all.clear();
  }
};
INSTANTIATE_TEST_SUITE_P(flavours, objects, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(objects, take_the_pages_they_need_and_no_more) {
  for (const std::size_t bytes : {std::size_t{16}, std::size_t{64}, std::size_t{100}, std::size_t{4096}}) {
    const std::size_t count = 16 * mib / bytes;
    std::vector<byte*> all = make_many(count, bytes);
    EXPECT_EQ(stats().allocations, count);
    // Sizes between those of jemalloc's classes are rounded up by a fifth at most.
    EXPECT_LE(host_pages() * page, 1.15 * static_cast<double>(count * gm_usable_size(all[0]))) << bytes;
    for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(all[i][bytes - 1], i % 251) << bytes;
    free_all(all);
    EXPECT_TRUE(gives_all_back()) << bytes;
    EXPECT_EQ(stats().allocations, 0u);
    EXPECT_EQ(stats().allocated_bytes, 0u);
  }
}

TEST_P(objects, have_their_engine) { EXPECT_NE(object_heap::of(*running()), nullptr) << gm_last_error(); }

TEST_P(objects, sizes_alignments_and_where_pages_begin) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{15}, std::size_t{17}, std::size_t{1000},
                                  largest_object - 1, largest_object}) {
    byte* p = make(bytes);
    EXPECT_TRUE(is_object(p)) << bytes;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % 16, 0u) << bytes;
    EXPECT_GE(gm_usable_size(p), bytes);
    std::memset(p, 1, gm_usable_size(p));
  }
  EXPECT_FALSE(is_object(make(largest_object + 1)));
  for (std::size_t alignment = 1; alignment <= most_aligned_object; alignment *= 2) {
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, largest_object}) {
      void* p = gm_aligned_alloc(alignment, bytes);
      remember(p);
      EXPECT_TRUE(is_object(p));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % alignment, 0u);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % 16, 0u);
    }
  }
}

TEST_P(objects, allocating_and_freeing_them_touches_no_memory) {
  std::vector<byte*> all = make_many(4096, 256);
  const byte* first = all[0];
  for (byte* p : all) ASSERT_EQ(gm_prefetch(p, 1, 1, nullptr), GM_OK);
  for (byte* p : all) ASSERT_EQ(gm_memset(p, 7, 256, 1, nullptr), GM_OK);  // the device has the only copy
  gm::reset_stats();
  for (std::size_t i = 0; i < all.size(); i += 2) gm_free(all[i]);
  for (std::size_t i = 0; i < all.size(); i += 2) all[i] = static_cast<byte*>(gm_malloc(256));
  EXPECT_EQ(stats().node[0].faults, 0u);
  EXPECT_EQ(stats().node[0].pages_in + stats().node[1].pages_in, 0u);
  EXPECT_EQ(all[1][0], 7);
  free_all(all);
  settle();
  EXPECT_EQ(query(first).valid_nodes, 0u) << "given back on the device, too";
}

TEST_P(objects, pages_in_the_way_of_something_are_given_back_later) {
  std::vector<byte*> all = make_many(2048, 1024);
  byte* held = all[1000];
  ASSERT_EQ(gm_pin(held, 1, 1), GM_OK);
  free_all(all);
  settle();
  EXPECT_EQ(query(held).valid_nodes & 2, 2u);
  EXPECT_EQ(gm_unpin(held, 1, 1), GM_OK);
  settle();
  EXPECT_EQ(query(held).valid_nodes, 0u);
  EXPECT_EQ(host_pages(), 0u);
}

// The page is a scope's while the kernel runs; the object is free at once, and its next owner waits for the page.
TEST_P(objects, freed_under_a_queued_kernel_they_do_not_disturb_their_neighbours) {
  gm_stream s = stream();
  auto* a = static_cast<byte*>(gm_malloc(1000));
  auto* b = static_cast<byte*>(gm_malloc(1000));
  std::memset(a, 1, 1000);
  std::memset(b, 2, 1000);
  gm_scope use = begin(s, a, 1000, GM_READ_WRITE);
  kernel_set(s, a, 1000, 9);
  end(use);
  gm_free(a);
  auto* c = static_cast<byte*>(gm_malloc(1000));
  std::memset(c, 3, 1000);
  finish(s);
  EXPECT_TRUE(all_are(c, 1000, 3));
  EXPECT_TRUE(all_are(b, 1000, 2));
  gm_free(b);
  gm_free(c);
}

// Its scope has ended for the host, and its kernel still runs.
TEST_P(objects, freed_under_a_running_kernel_on_demand_they_stay_its) {
  if (!GetParam().window) GTEST_SKIP() << "views need access maps, which this device has not";
  using word = std::uint32_t;
  constexpr std::size_t count = 4096 / sizeof(word);
  auto* x = static_cast<word*>(gm_malloc(count * sizeof(word)));
  gm_stream s = stream();
  std::atomic<bool> there{false};
  std::atomic<bool> go{false};
  std::atomic<word> seen{0};
  {
    gm::scope use(s, gm::on_demand(x, count));
    const gm::view<word> v(use, x, count);
    gm::parallel_for(s, 1, [=, &there, &go, &seen](std::size_t) {
      v[0] = 11;
      there = true;
      while (!go) std::this_thread::yield();
      seen = v[0];
    });
  }
  EXPECT_TRUE(soon([&] { return there.load(); }));
  gm_free(x);
  running()->objects.load()->trim();
  go = true;
  finish(s);
  EXPECT_EQ(seen, 11u);
}

// The thread's own open scope covers whatever else lies in the page.
TEST_P(objects, zeroed_and_moved_ones_are_not_written_under_an_open_scope) {
  byte* x = make(1000);
  byte* y = make(1000);
  std::memset(y, 6, 1000);
  gm_scope use = begin(nullptr, x, 1000, GM_READ_WRITE);
  auto* zeroed = static_cast<byte*>(gm_calloc(10, 10));
  EXPECT_TRUE(all_are(zeroed, 100, 0));
  gm_free(zeroed);
  end(use);
  EXPECT_TRUE(all_are(y, 1000, 6));
}

TEST_P(objects, where_no_chunk_has_room_pages_do) {
  byte* most = nullptr;
  std::size_t rest = 4 * gib;
  for (; rest > 2 * block && most == nullptr; rest -= block) most = static_cast<byte*>(gm_malloc(rest));
  ASSERT_NE(most, nullptr);
  gm_free(most);
  most = static_cast<byte*>(gm_malloc(rest));  // a block less: rest has gone down once more
  void* last_block = gm_malloc(page + 1);
  ASSERT_NE(last_block, nullptr);
  std::vector<void*> small;
  for (void* p = gm_malloc(20000); p != nullptr; p = gm_malloc(20000)) small.push_back(p);
  EXPECT_FALSE(small.empty());
  for (void* p : small) gm_free(p);
  gm_free(last_block);
  gm_free(most);
}

TEST_P(objects, zeroed_ones_are_zero_where_others_were) {
  std::vector<byte*> all = make_many(1000, 500);
  free_all(all);
  for (int i = 0; i < 1000; ++i) {
    auto* p = static_cast<byte*>(gm_calloc(5, 100));
    ASSERT_TRUE(all_are(p, 500, 0));
    all.push_back(p);
  }
  free_all(all);
}

TEST_P(objects, realloc_keeps_the_contents_through_all_sizes) {
  byte* p = nullptr;
  std::size_t had = 0;
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, std::size_t{90}, std::size_t{20000}, 3 * page,
                                  std::size_t{30000}, std::size_t{10}, 2 * block, std::size_t{7}}) {
    auto* moved = static_cast<byte*>(gm_realloc(p, bytes));
    ASSERT_NE(moved, nullptr);
    for (std::size_t i = 0; i < std::min(had, bytes); ++i) ASSERT_EQ(moved[i], i % 241) << bytes;
    for (std::size_t i = 0; i < bytes; ++i) moved[i] = static_cast<byte>(i % 241);
    p = moved;
    had = bytes;
  }
  EXPECT_EQ(stats().allocations, 1u);
  EXPECT_EQ(gm_realloc(p, 0), nullptr);
  EXPECT_EQ(stats().allocations, 0u);
}

TEST_P(objects, realloc_under_an_open_scope_is_busy) {
  byte* p = make(1000);
  std::memset(p, 4, 1000);
  gm_scope use = begin(nullptr, p, 1000, GM_READ_WRITE);
  errno = 0;
  EXPECT_EQ(gm_realloc(p, 5000), nullptr);
  EXPECT_EQ(errno, EBUSY);
  end(use);
  EXPECT_TRUE(all_are(p, 1000, 4));
}

TEST_P(objects, threads_hand_them_to_each_other) {
  constexpr unsigned threads = 4, rounds = 2000;
  std::atomic<byte*> slots[64] = {};
  std::vector<std::thread> all;
  std::atomic<int> wrong{0};
  for (unsigned t = 0; t < threads; ++t)
    all.emplace_back([&, t] {
      std::mt19937 random(t + 1);
      for (unsigned i = 0; i < rounds; ++i) {
        const std::size_t bytes = 16 + random() % 3000;
        auto* p = static_cast<byte*>(gm_malloc(bytes));
        std::memset(p, static_cast<int>(bytes % 255), 16);
        p[15] = static_cast<byte>(~p[0]);
        if (byte* other = slots[random() % 64].exchange(p); other != nullptr) {
          if (other[15] != static_cast<byte>(~other[0])) ++wrong;
          gm_free(other);
        }
      }
    });
  for (std::thread& t : all) t.join();
  for (auto& slot : slots)
    if (byte* p = slot.load(); p != nullptr) gm_free(p);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(stats().allocations, 0u);
  EXPECT_TRUE(gives_all_back()) << "ended threads keep nothing";
}

TEST_P(objects, a_full_arena_refuses_and_serves_again) {
  byte* most = nullptr;
  std::size_t rest = 4 * gib;
  for (; rest > 2 * block && most == nullptr; rest -= block) most = static_cast<byte*>(gm_malloc(rest));
  ASSERT_NE(most, nullptr) << gm_last_error();
  std::vector<void*> small;
  for (;;) {
    errno = 0;
    void* p = gm_malloc(30000);
    if (p == nullptr) break;
    small.push_back(p);
    ASSERT_LT(small.size(), 1000u);
  }
  EXPECT_EQ(errno, ENOMEM);
  expect_error("GM_ARENA_SIZE");
  gm_free(most);
  void* p = gm_malloc(30000);
  EXPECT_NE(p, nullptr);
  gm_free(p);
  for (void* each : small) gm_free(each);
}

TEST_P(objects, standard_containers) {
  {
    std::map<int, int, std::less<>, gm::allocator<std::pair<const int, int>>> map;
    std::list<std::string, gm::allocator<std::string>> list;
    using managed_string = std::basic_string<char, std::char_traits<char>, gm::allocator<char>>;
    std::vector<managed_string, gm::allocator<managed_string>> strings;
    std::pmr::map<int, std::pmr::string> pmr(gm::memory_resource());
    for (int i = 0; i < 20000; ++i) {
      map[i * 7919 % 20011] = i;
      if (i % 10 == 0) list.push_back(std::to_string(i));
      strings.emplace_back("a string that is too long to lie in the object itself");
      pmr[i % 1000] = "another one that is too long to lie in the object itself";
    }
    for (int i = 0; i < 20000; ++i) ASSERT_EQ(map[i * 7919 % 20011], i);
    EXPECT_EQ(list.size(), 2000u);
    EXPECT_EQ(strings[19999].size(), 53u);
    EXPECT_EQ(pmr.size(), 1000u);
    EXPECT_LT(host_pages() * page, 8 * mib);
  }
  EXPECT_EQ(stats().allocations, 0u);
}

// Kernels use them by device addresses, or through views, like any memory.
TEST_P(objects, kernels_use_them) {
  auto* x = static_cast<std::uint32_t*>(gm_malloc(1000 * 4));
  for (std::uint32_t i = 0; i < 1000; ++i) x[i] = i;
  gm_stream s = stream();
  {
    gm::scope use(s, gm::read_write(x, 1000));
    std::uint32_t* there = gm::device_pointer(x, 1);
    gm::parallel_for(s, 1000, [=](std::size_t i) { there[i] += 5; });
  }
  finish(s);
  for (std::uint32_t i = 0; i < 1000; ++i) ASSERT_EQ(x[i], i + 5);
  gm_free(x);
}

// ---- Lives ---------------------------------------------------------------------------------------------------------

class lives : public running_gmem {
 protected:
  void SetUp() override { start(small_options()); }
};

TEST_F(lives, shutting_down_is_busy_while_objects_live) {
  void* p = gm_malloc(10);
  EXPECT_EQ(gm_shutdown(), GM_ERROR_BUSY);
  expect_error("1 allocations live");
  gm_free(p);
}

TEST_F(lives, objects_of_one_life_are_not_met_in_another) {
  for (int life = 0; life < 5; ++life) {
    std::vector<void*> all;
    for (int i = 0; i < 1000; ++i) all.push_back(gm_malloc(100));
    for (void* p : all) std::memset(p, life, 100);
    for (void* p : all) gm_free(p);
    ASSERT_EQ(gm_shutdown(), GM_OK) << gm_last_error();
    start(small_options());
    EXPECT_EQ(stats().node[0].frames_used, 0u);
  }
}

// Its cache holds objects of the life that is over when the next one begins.
TEST_F(lives, a_thread_goes_on_from_one_to_the_next) {
  std::atomic<int> step{0};
  const auto wait_for = [&](int wanted) {
    while (step < wanted) std::this_thread::yield();
  };
  std::atomic<int> wrong{0};
  std::thread other([&] {
    for (int life = 0; life < 3; ++life) {
      wait_for(2 * life);
      std::vector<byte*> all;
      for (int i = 0; i < 1000; ++i) {
        auto* p = static_cast<byte*>(gm_malloc(200));
        if (p == nullptr) {
          ++wrong;
          continue;
        }
        std::memset(p, i % 255, 200);
        all.push_back(p);
      }
      for (std::size_t i = 0; i < all.size(); ++i) wrong += all[i][199] != i % 255 ? 1 : 0;
      for (byte* p : all) gm_free(p);
      ++step;
    }
  });
  for (int life = 0; life < 3; ++life) {
    wait_for(2 * life + 1);
    void* mine = gm_malloc(100);
    gm_free(mine);
    ASSERT_EQ(gm_shutdown(), GM_OK) << gm_last_error();
    start(small_options());
    ++step;
  }
  other.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(lives, a_forked_child_has_none_and_ends_in_peace) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer does not let a forked child of a threaded process do much";
#endif
  void* p = gm_malloc(100);
  const pid_t child = fork();
  if (child == 0) {
    gm_free(p);
    const bool right = gm_malloc(100) == nullptr && gm_realloc(p, 200) == nullptr && gm_usable_size(p) == 0;
    std::thread([] { (void)gm_malloc(5); }).join();
    _exit(right ? 0 : 1);
  }
  int how = 0;
  ASSERT_EQ(waitpid(child, &how, 0), child);
  EXPECT_EQ(how, 0);
  gm_free(p);
}

// Its first object comes when only the destructors of keys are left.
TEST_F(lives, a_thread_may_meet_its_first_object_in_its_last_destructor) {
  pthread_key_t key{};
  ASSERT_EQ(pthread_key_create(&key,
                               [](void* p) {
                                 gm_free(p);
                                 gm_free(gm_malloc(40));
                               }),
            0);
  for (int i = 0; i < 20; ++i) {
    void* p = gm_malloc(30);
    std::thread([&] { pthread_setspecific(key, p); }).join();
  }
  pthread_key_delete(key);
  EXPECT_EQ(stats().allocations, 0u);
}

// Destructors of the thread's own that come later than ours.
TEST_F(lives, a_thread_that_is_ending_still_allocates) {
  struct late {
    void* held = nullptr;
    ~late() {
      gm_free(held);
      void* p = gm_malloc(50);
      if (p != nullptr) std::memset(p, 1, 50);
      gm_free(p);
    }
  };
  std::thread([] {
    static thread_local late first;  // made first, destroyed last
    first.held = gm_malloc(60);
  }).join();
  EXPECT_EQ(stats().allocations, 0u);
}

}  // namespace
}  // namespace gm::test
