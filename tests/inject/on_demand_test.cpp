// SPDX-License-Identifier: Apache-2.0
// on_demand_test.cpp - for each thing that can fail, and n = 1, 2, ...: kernels of two devices fetch pages of one
// memory beside the CPU, and the n-th time fails.
//
// Each page has a word of each kernel and one of the CPU, and each is counted up once a round. What must hold whatever
// fails: all kernels end; a stream that reports nothing has counted all its words up; a word is as it was or one more,
// never anything else; and the table is valid at rest.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/inject.h"
#include "gmem/gmem.hpp"
#include "gmem/parallel.hpp"
#include "gmem/view.hpp"
#include "inject/scenario.h"
#include "unit/must_end.h"

namespace gm::test {
namespace {

using word = std::uint32_t;
constexpr std::size_t blocks = 3;
constexpr std::size_t page_words = page_size / sizeof(word);
constexpr std::size_t pages = blocks * block_size / page_size;
constexpr std::size_t written_pages = 2 * block_size / page_size;
constexpr unsigned rounds = 2;
constexpr std::uint64_t most_times = 400;

flavour crowded(const char* mode) {
  flavour f;
  f.name = mode;
  f.fault_mode = mode;
  f.arena_bytes = 32 * mebibyte;
  f.sim_memory_bytes = 2 * block_size;
  f.device_budget_bytes = 2 * block_size;
  return f;
}

class crowd_of_failures {
 public:
  // The words as they are meant to be.
  std::string run() {
    const managed memory(gm_malloc(pages * page_size));
    auto* const x = static_cast<word*>(memory.get());
    if (x == nullptr) {
      failed("malloc", gm_last_error());
      return "";
    }
    for (std::size_t p = 0; p < pages; ++p)
      for (std::size_t who = 0; who < 3 && p < written_pages; ++who) x[p * page_words + who] = first_value(p, who);
    std::vector<std::array<word, 3>> now(pages);
    for (std::size_t p = 0; p < pages; ++p)
      for (std::size_t who = 0; who < 3; ++who) now[p][who] = first_value(p, who);
    for (unsigned round = 0; round < rounds; ++round) {
      std::array<bool, 3> all{true, true, true};
      std::vector<bool> cpu_did(pages, false);
      kernels(x, now, all, cpu_did);
      if (std::string wrong = look(x, now, all, cpu_did); !wrong.empty())
        return "round " + std::to_string(round) + ": " + wrong;
    }
    return "";
  }
  bool has_failed() const { return failed_; }
  const std::string& messages() const { return messages_; }

 private:
  using managed = std::unique_ptr<void, decltype([](void* p) { gm_free(p); })>;

  // The last block nobody has written.
  static word first_value(std::size_t p, std::size_t who) {
    return p >= written_pages ? 0 : static_cast<word>(1000 * p + 100 * who + 7);
  }

  void failed(const char* what, const char* why) {
    failed_ = true;
    messages_ += std::string("\n  failed: ") + what + ": " + why;
  }

  void kernels(word* x, const std::vector<std::array<word, 3>>& now, std::array<bool, 3>& all,
               std::vector<bool>& cpu_did) {
    gm_stream streams[3] = {};
    for (int node = 1; node <= 2; ++node) {
      const auto who = static_cast<std::size_t>(node);
      if (gm_stream_create(node, &streams[node]) != GM_OK) {
        failed("stream", gm_last_error());
        all[who] = false;
        continue;
      }
      try {
        gm::scope use(streams[node], gm::on_demand(x, pages * page_words));
        const gm::view<word> v(use, x, pages * page_words);
        gm::parallel_for(streams[node], 2, [=](std::size_t lane) {
          for (std::size_t p = lane; p < pages; p += 2) {
            const std::size_t at = p * page_words + who;
            if (p % 3 == 0)
              v[at] += 1;
            else if (p % 3 == 1)
              v[at] = v[at] + 1;
            else
              for (const auto& span : v.pages(at, at + 1)) span[0] += 1;
          }
        });
        use.end();
      } catch (const gm::error& failure) {
        failed("scope", failure.what());
        all[who] = false;
      }
    }
    for (std::size_t p = 0; p < pages; ++p)
      cpu_did[p] = survives([&] { *const_cast<volatile word*>(&x[p * page_words]) = now[p][0] + 1; });
    for (const bool did : cpu_did) all[0] = all[0] && did;
    for (int node = 1; node <= 2; ++node) {
      if (streams[node] == nullptr) continue;
      if (gm_stream_synchronize(streams[node]) != GM_OK) {
        failed("kernel", gm_last_error());
        all[static_cast<std::size_t>(node)] = false;
        if (std::string(gm_last_error()).empty()) messages_ += " (no words)";
      }
      EXPECT_EQ(gm_stream_destroy(streams[node]), GM_OK) << gm_last_error();
    }
    if (!all[0]) failed("cpu", "a touch");
  }

  static std::string look(word* x, std::vector<std::array<word, 3>>& now, const std::array<bool, 3>& all,
                          const std::vector<bool>& cpu_did) {
    char why[512] = "";
    if (!debug_settle(20 * second_ns)) return "moves, scopes or frees never end\n" + table_dump();
    if (!debug_validate_at_rest(why, sizeof why)) return why + std::string("\n") + table_dump();
    for (std::size_t p = 0; p < pages; ++p)
      for (std::size_t who = 0; who < 3; ++who) {
        word found = 0;
        bool read = false;
        for (int tries = 0; tries < 3 && !read; ++tries)
          read = survives([&] { found = *const_cast<const volatile word*>(&x[p * page_words + who]); });
        const word was = now[p][who];
        const bool counted = who == 0 ? cpu_did[p] : all[who];
        if (!read || (found != was + 1 && (counted || found != was)))
          return "page " + std::to_string(p) + ", word " + std::to_string(who) + ": " + std::to_string(found) +
                 (counted ? " instead of " : " instead of the same or one more than ") +
                 std::to_string(counted ? was + 1 : was);
        now[p][who] = found;
      }
    return "";
  }

  bool failed_ = false;
  std::string messages_;
};

// Not each n, so that it does not take minutes.
std::uint64_t stride(const flavour& f) {
  const double base = std::string(f.name) == "thread" ? 4 : 11;
  return static_cast<std::uint64_t>(base / std::min(test_scale(), base) + 0.5);
}

// The n-th time of arm(n), until so many runs in a row have not met it.
template <class Arm, class Met>
void fail_each(const flavour& f, const Arm& arm, const Met& met) {
  unsigned quiet = 0;
  std::uint64_t hit = 0;
  for (std::uint64_t n = 1; n <= most_times && quiet < 3; n += stride(f)) {
    const must_end end("a run with a failure");
    install_landing();
    const live_runtime live(f);
    ASSERT_TRUE(live.started());
    crowd_of_failures run;
    arm(n);
    const std::string wrong = run.run();
    const bool was_met = met(n, run.has_failed());
    arm(0);
    ASSERT_EQ(wrong, "") << "time " << n << run.messages();
    quiet = was_met ? 0 : quiet + 1;
    hit += was_met ? 1 : 0;
  }
  testing::Test::RecordProperty("times", static_cast<int>(hit));
  std::printf("[          ] %llu times\n", static_cast<unsigned long long>(hit));
}

using named_operation = std::pair<const char*, device::operation>;
using named_point = std::pair<const char*, inject::point>;

class on_demand_operations : public testing::TestWithParam<std::tuple<const char*, named_operation>> {};
class on_demand_points : public testing::TestWithParam<std::tuple<const char*, named_point>> {};

TEST_P(on_demand_operations, n_th_time_fails) {
  const auto& [mode, which] = GetParam();
  const device::operation operation = which.second;
  fail_each(
      crowded(mode), [=](std::uint64_t n) { debug_fail_device(operation, n); },
      [](std::uint64_t, bool failed) { return failed; });
}

TEST_P(on_demand_points, n_th_time_fails) {
  const auto& [mode, which] = GetParam();
  const inject::point point = which.second;
  fail_each(
      crowded(mode), [=](std::uint64_t n) { inject::fail_nth(point, n); },
      [=](std::uint64_t n, bool) { return inject::passes(point) >= n; });
}

template <class What>
std::string name_of_case(const testing::TestParamInfo<std::tuple<const char*, What>>& info) {
  return std::string(std::get<1>(info.param).first) + "_" + std::get<0>(info.param);
}

INSTANTIATE_TEST_SUITE_P(
    inject, on_demand_operations,
    testing::Combine(testing::Values("thread", "inline"),
                     testing::Values(named_operation{"piece_create", device::operation::piece_create},
                                     named_operation{"copy_submit", device::operation::copy_submit},
                                     named_operation{"copy_run", device::operation::copy_run},
                                     named_operation{"fill_submit", device::operation::fill_submit},
                                     named_operation{"fill_run", device::operation::fill_run},
                                     named_operation{"word_submit", device::operation::word_submit},
                                     named_operation{"wait_submit", device::operation::wait_submit},
                                     named_operation{"fence_record", device::operation::fence_record},
                                     named_operation{"launch_submit", device::operation::launch_submit},
                                     named_operation{"launch_run", device::operation::launch_run})),
    name_of_case<named_operation>);

INSTANTIATE_TEST_SUITE_P(inject, on_demand_points,
                         testing::Combine(testing::Values("thread", "inline"),
                                          testing::Values(named_point{"table_memory", inject::point::table_memory},
                                                          named_point{"host_memory", inject::point::host_memory},
                                                          named_point{"record_memory", inject::point::record_memory},
                                                          named_point{"map_pages", inject::point::map_pages},
                                                          named_point{"zero_pages", inject::point::zero_pages},
                                                          named_point{"protect_pages", inject::point::protect_pages},
                                                          named_point{"drop_pages", inject::point::drop_pages},
                                                          named_point{"punch_pages", inject::point::punch_pages})),
                         name_of_case<named_point>);

}  // namespace
}  // namespace gm::test
