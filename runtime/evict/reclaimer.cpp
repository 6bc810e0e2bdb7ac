// SPDX-License-Identifier: Apache-2.0
#include "evict/reclaimer.h"

#include <algorithm>
#include <new>
#include <span>

#include "evict/room.h"
#include "migrate/access_map.h"
#include "policy/policy_table.h"
#include "policy/victim_order.h"

namespace gm {
namespace {

constexpr std::uint32_t most_free = 64;
constexpr std::size_t most_ranges = 64;  // that are looked at one by one

}  // namespace

// For some requests beside those that are being served; of few frames, few.
std::uint32_t reclaimer::enough() const {
  return std::clamp<std::uint32_t>(device_.pool.capacity() / 16, 1, most_free);
}

// Of the blocks on demand that have no frame yet, so many at most. Where there are more blocks than frames, that is
// clear; else they are looked at.
std::uint32_t reclaimer::no_more_than_to_come(std::uint32_t frames) const {
  byte_range ranges[most_ranges];
  const std::size_t count = vm_.leases.ranges_on_demand(device_.node, ranges);
  if (count > most_ranges) return frames;
  const std::span<byte_range> all(ranges, count);
  const std::uint64_t clearly = std::uint64_t{device_.pool.capacity()} + frames;
  std::uint64_t blocks = 0;
  each_block_of(all, [&](block_index) { return ++blocks < clearly; });
  if (blocks >= clearly) return frames;
  std::uint32_t to_come = 0;
  each_block_of(all, [&](block_index index) {
    block& b = vm_.table.at(index);
    block_guard guard(b.lock);
    const node_pages& here = b.node(device_.node);
    if (!here.has_frame() && here.address != piece_being_made) ++to_come;
    return to_come < frames;
  });
  return to_come;
}

status reclaimer::start() try {
  const std::size_t most = device_.pool.capacity();
  owners_.reserve(most);
  marked_.reserve(most);
  runs_.reserve(most);
  resets_.reserve(most);
  return thread_.start(
      "gmem-reclaim", any_cpu, [](void* self) { static_cast<reclaimer*>(self)->work(); }, this);
} catch (const std::bad_alloc&) {
  return fail(status::no_memory, "no memory to keep frames free");
}

void reclaimer::stop() {
  if (!thread_.running()) return;
  stopping_.store(true);
  wanted_.happened();
  thread_.join();
}

// Whether kernels have touched anything of the blocks on demand. False: it could not be read, and nothing is known.
bool reclaimer::read_marks() {
  access_map* map = vm_.map(device_.node);
  owners_.resize(owners_.capacity());
  owners_.resize(device_.pool.owners_on_demand(owners_.data(), owners_.size()));
  std::sort(owners_.begin(), owners_.end());
  runs_.clear();
  for (std::size_t i = 0; i < owners_.size(); ++i) {
    const std::uint64_t at = map->accessed_address(owners_[i]);
    if (!runs_.empty() && runs_.back().source + runs_.back().bytes == at) {
      runs_.back().bytes += pages_per_block;
    } else {
      const auto to = reinterpret_cast<std::uint64_t>(map->marks() + i * pages_per_block);
      runs_.push_back({to, at, pages_per_block, device::direction::device_to_host});
    }
  }
  const device::backend_table& api = *device_.api;
  std::atomic<int> result{-1};
  const auto done = [](void* argument, gm_status how) {
    auto* to = static_cast<std::atomic<int>*>(argument);
    to->store(how);
    to->notify_all();
  };
  if (owners_.empty() ||
      api.transfer(device_.to_map, nullptr, 0, runs_.data(), runs_.size(), done, &result, nullptr) != GM_OK)
    return false;
  result.wait(-1);
  if (result.load() != GM_OK) return false;
  marked_.clear();
  for (std::size_t i = 0; i < owners_.size(); ++i) {
    const std::uint8_t* marks = map->marks() + i * pages_per_block;
    marked_.push_back(std::any_of(marks, marks + pages_per_block, [](std::uint8_t m) { return m != 0; }) ? 1 : 0);
  }
  return true;
}

bool reclaimer::is_marked(block_index index) const {
  const auto found = std::lower_bound(owners_.begin(), owners_.end(), index);
  // What has come since is in use.
  return found == owners_.end() || *found != index || marked_[static_cast<std::size_t>(found - owners_.begin())] != 0;
}

// So many frames are to stand where eviction takes from first.
void reclaimer::choose_victims(std::uint32_t frames) {
  const std::uint32_t to_go = device_.pool.to_go_next();
  frames -= std::min(frames, to_go - std::min(to_go, left_));
  while (frames != 0 && device_.pool.choose_idle()) --frames;
  if (frames == 0 || !read_marks()) return;
  const access_map* map = vm_.map(device_.node);
  const std::size_t enough_looks = std::size_t{4} * device_.pool.capacity();
  resets_.clear();
  for (std::size_t look = 0; frames != 0; ++look) {
    frame_counts counts = device_.pool.on_demand();
    if (counts.probation + counts.protected_ + counts.streamed == 0) break;
    // What has just come is in use, by whatever it was asked for.
    counts.in_use = std::min(std::max(streams_use_.load(std::memory_order_relaxed), enough()), counts.streamed);
    const frame_place place = next_to_look_at(counts, turn_++);
    frame_at_place there{};
    if (!device_.pool.at(place, there)) break;
    const frame_look seen{.advised = victim_class_of(vm_.advices.at(first_page(there.owner)), device_.node),
                          .list = place.list,
                          .newest = place.newest,
                          .accessed = is_marked(there.owner),
                          .looks = there.looks};
    const victim_question question{.page = first_page(there.owner), .node = device_.node, .frame = seen};
    const verdict what = the_policy().victim(question, judge_frame(seen));
    if (what == verdict::evict || look >= enough_looks) {
      device_.pool.choose(there);
      --frames;
      continue;
    }
    if (seen.accessed && resets_.size() < resets_.capacity()) {
      resets_.push_back({map->accessed_address(there.owner), pages_per_block, 0});
      if (const auto found = std::lower_bound(owners_.begin(), owners_.end(), there.owner);
          found != owners_.end() && *found == there.owner)
        marked_[static_cast<std::size_t>(found - owners_.begin())] = 0;
    }
    if (what == verdict::promote)
      device_.pool.move_to(there, frame_list::protected_, there.looks + 1);
    else if (what == verdict::demote)
      device_.pool.move_to(there, frame_list::probation, 1);
    else if (place.list == frame_list::streamed)
      device_.pool.looked_at(there);
    else
      device_.pool.move_to(there, place.list, there.looks + 1);
  }
  // Lost marks do no harm, and nor does a reset that is refused.
  if (!resets_.empty())
    (void)device_.api->transfer(device_.to_map, resets_.data(), resets_.size(), nullptr, 0, nullptr, nullptr, nullptr);
}

void reclaimer::work() {
  while (!stopping_.load()) {
    const std::uint32_t seen = wanted_.now();
    const std::uint32_t at_least = no_frame_.exchange(false) ? 1 : 0;
    const std::uint32_t free = device_.pool.free_frames();
    const std::uint32_t wanted = std::max(high(), at_least);
    if (no_memory_.exchange(false))
      evict(1);
    else if (free < std::max(low(), at_least) && free < wanted)
      evict(wanted - free);
    seen_.store(seen, std::memory_order_release);
    wanted_.wait_past(seen);
  }
}

void reclaimer::evict(std::uint32_t frames) {
  lock_guard admitted(device_.admission);
  choose_victims(frames);
  std::uint32_t in_vain = 0;
  (void)evict_some(vm_, moves_, device_, frames, &in_vain);
  left_ = std::min(device_.pool.to_go_next(), in_vain);
}

}  // namespace gm
