// SPDX-License-Identifier: Apache-2.0
#include "replay/replayer.h"

#include <algorithm>
#include <cstdio>
#include <set>

namespace gm::test {
namespace {

struct resident_block {
  page_mask present = no_pages;
  page_mask touched = no_pages;
  page_mask writable = no_pages;  // written back, written or not
};

class node {
 public:
  node(const trace& t, const replay_policy& policy, std::size_t frames) : trace_(t), policy_(policy), evicted_(frames) {
    if (policy.order == eviction_order::judged)
      cache_ = std::make_unique<judged_frames>(frames);
    else
      cache_ = std::make_unique<plain_frames>(frames, policy.order == eviction_order::least_recent);
  }

  void touch(const trace_touch& t) {
    const block_index block = block_of(page_index{t.page});
    const page_mask page = one_page(page_in_block(page_index{t.page}));
    const resident_block& before = blocks_[block.value];
    if (((t.write ? before.writable : before.present) & page) == 0) serve(t, block, page);
    blocks_[block.value].touched |= page;
    cache_->use(block.value);
  }

  replay_counts finish() {
    for (const auto& [index, b] : blocks_) {
      counts_.pages_wasted += count_pages(b.present & ~b.touched);
      counts_.pages_written += count_pages(b.writable);  // when the CPU wants them
    }
    return counts_;
  }

 private:
  void serve(const trace_touch& t, block_index block, page_mask page) {
    ++((blocks_[block.value].present & page) == 0 ? counts_.faults : counts_.upgrades);
    bring_plan plan;
    plan.entries[0] = {block, page};
    plan.count = 1;
    plan.to_write = t.write ? page : no_pages;
    if (policy_.brings_ahead) plan = plan_of(t, block, page);
    const unsigned most = 1 + most_ahead();
    const unsigned count = std::min(plan.count, most);
    if (auto* judged = dynamic_cast<judged_frames*>(cache_.get()))
      judged->set_in_use(frames_in_use(streams_, static_cast<std::uint32_t>(cache_->capacity())));
    for (unsigned i = count; i-- > 0;) {
      const page_mask write = i == 0 ? plan.to_write : plan.ahead_to_write ? plan.entries[i].pages : no_pages;
      bring(plan.entries[i], write, plan.streamed);
    }
  }

  // What is ahead must leave the frames of what is in use where they are.
  unsigned most_ahead() const { return static_cast<unsigned>(std::max<std::size_t>(cache_->capacity() / 8, 1)); }

  bring_plan plan_of(const trace_touch& t, block_index block, page_mask page) {
    const trace_allocation& a = trace_.allocation_of(t.page);
    const byte_range bytes{offset_of(page_index{a.first}), offset_of(page_index{a.last})};
    return plan_fault(streams_, {.node = t.node,
                                 .page = {t.page},
                                 .to_write = t.write ? page : no_pages,
                                 .writable = blocks_[block.value].writable,
                                 .first = {a.first},
                                 .last = {a.last},
                                 .block = {.present = blocks_[block.value].present,
                                           .requested = page,
                                           .allocated = pages_touched(bytes, block),
                                           .elsewhere = all_pages},
                                 .comes_back = !cache_->holds(block.value) && evicted_.comes_back(block.value),
                                 .most_blocks_ahead = most_ahead()});
  }

  void bring(const bring_plan::entry& wanted, page_mask write, bool streamed) {
    if (!cache_->holds(wanted.block.value)) {
      if (const auto victim = cache_->bring(wanted.block.value, streamed)) evict(*victim);
    }
    resident_block& b = blocks_[wanted.block.value];
    counts_.pages_moved += count_pages(wanted.pages & ~b.present);
    b.present |= wanted.pages;
    b.writable |= write & b.present;
  }

  void evict(std::uint64_t victim) {
    const resident_block& b = blocks_[victim];
    ++counts_.evictions;
    counts_.pages_wasted += count_pages(b.present & ~b.touched);
    counts_.pages_written += count_pages(b.writable);
    blocks_.erase(victim);
    evicted_.add(victim);
  }

  const trace& trace_;
  replay_policy policy_;
  std::unique_ptr<frame_cache> cache_;
  evicted_blocks evicted_;
  device_streams streams_;
  std::unordered_map<std::uint64_t, resident_block> blocks_;
  replay_counts counts_;
};

}  // namespace

std::string text_of(const replay_counts& c) {
  char text[200];
  std::snprintf(text, sizeof text,
                "%llu faults, %llu upgrades, %llu pages moved, %llu wasted, %llu evictions, %llu pages written",
                static_cast<unsigned long long>(c.faults), static_cast<unsigned long long>(c.upgrades),
                static_cast<unsigned long long>(c.pages_moved), static_cast<unsigned long long>(c.pages_wasted),
                static_cast<unsigned long long>(c.evictions), static_cast<unsigned long long>(c.pages_written));
  return text;
}

replay_counts replay(const trace& t, const replay_policy& policy, std::size_t frames) {
  node n(t, policy, frames);
  for (const trace_touch& touch : t.touches) n.touch(touch);
  return n.finish();
}

std::uint64_t fewest_frames_given(const trace& t, std::size_t frames) {
  std::vector<std::uint64_t> blocks;
  for (const trace_touch& touch : t.touches) blocks.push_back(block_of(page_index{touch.page}).value);
  return fewest_misses(blocks, frames);
}

std::uint64_t distinct_pages(const trace& t) {
  std::set<std::uint64_t> pages;
  for (const trace_touch& touch : t.touches) pages.insert(touch.page);
  return pages.size();
}

}  // namespace gm::test
