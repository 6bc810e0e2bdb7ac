// SPDX-License-Identifier: Apache-2.0
// sequences_test.cpp - every sequence of a few steps on two pages and two devices, each checked after every step.
//
// There are 26 steps, and all sequences of five of them would be 12 million. What is run instead:
//   all_steps   every step on either page, all sequences of three, in each placement, with and without a window
//   one_page    every step on one page, all sequences of four; five of all but those that change what another one does
//   few_steps   a step of each kind of change on either page, all sequences of five
//   one_page    five of every step: half a million, under GM_TEST_SCALE >= 10 only
// A sequence and its mirror image, with the pages exchanged, are one: the first page named is P.
// Under GM_TEST_SCALE < 1 a share of the sequences is run, chosen by their number.
#include <chrono>
#include <vector>

#include "exhaustive/two_pages.h"

namespace gm::test {
namespace {

struct alphabet {
  std::vector<step> steps;

  void add(act what, bool on_device, unsigned pages) {
    const unsigned last_device = on_device ? two_pages::device_count : 0;
    for (unsigned device = on_device ? 1 : 0; device <= last_device; ++device)
      for (unsigned page = 0; page < pages; ++page) steps.push_back({what, device, page});
  }
};

alphabet every_step(unsigned pages) {
  alphabet a;
  for (const act what : {act::cpu_read, act::cpu_write, act::host_prefetch, act::discard}) a.add(what, false, pages);
  for (const act what : {act::device_read, act::device_update, act::device_overwrite, act::device_prefetch})
    a.add(what, true, pages);
  a.add(act::device_evict, true, 1);
  return a;
}

class sequences {
 public:
  sequences(two_pages& world, const alphabet& letters, std::size_t length)
      : world_(world), letters_(letters), length_(length), most_(letters.steps.size()) {}

  void run() {
    std::vector<std::size_t> digits(length_, 0);
    const auto start = std::chrono::steady_clock::now();
    do {
      if (named_in_order(digits) && chosen()) run_one(digits);
    } while (failures_ < 3 && advance(digits));
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    testing::Test::RecordProperty("sequences", static_cast<int>(count_));
    std::printf("[          ] %zu sequences, %.1f s\n", count_, taken.count());
  }

 private:
  // The first page named is P. evict names none.
  bool named_in_order(const std::vector<std::size_t>& digits) const {
    for (const std::size_t digit : digits) {
      const step& s = letters_.steps[digit];
      if (s.what != act::device_evict) return s.page == 0;
    }
    return true;
  }

  bool chosen() {
    const std::uint64_t number = number_++;
    return test_scale() >= 1 || static_cast<double>(random_source(number).below(10000)) < test_scale() * 10000;
  }

  bool advance(std::vector<std::size_t>& digits) const {
    for (std::size_t i = length_; i-- > 0;) {
      if (++digits[i] < most_) return true;
      digits[i] = 0;
    }
    return false;
  }

  // What earlier sequences checked on the way is not checked again.
  std::size_t same_beginning(const std::vector<std::size_t>& digits) const {
    std::size_t same = 0;
    while (same < last_.size() && last_[same] == digits[same]) ++same;
    return same;
  }

  void run_one(const std::vector<std::size_t>& digits) {
    const std::size_t seen = same_beginning(digits);
    if (count_ % fresh_every == 0)
      world_.allocate();
    else
      world_.forget();
    for (std::size_t i = 0; i < length_; ++i) {
      const bool good = world_.perform(letters_.steps[digits[i]]) && (i < seen || world_.check());
      if (good) continue;
      ++failures_;
      std::string text;
      for (std::size_t k = 0; k <= i; ++k) text += (k == 0 ? "" : "; ") + to_string(letters_.steps[digits[k]]);
      ADD_FAILURE() << text << ": " << world_.why();
      break;
    }
    last_ = digits;
    if (++count_ % at_rest_every == 0) EXPECT_TRUE(table_is_valid_at_rest());
  }

  // Dear: allocating, and comparing with the kernel's page tables. Odd, so that all letters meet them.
  static constexpr std::size_t fresh_every = 15;
  static constexpr std::size_t at_rest_every = 63;

  two_pages& world_;
  const alphabet letters_;
  const std::size_t length_;
  const std::size_t most_;
  std::vector<std::size_t> last_;
  std::uint64_t number_ = 0;
  std::size_t count_ = 0;
  unsigned failures_ = 0;
};

flavour small(bool window, const char* fault_mode) {
  flavour f;
  f.window = window;
  f.fault_mode = fault_mode;
  f.arena_bytes = 16 * mebibyte;
  f.sim_memory_bytes = 8 * mebibyte;
  return f;
}

struct variant {
  const char* name;
  placement where;
  bool window;
  const char* fault_mode;
};

std::ostream& operator<<(std::ostream& out, const variant& v) { return out << v.name; }

class sequences_test : public testing::TestWithParam<variant> {
 protected:
  void run(const alphabet& letters, std::size_t length) {
    const variant& v = GetParam();
    const live_runtime live(small(v.window, v.fault_mode));
    ASSERT_TRUE(live.started());
    two_pages world(v.where);
    sequences(world, letters, length).run();
  }
};

class one_page : public sequences_test {};
class few_steps : public sequences_test {};
class all_steps : public sequences_test {};

TEST_P(one_page, four_of_every_step) { run(every_step(1), 4); }

// A prefetch changes what a read does, and which of the devices evicts or overwrites matters to one page alone little.
TEST_P(one_page, five_of_the_changes) {
  alphabet a;
  for (const act what : {act::cpu_read, act::cpu_write, act::discard}) a.add(what, false, 1);
  for (const act what : {act::device_read, act::device_update}) a.add(what, true, 1);
  a.steps.push_back({act::device_overwrite, 1, 0});
  a.steps.push_back({act::device_evict, 1, 0});
  run(a, 5);
}

TEST_P(one_page, five_of_every_step) {
  if (test_scale() < 10) GTEST_SKIP() << "minutes: GM_TEST_SCALE=10 runs it";
  run(every_step(1), 5);
}

TEST_P(few_steps, five_of_a_step_of_each_kind) {
  alphabet a;
  a.add(act::cpu_write, false, 2);
  a.add(act::cpu_read, false, 2);
  a.steps.push_back({act::device_update, 1, 0});
  a.steps.push_back({act::device_update, 1, 1});
  a.steps.push_back({act::device_read, 2, 0});
  a.steps.push_back({act::device_read, 2, 1});
  a.steps.push_back({act::device_evict, 1, 0});
  run(a, 5);
}

TEST_P(all_steps, three_of_every_step) { run(every_step(2), 3); }

const variant variants[] = {
    {"same_extent", placement::same_extent, true, "inline"},
    {"same_extent_thread", placement::same_extent, true, "thread"},
    {"shared_block", placement::shared_block, true, "inline"},
    {"two_blocks", placement::two_blocks, true, "inline"},
    {"two_allocations_thread", placement::two_allocations, true, "thread"},
    {"same_extent_no_window", placement::same_extent, false, "inline"},
    {"shared_block_no_window_thread", placement::shared_block, false, "thread"},
    {"two_blocks_no_window", placement::two_blocks, false, "inline"},
};
std::string name_of(const testing::TestParamInfo<variant>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(exhaustive, one_page, testing::Values(variants[0]), name_of);
INSTANTIATE_TEST_SUITE_P(exhaustive, few_steps, testing::Values(variants[1], variants[3]), name_of);
INSTANTIATE_TEST_SUITE_P(exhaustive, all_steps, testing::ValuesIn(variants), name_of);

}  // namespace
}  // namespace gm::test
