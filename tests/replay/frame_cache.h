// SPDX-License-Identifier: Apache-2.0
// frame_cache.h - the frames of one device as eviction sees them, over numbers of blocks: plain orders to compare with,
// the runtime's, and the best that could have been done. No device, no memory.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

#include "policy/victim_order.h"

namespace gm::test {

class frame_cache {
 public:
  explicit frame_cache(std::size_t capacity) : capacity_(capacity) {}
  virtual ~frame_cache() = default;
  std::size_t capacity() const { return capacity_; }

  virtual bool holds(std::uint64_t block) const = 0;
  // It is there, and is used.
  virtual void use(std::uint64_t block) = 0;
  // It is not there, and comes; not used yet, except by a use() that follows. Returns whose frame it got, if one's.
  virtual std::optional<std::uint64_t> bring(std::uint64_t block, bool streamed) = 0;

 private:
  std::size_t capacity_;
};

// First in, first out; or, with recency, least recently used first.
class plain_frames : public frame_cache {
 public:
  plain_frames(std::size_t capacity, bool recency) : frame_cache(capacity), recency_(recency) {}
  bool holds(std::uint64_t block) const override { return where_.contains(block); }
  void use(std::uint64_t block) override;
  std::optional<std::uint64_t> bring(std::uint64_t block, bool streamed) override;

 private:
  bool recency_;
  std::list<std::uint64_t> order_;  // the oldest first
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> where_;
};

// The order of policy/victim_order.h, through the program's policy where there is one.
class judged_frames : public frame_cache {
 public:
  using frame_cache::frame_cache;
  // How many of the newest streamed frames are not to be looked at.
  void set_in_use(std::uint32_t frames) { in_use_ = frames; }
  bool holds(std::uint64_t block) const override { return frames_.contains(block); }
  void use(std::uint64_t block) override { frames_.at(block).look.accessed = true; }
  std::optional<std::uint64_t> bring(std::uint64_t block, bool streamed) override;
  std::uint64_t looks() const { return turn_; }

 private:
  struct frame {
    frame_look look;
    std::list<std::uint64_t>::iterator at;
  };
  std::list<std::uint64_t>& list(frame_list which) { return lists_[static_cast<unsigned>(which)]; }
  std::uint64_t make_room();
  void move_to(std::uint64_t block, frame_list);

  std::list<std::uint64_t> lists_[3];  // the oldest first
  std::unordered_map<std::uint64_t, frame> frames_;
  std::uint32_t in_use_ = 1;
  std::uint32_t turn_ = 0;
};

// Which blocks were evicted when, for the runtime's question whether they come back.
class evicted_blocks {
 public:
  explicit evicted_blocks(std::size_t frames) : frames_(static_cast<std::uint32_t>(frames)) {}
  void add(std::uint64_t block) { when_[block] = ++evictions_; }
  // The block gets a frame.
  bool comes_back(std::uint64_t block) {
    const auto found = when_.find(block);
    return returning_.comes_back(found == when_.end() ? returning_data::never : evictions_ - found->second, frames_);
  }

 private:
  std::uint32_t frames_;
  std::uint32_t evictions_ = 0;
  std::unordered_map<std::uint64_t, std::uint32_t> when_;
  returning_data returning_;
};

// Misses of the best order there is, which knows the future (Belady's): who is wanted again last goes first.
std::uint64_t fewest_misses(const std::vector<std::uint64_t>& blocks, std::size_t capacity);

}  // namespace gm::test
