// SPDX-License-Identifier: Apache-2.0
// extent_map.h - which addresses of the arena are allocated.
//
//   free --allocate--> live --retire--> retired --(last reference gone)--> reclaimable --release--> free
// An extent is one allocation, of whole pages. From 2 MiB up it has whole blocks of its own, aligned to a block.
// Smaller ones share blocks with each other and never straddle two, so that every allocation is contiguous also on a
// device without a window. Free runs of blocks coalesce; a shared block with no extent left becomes a free block again.
// References: an operation that uses an extent's memory holds one, so that a free meanwhile (retire) does not let the
// addresses be handed out again under it. Whoever drops the last one reclaims the memory and then calls release().
// The last block of the arena is never handed out.
// Metadata lies outside the arena. Locking: rank extents.
#pragma once

#include <cstdint>
#include <map>
#include <set>

#include "base/mutex.h"
#include "base/page_mask.h"
#include "base/status.h"
#include "base/units.h"
#include "vm/advice_map.h"

namespace gm {

struct extent {
  page_index first;
  std::uint64_t pages = 0;
  std::uint32_t references = 0;  // of operations in flight
  bool retired = false;
  extent* next = nullptr;  // in an extent_queue

  byte_range bytes() const { return {offset_of(first), offset_of(first) + pages * page_bytes}; }
  bool whole_blocks() const { return pages >= pages_per_block; }
  block_index first_block() const { return block_of(first); }
  std::uint64_t blocks() const { return whole_blocks() ? pages / pages_per_block : 1; }
};

// Extents that wait for the same thing, first in first out. No locks.
struct extent_queue {
  extent* first = nullptr;
  extent* last = nullptr;

  void push_back(extent& e) {
    e.next = nullptr;
    (last != nullptr ? last->next : first) = &e;
    last = &e;
  }
  void push_front(extent& e) {
    e.next = first;
    first = &e;
    if (last == nullptr) last = &e;
  }
  extent* pop_front() {
    extent* e = first;
    if (e == nullptr) return nullptr;
    first = e->next;
    if (first == nullptr) last = nullptr;
    return e;
  }
};

class extent_map {
 public:
  // base: the arena's address, a multiple of block_bytes: alignment is of addresses, not of offsets.
  void create(std::uint64_t arena_bytes, std::uintptr_t base);

  // bytes and alignment (a power of two) as asked for; null when there is no room. A new extent has one reference, so
  // that nothing reclaims it before it is complete.
  extent* allocate(std::uint64_t bytes, std::uint64_t alignment);
  // Makes the extent longer in place, up to new_pages in whole blocks, if the blocks behind it are free.
  bool grow(extent&, std::uint64_t new_pages);

  // The live extent that starts at the offset becomes retired, with one reference more. Null if there is none.
  extent* retire(std::uint64_t offset);
  // A reference to the live extent that holds the whole range; null when there is none.
  extent* reference(byte_range);
  // A reference to the live extent that starts there.
  extent* reference_start(std::uint64_t offset);
  // True: that was the last one of a retired extent, and the caller reclaims it.
  bool drop_reference(extent&);
  // The memory of a retired extent without references is free again. The extent is gone.
  void release(extent&);

  std::uint64_t live() const;
  std::uint64_t live_bytes() const;
  std::uint64_t metadata_bytes() const;

 private:
  // Free runs: start -> length, and the same by (length, start) for best fit.
  using runs = std::map<std::uint64_t, std::uint64_t>;
  void insert_run_locked(std::uint64_t first, std::uint64_t count);
  void erase_run_locked(runs::iterator);
  bool take_blocks_locked(std::uint64_t count, std::uint64_t alignment_blocks, std::uint64_t& first);
  bool take_pages_locked(unsigned count, unsigned alignment_pages, page_index& first);

  mutable mutex<lock_rank::extents> lock_;
  runs free_runs_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_length_;
  std::map<std::uint64_t, page_mask> shared_;  // shared blocks: the pages taken
  std::set<std::uint64_t> shared_with_room_;
  std::map<page_index, extent> extents_;
  std::uint64_t base_blocks_ = 0;
  std::uint64_t live_ = 0;
  std::uint64_t live_pages_ = 0;
};

}  // namespace gm
