// SPDX-License-Identifier: Apache-2.0
// frame_pool.h - the 2 MiB frames that gmem may use of one device, and the order in which they were used.
//
//   free --take--> used --give_back--> free
// F1 every frame is free or used by exactly one block.   F2 used + free = capacity.
// A used frame stands in one of six lists, each from the least to the most recently used: three by advice
// (victim_class), three for frames whose pages kernels fetch on demand (frame_list). Eviction takes from the cold list
// first, then from those on demand, then from the normal one and the kept one. What is to go next of the others is
// chosen by policy, and then stands in the cold list, as does a frame that holds nothing; used again, it goes back. A
// frame is a slot of the budget: which bytes of the device it is, the backend knows (backend.h, pieces). The frames of
// one piece were made together and are evicted together; with a window a piece is one frame. take() never evicts: it
// says no, and the caller, who holds no block lock, makes room and tries again. Locking: rank frames; held for a few
// instructions. Nothing here calls a device.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "base/units.h"

namespace gm {

using frame_index = std::uint32_t;
inline constexpr frame_index no_frame = ~frame_index{0};

enum class victim_class : std::uint8_t { cold, normal, kept, count_ };

// Of frames that are used on demand; policy/victim_order.h says how they move.
enum class frame_list : std::uint8_t { probation, protected_, streamed };

// Frames of one device that can be evicted, by list.
struct frame_counts {
  std::uint32_t probation = 0;
  std::uint32_t protected_ = 0;
  std::uint32_t streamed = 0;
  std::uint32_t in_use = 0;  // of the newest streamed ones: what streams were last given and brought ahead
};

struct frame_place {
  frame_list list;
  bool newest;         // counted from the newest end
  std::uint32_t skip;  // frames nearer to that end
  bool operator==(const frame_place&) const = default;
};

struct frame_at_place {
  frame_index frame;
  block_index owner;
  std::uint32_t looks;  // that it has had in its list
};

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

  // One frame for each block of the piece, all or none; frames[i] is that of block first + i. Those that are kept are
  // for who keeps them.
  bool take(const piece& made, victim_class, frame_index* frames, bool kept_too = true);
  // While a scope gathers so many frames, kernels' faults do not take what comes free for it. One at a time.
  void keep(std::uint32_t frames) { kept_.store(frames, std::memory_order_relaxed); }
  std::uint32_t free_for_faults() const;
  void give_back(frame_index);

  // Most recently used, in that class.
  void touch(frame_index, victim_class);
  // As touch for many, with one lock.
  void touch(const frame_index* frames, const victim_class* classes, std::size_t count);
  // Next to be evicted, until it is used again: its block holds nothing here any more, or was advised cold.
  void make_cold(frame_index);

  // ---- Frames used on demand, each a piece of its own
  // Its block's pages were fetched. streamed: by a walk that uses them once.
  void used_on_demand(frame_index, bool streamed);
  frame_counts on_demand() const;  // in_use is the caller's to know
  // Blocks of all frames there, as many as fit. Returns how many.
  std::size_t owners_on_demand(block_index* owners, std::size_t most) const;
  bool at(const frame_place&, frame_at_place&) const;
  // What the look at a frame led to, unless it is another block's by now: it stays, with one look more; goes to the
  // newest end of a list, with so many looks; or is to go next.
  void looked_at(const frame_at_place&);
  void move_to(const frame_at_place&, frame_list, std::uint32_t looks);
  void choose(const frame_at_place&);
  // How many are to go next: chosen, or made cold, and not used since.
  std::uint32_t to_go_next() const;
  // The normal frame that has not been used for as long as it takes to fill the whole pool anew is to go next. False:
  // there is none.
  bool choose_idle();

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
    std::uint32_t piece_blocks = 0;
    std::uint32_t used = 0;  // when: the pool's clock, which counts uses
    std::uint8_t list = 0;
    std::uint8_t looks = 0;
    bool chosen = false;  // stands in the cold list until it is used again, whatever its advice
  };
  struct list {
    frame_index oldest = no_frame;
    frame_index newest = no_frame;
  };

  enum list_number : std::uint8_t { cold_list, streamed_list, probation_list, protected_list, normal_list, kept_list };
  static constexpr unsigned lists_count = 6;
  static list_number number_of(victim_class);
  static list_number number_of(frame_list);
  void append_locked(frame_index, list_number);
  void append_chosen_locked(frame_index);
  bool is_on_demand_locked(const frame_at_place&) const;
  void remove_locked(frame_index);

  mutable mutex<lock_rank::frames> lock_;
  std::vector<slot> slots_;
  list lists_[lists_count];
  std::uint32_t sizes_[lists_count] = {};
  std::uint32_t chosen_ = 0;
  std::uint32_t clock_ = 0;
  frame_index first_free_ = no_frame;
  std::atomic<std::uint32_t> kept_{0};
  std::uint32_t free_ = 0;
  std::uint32_t capacity_ = 0;
};

}  // namespace gm
