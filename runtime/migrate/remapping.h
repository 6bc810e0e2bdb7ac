// SPDX-License-Identifier: Apache-2.0
// remapping.h - one transaction on entries of an access map: pages of one block are shown to a device's kernels, or
// taken from them while they run. Nothing is copied: valid sets stay as they are.
//
//   begin_showing --> words written ------------------------------------------------------> present
//   begin_taking  --> words written --> pins read --0--> gone
//                                        | ^  \--not for long enough--> words written ----> present, as before
//                                        \-/ read again while some are not 0
// From begin to end the pages are busy: CPU faults park, other moves wait or follow.
// A kernel that holds a pinned page may itself wait for something, so taking is given up after a while (patience_ns),
// and whoever wanted the page may try again.
// For a CPU fault a page that is gone goes to the host at once, before anybody else can have it (cpu_wish). Kernels'
// requests for the block are put off for hold_ns then, so that the CPU gets to its access.
// Failure: words that could not be written leave the pages as they were. Pins that cannot be read, three times in a
// row, are those of a lost device, whose kernels have ended. Records come from the map's pool: fault handlers allocate
// nothing.
#pragma once

#include "migrate/access_map.h"
#include "migrate/move.h"

namespace gm {

inline constexpr std::uint64_t patience_ns = 500'000;
inline constexpr std::uint64_t hold_ns = 200'000;

// Called once, with no lock held, on a thread of the backend: whether kernels have lost the pages.
using taking_done = void (*)(void* owner, bool gone);

// Called once, with no lock held, when pages could not be shown.
using showing_failed = void (*)(void* owner, const remapping&, status result);

enum class cpu_wish : std::uint8_t { none, read, write };

struct remapping : transition {
  access_map* map = nullptr;
  vm_object* vm = nullptr;
  move_pool* moves = nullptr;
  block_index index;
  bool takes = false;
  page_mask writable = no_pages;  // of those shown; of those taken, what they were
  cpu_wish wish = cpu_wish::none;
  taking_done done = nullptr;
  showing_failed failed = nullptr;
  void* owner = nullptr;
  std::uint64_t give_up_at_ns = 0;
  unsigned failures = 0;
  std::uint32_t* pins = nullptr;  // of the block's pages, as read from the device
  entry_words plan;
};

struct showing_request {
  page_mask pages = no_pages;     // valid on the device, not busy
  page_mask writable = no_pages;  // of those
  showing_failed failed = nullptr;
  void* owner = nullptr;
};

struct taking_request {
  page_mask pages = no_pages;  // present, not busy
  cpu_wish wish = cpu_wish::none;
  taking_done done = nullptr;
  void* owner = nullptr;
};

// Null: no record is free; those in use come back by themselves.
remapping* begin_showing_locked(vm_object&, access_map&, block_index, block&, const showing_request&);
remapping* begin_taking_locked(vm_object&, access_map&, move_pool&, block_index, block&, const taking_request&);
// Without the block's lock. When it fails the pages are as before, and done has been called.
status submit_remapping(remapping*);

}  // namespace gm
