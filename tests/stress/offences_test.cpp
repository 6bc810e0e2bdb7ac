// SPDX-License-Identifier: Apache-2.0
// offences_test.cpp - touches and calls that end the process, as they should: by which signal, and with which words.
// Each in a process of its own (googletest's death tests, re-executed).
#include <csignal>
#include <thread>

#include "model/oracle_kernel.h"
#include "stress/stress_flavours.h"

namespace gm::test {
namespace {

class offences_death_test : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (under_tsan) GTEST_SKIP() << "ThreadSanitizer takes the signals and says something else";
    testing::FLAGS_gtest_death_test_style = "threadsafe";
  }

  // In the process that dies: without a sanitizer's handlers, so that the signal itself is seen.
  static void start(std::uint64_t host_budget_bytes = 0) {
    std::signal(SIGSEGV, SIG_DFL);
    std::signal(SIGBUS, SIG_DFL);
    flavour f = stress_flavour("offences", true, GetParam(), 16 * mebibyte);
    f.host_budget_bytes = host_budget_bytes;
    // Never ended.
    const auto* live = new live_runtime(f);
    if (!live->started()) std::_Exit(99);
  }
  static void touch(void* p) { *static_cast<volatile std::uint8_t*>(p) = 1; }
  static void look(const void* p) { (void)*static_cast<const volatile std::uint8_t*>(p); }
  static std::uint8_t* memory(std::size_t bytes = block_size) {
    return static_cast<std::uint8_t*>(gm_calloc(bytes, 1));
  }
  static gm_scope open_scope(void* p, gm_mode mode) {
    gm_stream stream = nullptr;
    const gm_access access{p, page_size, mode};
    gm_scope scope = nullptr;
    if (gm_stream_create(1, &stream) != GM_OK || gm_access_begin(stream, &access, 1, &scope) != GM_OK) std::_Exit(98);
    return scope;
  }
};

TEST_P(offences_death_test, wild_address) {
  EXPECT_EXIT(
      {
        start();
        touch(memory() + 100 * mebibyte);
      },
      testing::KilledBySignal(SIGSEGV), "not allocated");
}

TEST_P(offences_death_test, address_behind_the_allocation) {
  EXPECT_EXIT(
      {
        start();
        look(memory(3 * page_size) + 3 * page_size);
      },
      testing::KilledBySignal(SIGSEGV), "not allocated");
}

TEST_P(offences_death_test, freed_address) {
  EXPECT_EXIT(
      {
        start();
        std::uint8_t* p = memory();
        touch(p);
        gm_free(p);
        look(p);
      },
      testing::KilledBySignal(SIGSEGV), "not allocated");
}

TEST_P(offences_death_test, freed_address_of_a_device) {
  EXPECT_EXIT(
      {
        start();
        std::uint8_t* p = memory();
        if (gm_memset(p, 1, block_size, 1, nullptr) != GM_OK) std::_Exit(97);
        gm_free(p);
        touch(p + page_size);
      },
      testing::KilledBySignal(SIGSEGV), "not allocated");
}

TEST_P(offences_death_test, own_scope_written_and_read) {
  EXPECT_EXIT(
      {
        start();
        std::uint8_t* p = memory();
        open_scope(p, GM_READ_WRITE);
        look(p + 10);
      },
      testing::KilledBySignal(SIGBUS), "scope open");
}

TEST_P(offences_death_test, own_scope_read_and_written) {
  EXPECT_EXIT(
      {
        start();
        std::uint8_t* p = memory();
        touch(p);
        open_scope(p, GM_READ);
        look(p);
        touch(p + 10);
      },
      testing::KilledBySignal(SIGBUS), "scope open");
}

TEST_P(offences_death_test, no_host_memory) {
  EXPECT_EXIT(
      {
        start(4 * page_size);
        std::uint8_t* p = memory();
        for (std::size_t page = 0; page < 4; ++page) touch(p + page * page_size);
        std::fprintf(stderr, "four are there\n");
        touch(p + 4 * page_size);
      },
      testing::KilledBySignal(SIGBUS), "four are there.*\n.*no host memory");
}

TEST_P(offences_death_test, freed_twice) {
  EXPECT_EXIT(
      {
        start();
        std::uint8_t* p = memory();
        gm_free(p);
        gm_free(p);
      },
      testing::KilledBySignal(SIGABRT), "gm_free.*freed twice");
}

TEST_P(offences_death_test, foreign_pointer_freed) {
  EXPECT_EXIT(
      {
        start();
        int here = 0;
        gm_free(&here);
      },
      testing::KilledBySignal(SIGABRT), "gm_free");
}

TEST_P(offences_death_test, middle_of_an_allocation_freed) {
  EXPECT_EXIT(
      {
        start();
        gm_free(memory() + page_size);
      },
      testing::KilledBySignal(SIGABRT), "gm_free");
}

TEST_P(offences_death_test, foreign_pointer_resized) {
  EXPECT_EXIT(
      {
        start();
        int here = 0;
        (void)gm_realloc(&here, 100);
      },
      testing::KilledBySignal(SIGABRT), "gm_realloc");
}

TEST_P(offences_death_test, freed_after_shutdown) {
  EXPECT_EXIT(
      {
        start();
        std::uint8_t* p = memory();
        gm_free(p);
        if (gm_shutdown() != GM_OK) std::_Exit(97);
        gm_free(p);
      },
      testing::KilledBySignal(SIGABRT), "gm_free");
}

// Not an end, but what must not be one: a wild touch of one thread while others use their memory. The program takes the
// signals itself and goes on.
TEST_P(offences_death_test, offence_of_one_thread_is_not_the_others) {
  EXPECT_EXIT(
      {
        std::signal(SIGBUS, SIG_DFL);
        start();
        std::uint8_t* p = memory();
        std::atomic<bool> stop{false};
        std::atomic<bool> wrong{false};
        std::thread other([&] {
          while (!stop.load())
            for (std::size_t i = 0; i < block_size; i += page_size) {
              p[i] = 7;
              if (gm_prefetch(p, block_size, 1, nullptr) != GM_OK || p[i] != 7) wrong.store(true);
            }
        });
        std::signal(SIGSEGV, [](int) { std::_Exit(42); });
        touch(p + 100 * mebibyte);
        stop.store(true);
        other.join();
        std::_Exit(wrong.load() ? 1 : 0);
      },
      testing::ExitedWithCode(42), "not allocated");
}

INSTANTIATE_TEST_SUITE_P(stress, offences_death_test, testing::Values("thread", "inline"),
                         [](const testing::TestParamInfo<const char*>& each) { return std::string(each.param); });

// After gm_shutdown every call says so, until gm_init.
TEST(shut_down, every_call_is_refused) {
  int here = 0;
  {
    const live_runtime live(stress_flavour("plain", true, "thread", 16 * mebibyte));
    ASSERT_TRUE(live.started());
  }
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
  // And it starts again, as often as one likes.
  for (int i = 0; i < 10; ++i) {
    const live_runtime live(stress_flavour("plain", i % 2 == 0, i % 3 == 0 ? "inline" : "thread", 16 * mebibyte));
    ASSERT_TRUE(live.started());
    auto* p = static_cast<std::uint8_t*>(gm_calloc(3, block_size));
    ASSERT_NE(p, nullptr);
    p[block_size] = 3;
    EXPECT_EQ(gm_prefetch(p, 3 * block_size, 1, nullptr), GM_OK) << gm_last_error();
    EXPECT_EQ(p[block_size], 3);
    gm_free(p);
  }
}

}  // namespace
}  // namespace gm::test
