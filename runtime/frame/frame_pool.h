// SPDX-License-Identifier: Apache-2.0
// frame_pool.h - the 2 MiB frames that gmem may use of one device, and the order in which they were used.
//
//   free --take--> used --give_back--> free
// F1 every frame is free or used by exactly one block.   F2 used + free = capacity.
// A used frame stands in one of three LRU lists (victim_class); eviction looks at the cold list first, then at the
// normal one, then at the kept one, each from its least recently used end.
// A frame is a slot of the budget: which bytes of the device it is, the backend knows (backend.h, pieces). The frames
// of one piece were made together and are evicted together; with a window a piece is one frame.
// take() never evicts: it says no, and the caller, who holds no block lock, makes room and tries again.
// Locking: rank frames; held for a few instructions. Nothing here calls a device.
#pragma once

#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "base/units.h"

namespace gm {

using frame_index = std::uint32_t;
inline constexpr frame_index no_frame = ~frame_index{0};

enum class victim_class : std::uint8_t { cold, normal, kept, count_ };

struct piece {
  block_index first;
  std::uint32_t blocks = 0;
};

class frame_pool {
 public:
  // Nothing is taken yet. no_memory leaves the pool empty.
  status create(std::uint32_t capacity);

  std::uint32_t capacity() const { return capacity_; }
  std::uint32_t free_frames() const;
  std::uint64_t metadata_bytes() const { return slots_.capacity() * sizeof(slot); }

  // One frame for each block of the piece, all or none; frames[i] is that of block first + i.
  bool take(const piece& made, victim_class, frame_index* frames);
  void give_back(frame_index);

  // Most recently used, in that class.
  void touch(frame_index, victim_class);
  // As touch for many, with one lock.
  void touch(const frame_index* frames, const victim_class* classes, std::size_t count);
  // Next to be evicted: its block holds nothing here any more, or was advised cold.
  void make_cold(frame_index);

  // Up to most pieces in the order of eviction, leaving out the first skip. Snapshot: check under the block's lock.
  std::size_t victims(piece* pieces, std::size_t most, std::size_t skip) const;
  block_index owner(frame_index) const;
  piece piece_of(frame_index) const;
  // F1 and F2 and the links; false when they do not hold.
  bool validate() const;

 private:
  static constexpr std::uint32_t no_block = ~std::uint32_t{0};
  struct slot {
    std::uint32_t owner = no_block;
    frame_index previous = no_frame;  // towards less recently used
    frame_index next = no_frame;      // towards more recently used; of a free frame, the next free one
    std::uint32_t piece_first = 0;
    std::uint32_t piece_blocks : 30 = 0;
    std::uint32_t list : 2 = 0;
  };
  struct list {
    frame_index oldest = no_frame;
    frame_index newest = no_frame;
  };

  void append_locked(frame_index, victim_class);
  void remove_locked(frame_index);

  mutable mutex<lock_rank::frames> lock_;
  std::vector<slot> slots_;
  list lists_[static_cast<unsigned>(victim_class::count_)];
  frame_index first_free_ = no_frame;
  std::uint32_t free_ = 0;
  std::uint32_t capacity_ = 0;
};

}  // namespace gm
