// SPDX-License-Identifier: Apache-2.0
// oversubscribed_test.cpp - many threads fault, launch and free at once, over four times what the devices hold. Every
// word is looked at in every round, by the CPU or by a kernel.
#include <thread>
#include <vector>

#include "model/watchdog.h"
#include "stress/stress_flavours.h"

namespace gm::test {
namespace {

constexpr unsigned threads_each = 6;
constexpr std::size_t words_in_page = page_size / sizeof(std::uint64_t);
constexpr std::size_t budget_bytes = 12 * mebibyte;
constexpr std::size_t bytes_each = 4 * budget_bytes / threads_each;

std::uint64_t word_of(std::uint64_t owner, std::uint64_t round, std::uint64_t index) {
  return random_source(owner << 48 ^ round << 32 ^ index).next();
}

// Adds one to each word, on the device, and says how many were not what the round before left.
struct next_round {
  std::uint64_t* words = nullptr;
  std::uint64_t owner = 0;
  std::uint64_t round = 0;  // what is there
  std::atomic<std::uint64_t> wrong{0};
  bool finished = false;

  static void body(void* self, std::size_t first, std::size_t last) {
    auto* k = static_cast<next_round*>(self);
    std::uint64_t wrong = 0;
    for (std::size_t i = first; i < last; ++i) {
      wrong += k->words[i] != word_of(k->owner, k->round, i) ? 1 : 0;
      k->words[i] = word_of(k->owner, k->round + 1, i);
    }
    k->wrong.fetch_add(wrong);
  }
  static void finish(void* self) { static_cast<next_round*>(self)->finished = true; }
};

class worker {
 public:
  worker(unsigned number, watchdog& dog) : number_(number), dog_(dog), random_(number + 1) {}

  std::uint64_t wrong() const { return wrong_; }
  const std::string& message() const { return message_; }

  void run(std::uint64_t rounds) {
    gm_stream streams[2] = {};
    for (int d = 0; d < 2; ++d) must(gm_stream_create(d + 1, &streams[d]), "gm_stream_create");
    std::vector<piece> pieces;
    for (std::size_t total = 0; total < bytes_each;) {
      pieces.push_back(make());
      total += pieces.back().words * sizeof(std::uint64_t);
    }
    for (std::uint64_t round = 0; round < rounds && message_.empty(); ++round)
      for (piece& p : pieces) {
        step(p, streams[random_.below(2)]);
        dog_.progress();
      }
    for (const piece& p : pieces) {
      check(p);
      gm_free(p.base);
    }
    for (gm_stream s : streams) must(gm_stream_destroy(s), "gm_stream_destroy");
  }

 private:
  struct piece {
    std::uint64_t* base;
    std::size_t words;
    std::uint64_t owner;
    std::uint64_t round;
  };

  void must(gm_status got, const char* call) {
    if (got != GM_OK && message_.empty()) message_ = std::string(call) + ": " + gm_last_error();
  }

  piece make() {
    piece p{nullptr, random_.between(1, 2 * block_size / page_size) * words_in_page - random_.below(words_in_page),
            std::uint64_t{number_} << 10 | next_owner_++, 0};
    p.base = static_cast<std::uint64_t*>(gm_malloc(p.words * sizeof(std::uint64_t)));
    if (p.base == nullptr)
      must(GM_ERROR_NO_MEMORY, "gm_malloc");
    else
      for (std::size_t i = 0; i < p.words; ++i) p.base[i] = word_of(p.owner, 0, i);
    return p;
  }

  void check(const piece& p) {
    if (p.base == nullptr) return;
    for (std::size_t i = 0; i < p.words; ++i) wrong_ += p.base[i] != word_of(p.owner, p.round, i) ? 1 : 0;
  }

  void launch(piece& p, gm_stream stream) {
    const gm_access access{p.base, p.words * sizeof(std::uint64_t), GM_READ_WRITE};
    gm_scope scope = nullptr;
    must(gm_access_begin(stream, &access, 1, &scope), "gm_access_begin");
    if (scope == nullptr) return;
    next_round k;
    k.words = static_cast<std::uint64_t*>(gm_device_pointer(p.base, gm_stream_node(stream)));
    k.owner = p.owner;
    k.round = p.round;
    must(gm_stream_launch(stream, p.words, next_round::body, next_round::finish, &k), "gm_stream_launch");
    must(gm_access_end(scope), "gm_access_end");
    must(gm_stream_synchronize(stream), "gm_stream_synchronize");
    if (!k.finished) must(GM_ERROR_DEVICE, "a kernel is not finished");
    wrong_ += k.wrong.load();
    ++p.round;
  }

  void step(piece& p, gm_stream stream) {
    if (p.base == nullptr) return;
    switch (random_.below(8)) {
      case 0:  // everything anew
        check(p);
        gm_free(p.base);
        p = make();
        break;
      case 1:
        must(gm_prefetch(p.base, p.words * sizeof(std::uint64_t), static_cast<int>(random_.below(3)), nullptr),
             "gm_prefetch");
        break;
      case 2:
        check(p);
        break;
      case 3: {  // the CPU's own round
        check(p);
        ++p.round;
        for (std::size_t i = 0; i < p.words; ++i) p.base[i] = word_of(p.owner, p.round, i);
        break;
      }
      default:
        launch(p, stream);
    }
  }

  const unsigned number_;
  watchdog& dog_;
  random_source random_;
  std::uint64_t next_owner_ = 0;
  std::uint64_t wrong_ = 0;
  std::string message_;
};

class oversubscribed : public testing::TestWithParam<flavour> {};

TEST_P(oversubscribed, every_word_is_right) {
  const live_runtime live(GetParam());
  ASSERT_TRUE(live.started());
  watchdog dog("stress: oversubscribed");
  std::vector<std::unique_ptr<worker>> workers;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < threads_each; ++i) workers.push_back(std::make_unique<worker>(i, dog));
  for (const auto& w : workers) threads.emplace_back([&w] { w->run(scaled(12)); });
  for (std::thread& t : threads) t.join();
  for (const auto& w : workers) {
    EXPECT_EQ(w->message(), "");
    EXPECT_EQ(w->wrong(), 0u);
  }
  EXPECT_TRUE(table_is_valid_at_rest());
  gm_stats stats{};
  stats.size = sizeof stats;
  ASSERT_EQ(gm_stats_get(&stats), GM_OK);
  EXPECT_EQ(stats.allocations, 0u);
  EXPECT_EQ(stats.node[0].frames_used, 0u) << "host pages are kept after the last free";
  for (int d = 1; d <= 2; ++d) {
    EXPECT_EQ(stats.node[d].frames_used, 0u) << "frames are kept after the last free";
    EXPECT_GT(stats.node[d].evictions, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(stress, oversubscribed,
                         testing::Values(stress_flavour("window", true, "thread", budget_bytes),
                                         stress_flavour("window_inline", true, "inline", budget_bytes),
                                         stress_flavour("no_window", false, "thread", budget_bytes)),
                         flavour_name);

}  // namespace
}  // namespace gm::test
