// SPDX-License-Identifier: Apache-2.0
#include "replay/frame_cache.h"

#include <iterator>
#include <set>
#include <utility>

#include "policy/policy_table.h"

namespace gm::test {

void plain_frames::use(std::uint64_t block) {
  if (recency_) order_.splice(order_.end(), order_, where_.at(block));
}

std::optional<std::uint64_t> plain_frames::bring(std::uint64_t block, bool) {
  std::optional<std::uint64_t> victim;
  if (order_.size() == capacity()) {
    victim = order_.front();
    where_.erase(order_.front());
    order_.pop_front();
  }
  where_[block] = order_.insert(order_.end(), block);
  return victim;
}

void judged_frames::move_to(std::uint64_t block, frame_list to) {
  frame& f = frames_.at(block);
  list(to).splice(list(to).end(), list(f.look.list), f.at);
  f.look.list = to;
}

std::uint64_t judged_frames::make_room() {
  const std::size_t enough_looks = 4 * capacity();
  for (std::size_t look = 0;; ++look) {
    const auto size = [&](frame_list which) { return static_cast<std::uint32_t>(list(which).size()); };
    const frame_place place = next_to_look_at(
        {size(frame_list::probation), size(frame_list::protected_), size(frame_list::streamed), in_use_}, turn_++);
    std::list<std::uint64_t>& from = list(place.list);
    const auto at = place.newest ? std::prev(from.end(), place.skip + 1) : std::next(from.begin(), place.skip);
    const std::uint64_t block = *at;
    frame& f = frames_.at(block);
    f.look.newest = place.newest;
    verdict what = judge_frame(f.look);
    what = the_policy().victim({.page = first_page({block}), .node = 1, .frame = f.look}, what);
    if (what == verdict::evict || look >= enough_looks) {
      from.erase(at);
      frames_.erase(block);
      return block;
    }
    f.look.accessed = false;
    ++f.look.looks;
    if (what == verdict::demote) f.look.looks = 1;
    if (what == verdict::look_again && f.look.list == frame_list::streamed) continue;
    move_to(block, what == verdict::promote  ? frame_list::protected_
                   : what == verdict::demote ? frame_list::probation
                                             : f.look.list);
  }
}

std::optional<std::uint64_t> judged_frames::bring(std::uint64_t block, bool streamed) {
  std::optional<std::uint64_t> victim;
  if (frames_.size() == capacity()) victim = make_room();
  const frame_list to = list_of_new_frame(streamed);
  frames_[block] = {{.list = to}, list(to).insert(list(to).end(), block)};
  return victim;
}

std::uint64_t fewest_misses(const std::vector<std::uint64_t>& blocks, std::size_t capacity) {
  // next[i]: when the block of i is wanted again; never: past the end, each at a time of its own.
  std::vector<std::uint64_t> next(blocks.size());
  std::unordered_map<std::uint64_t, std::uint64_t> seen;
  for (std::size_t i = blocks.size(); i-- > 0;) {
    const auto [entry, is_new] = seen.try_emplace(blocks[i], i);
    next[i] = is_new ? blocks.size() + i : std::exchange(entry->second, i);
  }
  std::set<std::pair<std::uint64_t, std::uint64_t>> held;  // when wanted, block
  std::uint64_t misses = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (held.erase({i, blocks[i]}) == 0) {
      ++misses;
      if (held.size() == capacity) held.erase(std::prev(held.end()));
    }
    held.insert({next[i], blocks[i]});
  }
  return misses;
}

}  // namespace gm::test
