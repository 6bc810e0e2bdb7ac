// SPDX-License-Identifier: Apache-2.0
// offences.h - what a program must not touch, one by one: how memory gets into that state, which signal and words a
// touch ends in, and what makes the touch right.
#pragma once

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>

#include "model/oracle_kernel.h"
#include "model/watchdog.h"
#include "stress/stress_flavours.h"

namespace gm::test {

inline constexpr std::size_t host_budget_pages = 16;

inline flavour offences_flavour(const char* fault_mode) {
  flavour f = stress_flavour(fault_mode, true, fault_mode);
  f.host_budget_bytes = host_budget_pages * page_size;
  return f;
}

inline std::string fault_mode_name(const testing::TestParamInfo<const char*>& info) { return info.param; }

// Memory of which some must not be touched.
struct scene {
  std::uint8_t* memory = nullptr;
  std::size_t bytes = 0;
  std::size_t kept_bytes = 0;      // so many of it are none of the offence's, and filled with seed 1
  std::uint8_t* second = nullptr;  // another allocation
  std::uint8_t* offending = nullptr;
  std::size_t offending_pages = 0;
  std::uint8_t before = 0;  // each offending byte, while the touch was right
  gm_stream stream = nullptr;
  gm_scope scope = nullptr;
  void (*forgive)(scene&) = nullptr;

  void allocate(std::size_t count) {
    bytes = count;
    memory = static_cast<std::uint8_t*>(gm_calloc(count, 1));
    EXPECT_NE(memory, nullptr) << gm_last_error();
  }
  void keep(std::size_t count) {
    kept_bytes = count;
    fill_with(memory, count, 1);
  }
  void expect_kept() const {
    for (std::size_t i = 0; i < kept_bytes; ++i) ASSERT_EQ(memory[i], written_byte(1, i)) << "byte " << i;
  }
  // The same addresses, zero again.
  void allocate_again() {
    std::uint8_t* const freed = memory;
    allocate(bytes);
    EXPECT_EQ(memory, freed) << "this test relies on it";
  }
  void open(gm_mode mode) {
    offending = memory;
    offending_pages = 1;
    const gm_access access{memory, page_size, mode};
    EXPECT_EQ(gm_stream_create(1, &stream), GM_OK) << gm_last_error();
    EXPECT_EQ(gm_access_begin(stream, &access, 1, &scope), GM_OK) << gm_last_error();
  }
  void close() {
    EXPECT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
    EXPECT_EQ(gm_stream_destroy(stream), GM_OK) << gm_last_error();
  }
  void undo() {
    if (forgive != nullptr) forgive(*this);
  }
  void free_all() {
    gm_free(memory);
    gm_free(second);
  }
};

struct offence {
  const char* name;
  int signal;
  const char* words;
  bool reads_are_fine;
  bool forgivable;  // undo() makes the touch right
  void (*commit)(scene&);
};

inline const offence offences[] = {
    {"far_behind", SIGSEGV, "not allocated", false, false,
     [](scene& s) {
       s.allocate(page_size);
       s.keep(page_size);
       s.offending = s.memory + 100 * mebibyte;
       s.offending_pages = 3;
     }},
    {"right_behind", SIGSEGV, "not allocated", false, false,
     [](scene& s) {
       s.allocate(3 * page_size);
       s.keep(3 * page_size);
       s.offending = s.memory + 3 * page_size;
       s.offending_pages = 1;
     }},
    {"freed", SIGSEGV, "not allocated", false, true,
     [](scene& s) {
       s.allocate(page_size);
       s.memory[0] = s.memory[100] = 1;
       gm_free(s.memory);
       s.offending = s.memory;
       s.offending_pages = 1;
       s.forgive = [](scene& then) { then.allocate_again(); };
     }},
    {"freed_block", SIGSEGV, "not allocated", false, true,
     [](scene& s) {
       s.allocate(block_size);
       s.memory[0] = s.memory[100] = 1;
       gm_free(s.memory);
       s.offending = s.memory;
       s.offending_pages = 10;
       s.forgive = [](scene& then) { then.allocate_again(); };
     }},
    {"freed_from_a_device", SIGSEGV, "not allocated", false, true,
     [](scene& s) {
       s.allocate(block_size);
       EXPECT_EQ(gm_memset(s.memory, 1, block_size, 1, nullptr), GM_OK) << gm_last_error();
       gm_free(s.memory);
       s.offending = s.memory + page_size;
       s.offending_pages = 10;
       s.forgive = [](scene& then) { then.allocate_again(); };
     }},
    {"scope_that_writes", SIGBUS, "scope open", false, true,
     [](scene& s) {
       s.allocate(page_size);
       s.open(GM_READ_WRITE);
       s.forgive = [](scene& then) { then.close(); };
     }},
    {"scope_that_reads", SIGBUS, "scope open", true, true,
     [](scene& s) {
       s.allocate(page_size);
       s.before = 7;
       std::fill(s.memory, s.memory + page_size, s.before);
       s.open(GM_READ);
       s.forgive = [](scene& then) { then.close(); };
     }},
    // The second allocation's first pages are the last that the host may have.
    {"no_host_memory", SIGBUS, "no host memory", false, true,
     [](scene& s) {
       constexpr std::size_t kept_pages = 12, more_pages = host_budget_pages - kept_pages;
       s.allocate(kept_pages * page_size);
       s.keep(kept_pages * page_size);
       s.second = static_cast<std::uint8_t*>(gm_calloc(kept_pages, page_size));
       for (std::size_t page = 0; page < more_pages; ++page) s.second[page * page_size] = 1;
       s.offending = s.second + more_pages * page_size;
       s.offending_pages = kept_pages - more_pages;
       s.forgive = [](scene& then) {
         then.expect_kept();
         gm_free(then.memory);
         then.memory = nullptr;
         then.kept_bytes = 0;
         EXPECT_TRUE(debug_settle(30 * second_ns));
       };
     }},
};

inline void prepare_death_test() {
  if (under_tsan) GTEST_SKIP() << "ThreadSanitizer takes the signals and says something else";
  testing::FLAGS_gtest_death_test_style = "threadsafe";
}

// In the process that dies: without a sanitizer's handlers, so that the signal itself is seen. Never ended, unless it
// hangs.
inline void start_to_die(const flavour& f) {
  static const auto* dog = new watchdog("a process that should have died", 30);
  (void)dog;
  std::signal(SIGSEGV, SIG_DFL);
  std::signal(SIGBUS, SIG_DFL);
  const auto* live = new live_runtime(f);
  if (!live->started()) std::_Exit(99);
}

}  // namespace gm::test
