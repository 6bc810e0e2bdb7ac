// SPDX-License-Identifier: Apache-2.0
// table.cpp - the logical page table: how long a look takes, how much memory it takes (table/query, table/metadata).
#include <atomic>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "bare_pager.h"
#include "managed.h"
#include "measure.h"

namespace gm::bench {
namespace {

// gm_query of random pages of 64 GiB. One page of every block has been written first, so that the table has all of the
// 64 GiB's blocks in memory: pages that nobody has ever touched would be cheaper to look up than any program's.
class query : public measurement {
 public:
  query() {
    memory_.advise(GM_ADVISE_RANDOM);
    for (std::size_t offset = 0; offset < bytes; offset += block_bytes) memory_.data()[offset] = std::byte{1};
    for (bare_block& block : bare_) block.mask = 1;
    std::mt19937_64 random(11);
    for (std::uint32_t& page : pages_) page = static_cast<std::uint32_t>(random() % (bytes / page_bytes));
  }

  sample run(bool) override {
    std::uint64_t on_host = 0;
    bool failed = false;
    const double ns = time_ns([&] {
      for (const std::uint32_t page : pages_) {
        gm_mapping mapping;
        failed |= gm_query(memory_.data() + page * page_bytes, &mapping) != GM_OK;
        on_host += mapping.valid_nodes & 1u;
      }
    });
    expect(!failed, std::string("gm_query: ") + gm_last_error());
    std::uint64_t expected = 0;
    for (const std::uint32_t page : pages_) expected += page % (block_bytes / page_bytes) == 0;
    expect(on_host == expected, "gm_query names the wrong pages");
    sample result{ns / static_cast<double>(pages_.size())};
    result.counters = {{"bare_ns", bare_ns()}};
    return result;
  }

 private:
  static constexpr std::size_t bytes = 64 * GiB;

  // What this machine needs now for a lock, a look and an unlock at random places in a table of that many blocks.
  struct alignas(64) bare_block {
    std::atomic<std::uint32_t> lock{0};
    std::uint32_t mask = 0;
  };
  double bare_ns() {
    std::uint64_t sum = 0;
    const double ns = time_ns([&] {
      for (const std::uint32_t page : pages_) {
        bare_block& block = bare_[page / (block_bytes / page_bytes)];
        block.lock.exchange(1, std::memory_order_acquire);
        sum += block.mask;
        block.lock.store(0, std::memory_order_release);
      }
    });
    expect(sum == pages_.size(), "the bare table was misread");
    return ns / static_cast<double>(pages_.size());
  }

  session runtime_;
  managed_memory memory_{bytes};
  std::vector<std::uint32_t> pages_ = std::vector<std::uint32_t>(std::size_t{1} << 20);
  std::vector<bare_block> bare_ = std::vector<bare_block>(bytes / block_bytes);
};

// Anonymous memory of this process in bytes; managed pages and device frames are shared memory and not in it.
std::uint64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::stoull(line.substr(8)) * KiB;
  }
  return 0;
}

// What gmem keeps for 1 GiB that the CPU has written and the device is using, in a runtime that is new each time.
// Counters: what it keeps before anything is allocated, and how far the process itself has grown by the kernel's count.
class metadata : public measurement {
 public:
  sample run(bool) override {
    session runtime;
    device_stream stream;
    const std::uint64_t empty = stats_now().metadata_bytes;
    const std::uint64_t anonymous_before = anonymous_bytes();
    sample result;
    managed_memory memory(GiB);
    result.ours_ns = time_ns([&] { write_words(memory.data(), GiB, 1); });
    open_scope scope(stream, memory.as(GM_READ_WRITE));
    stream.synchronize();
    const std::uint64_t in_use = stats_now().metadata_bytes;
    const std::uint64_t anonymous_after = anonymous_bytes();
    expect(in_use > empty, "gm_stats does not count metadata");
    scope.end();
    stream.synchronize();
    result.counters = {
        {"bytes_per_gib", static_cast<double>(in_use - empty)},
        {"bytes_when_empty", static_cast<double>(empty)},
        {"process_growth_bytes", static_cast<double>(anonymous_after) - static_cast<double>(anonymous_before)}};
    return result;
  }
};

}  // namespace

void add_table(case_list& cases) {
  cases.push_back({"table/query", 41, [] { return std::make_unique<query>(); }});
  cases.push_back({"table/metadata", 3, [] { return std::make_unique<metadata>(); }});
}

}  // namespace gm::bench
