// SPDX-License-Identifier: Apache-2.0
// bring_plan.h - what a device's fault brings: of its own block, and ahead of it.
//
//   single pages by a constant step -> the page, and pages ahead                (read_ahead.h, unit: a page)
//   else blocks in order            -> the block whole, and whole blocks ahead  (read_ahead.h, unit: a block)
//   else                            -> what is dense around the page            (density.h)
// A write also takes pages to write that nobody has written yet, so that a kernel which writes all does not fault for
// each: those that are dense among the block's that the node may write, and, where the last block of a walk was given
// to be written for the most part, what the walk brings. They are copied home later, written or not. Each of the
// answers is put to the program's policy (policy_table.h), and what is brought ahead stays in the fault's allocation.
// Whoever carries it out leaves away what is there already, or has no room: the first entry is what was asked for, the
// others are in the order in which they will be wanted. A pure function of the streams and the fault, but for the
// program's policy. Streams are the caller's: one set a device, all zero at first, guarded by the caller's lock.
#pragma once

#include <algorithm>

#include "policy/density.h"
#include "policy/policy_table.h"
#include "policy/read_ahead.h"

namespace gm {

// Blocks of which most was given to be written, the last few.
class written_blocks {
 public:
  void add(block_index block) {
    if (!contains(block)) plus_one_[next_++ % count] = block.value + 1;
  }
  bool contains(block_index block) const {
    return std::find(plus_one_, plus_one_ + count, block.value + 1) != plus_one_ + count && block.value + 1 != 0;
  }

 private:
  static constexpr unsigned count = 64;
  std::uint64_t plus_one_[count] = {};
  unsigned next_ = 0;
};

struct device_streams {
  ahead_table blocks;
  ahead_table pages;
  written_blocks written;
};

struct device_fault {
  unsigned node = 1;
  page_index page;                // one of those asked for, the lowest
  page_mask to_write = no_pages;  // of those asked for
  page_mask writable = no_pages;  // the node may write these already
  page_index first;               // pages [first, last) are the allocation's
  page_index last;
  block_fill block;  // masks of the fault's block; allocated is the allocation's part of it
  advice told = {};
  bool comes_back = false;                             // the block has no frame, and is one of those of returning_data
  std::uint32_t most_blocks_ahead = most_units_ahead;  // there is room for
};

struct bring_plan {
  static constexpr unsigned most = 1 + most_units_ahead_of_policy;
  struct entry {
    block_index block;
    page_mask pages = no_pages;
  };
  entry entries[most];
  unsigned count = 0;
  page_mask to_write = no_pages;  // pages of the fault's block that are brought, or are there, to be written
  bool ahead_to_write = false;    // all of the other entries are
  bool streamed = false;          // the frames are of data that looks as if used once
};

bring_plan plan_fault(device_streams&, const device_fault&);

// How many frames streams are in now or have had brought ahead, of so many: for frame_counts::in_use. Where streams are
// many and frames few, not more than a share of those: what is left has to be able to stay.
std::uint32_t frames_in_use(const device_streams&, std::uint32_t frames);

}  // namespace gm
