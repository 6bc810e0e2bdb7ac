// SPDX-License-Identifier: Apache-2.0
// nested_scopes_test.cpp - threads that open scopes over the same memory in any order, one inside the other: each begin
// succeeds or is refused, and none waits in a circle. Every scope that was had adds one to its memory on the device,
// so that the sums tell whether any two overlapped.
#include <algorithm>
#include <array>
#include <thread>
#include <vector>

#include "model/watchdog.h"
#include "stress/device_work.h"
#include "stress/stress_flavours.h"

namespace gm::test {
namespace {

constexpr unsigned threads_count = 4;
constexpr std::size_t shared_count = 6;
constexpr std::size_t depth_max = 3;
constexpr std::size_t words_in_block = block_size / sizeof(std::uint64_t);

// What the threads quarrel about: words that hold the number of scopes that there were over them.
struct shared_words {
  std::uint64_t* words = nullptr;
  std::size_t count = 0;
  std::atomic<std::uint64_t> scopes{0};  // begun
};

struct quarrel {
  std::array<shared_words, shared_count> shared;
  std::atomic<std::uint64_t> nested{0};
  std::atomic<std::uint64_t> refused{0};
};

class nester {
 public:
  // own: only this thread's CPU writes it.
  nester(quarrel& all, std::uint64_t* own, std::uint64_t seed, watchdog& dog)
      : all_(all), own_(own), random_(seed), dog_(dog) {}
  ~nester() { EXPECT_EQ(*own_, own_writes_); }

  void run(std::uint64_t rounds) {
    const device_stream first(1), second(2);
    streams_ = {&first, &second};
    for (std::uint64_t i = 0; i < rounds && !testing::Test::HasFailure(); ++i) {
      nest();
      // A CPU is one more to be in the way, reading what the scopes write, and writing beside it.
      if (random_.chance(20)) look(random_.below(shared_count));
      if (random_.chance(20)) *own_ = ++own_writes_;
      dog_.progress();
    }
    for (const device_stream* s : streams_) EXPECT_EQ(s->wait(), GM_OK) << gm_last_error();
  }

 private:
  void look(std::size_t which) {
    const shared_words& s = all_.shared[which];
    const std::uint64_t seen = *static_cast<const volatile std::uint64_t*>(s.words);
    EXPECT_LE(seen, s.scopes.load());
    EXPECT_GE(seen, seen_before_[which]) << "the contents are older than they were";
    seen_before_[which] = seen;
  }

  bool is_open(std::size_t which) const { return std::find(open_.begin(), open_.end(), which) != open_.end(); }

  // One or two at once, on one of the devices.
  void nest() {
    std::vector<std::size_t> wanted = {random_.below(shared_count)};
    if (const std::size_t other = random_.below(shared_count); other != wanted[0]) wanted.push_back(other);
    std::vector<gm_access> accesses;
    for (const std::size_t w : wanted)
      accesses.push_back({all_.shared[w].words, all_.shared[w].count * sizeof(std::uint64_t), GM_READ_WRITE});
    const device_stream& stream = *streams_[random_.below(streams_.size())];
    gm_scope scope = nullptr;
    const gm_status got = gm_access_begin(stream.get(), accesses.data(), accesses.size(), &scope);
    if (std::any_of(wanted.begin(), wanted.end(), [this](std::size_t w) { return is_open(w); }))
      ASSERT_EQ(got, GM_ERROR_BUSY) << "over memory of an open scope of this thread";
    // Inside another of ours: somebody may wait for that one, and its frames may be the ones that are wanted. With
    // nothing open nobody can be waiting for us.
    if (!open_.empty() && (got == GM_ERROR_BUSY || got == GM_ERROR_NO_MEMORY)) {
      all_.refused.fetch_add(1);
      return;
    }
    ASSERT_EQ(got, GM_OK) << gm_last_error();
    if (!open_.empty()) all_.nested.fetch_add(1);
    for (const std::size_t w : wanted) {
      all_.shared[w].scopes.fetch_add(1);
      EXPECT_TRUE(queue_add(stream, all_.shared[w].words, all_.shared[w].count, 1)) << gm_last_error();
    }
    open_.insert(open_.end(), wanted.begin(), wanted.end());
    if (++depth_ < depth_max && random_.chance(60)) nest();
    --depth_;
    open_.resize(open_.size() - wanted.size());
    ASSERT_EQ(gm_access_end(scope), GM_OK) << gm_last_error();
  }

  quarrel& all_;
  std::uint64_t* const own_;
  random_source random_;
  watchdog& dog_;
  std::array<const device_stream*, 2> streams_{};
  std::size_t depth_ = 0;
  std::vector<std::size_t> open_;  // what this thread's open scopes are over
  std::array<std::uint64_t, shared_count> seen_before_{};
  std::uint64_t own_writes_ = 0;
};

class nested_scopes : public testing::TestWithParam<flavour> {};

TEST_P(nested_scopes, succeed_or_are_refused) {
  SCOPED_TRACE("GM_TEST_SEED=" + std::to_string(stress_seed()));
  const live_runtime live(GetParam());
  ASSERT_TRUE(live.started());
  watchdog dog("nested_scopes");
  quarrel all;
  // A word that shares its page with others and with the threads' own; a word with a block of its own; a whole block.
  auto* page = static_cast<std::uint64_t*>(gm_calloc(1, page_size));
  std::vector<std::uint64_t*> blocks;
  for (std::size_t i = 0; i < shared_count; ++i) {
    if (i % 3 != 0) blocks.push_back(static_cast<std::uint64_t*>(gm_calloc(1, block_size)));
    all.shared[i].words = i % 3 == 0 ? page + i : blocks.back();
    all.shared[i].count = i % 3 == 2 ? words_in_block : 1;
  }
  {
    std::vector<std::unique_ptr<nester>> nesters;
    for (unsigned i = 1; i <= threads_count; ++i)
      nesters.push_back(std::make_unique<nester>(all, page + shared_count + i, stress_seed() + i, dog));
    std::vector<std::thread> threads;
    for (const auto& n : nesters) threads.emplace_back([&n] { n->run(20 + scaled(500)); });
    for (std::thread& t : threads) t.join();
  }
  EXPECT_GT(all.nested.load(), 0u);
  EXPECT_GT(all.refused.load(), 0u) << "nothing was ever in the way: the test tests nothing";
  for (const shared_words& s : all.shared) {
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < s.count; ++i) wrong += s.words[i] != s.scopes.load() ? 1 : 0;
    EXPECT_EQ(wrong, 0u) << "of " << s.count << " words";
  }
  for (std::uint64_t* b : blocks) gm_free(b);
  gm_free(page);
  expect_nothing_is_kept();
}

INSTANTIATE_TEST_SUITE_P(stress, nested_scopes, testing::ValuesIn(every_flavour(0, {tight})), flavour_name);

}  // namespace
}  // namespace gm::test
