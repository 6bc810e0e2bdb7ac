// SPDX-License-Identifier: Apache-2.0
// transition.h - pages of a block on their way to a node: what the page table knows of a move in flight.
//
// A block lists its transitions, the newest first; its busy mask is the union of their pages. A page may be in several:
// each is carried out, and recorded, behind the older ones that share a page with it (move.h). So what the table will
// say of a page once all of them have ended is known before the first of them runs, and the next can be planned on it.
// A transition that fails changes nothing, and those planned on what it would have brought fail too.
// Locking: the block's lock.
#pragma once

#include <algorithm>

#include "base/page_mask.h"
#include "device/backend.h"
#include "vm/block.h"

namespace gm {

struct transition {
  unsigned destination = host_node;
  page_mask pages = no_pages;
  page_mask exclusive = no_pages;              // of those: afterwards the destination alone is valid, and may write
  const device::backend_table* api = nullptr;  // whose stream it is on
  device::fence fence;                         // completes behind the recording; null until it has been submitted
  std::uint64_t serial = 0;                    // tells one use of the record from the next
  transition* older = nullptr;
};

inline void list_transition_locked(block& b, transition& t) {
  t.older = b.transitions;
  b.transitions = &t;
  b.busy.fetch_or(t.pages, std::memory_order_relaxed);
}

// Takes the transition off the list. Returns its pages that are busy no longer; the caller tells who waits for busy.
inline page_mask unlist_transition_locked(block& b, const transition& gone) {
  page_mask left = no_pages;
  for (transition** at = &b.transitions; *at != nullptr;) {
    if (*at == &gone) {
      *at = gone.older;
      continue;
    }
    left |= (*at)->pages;
    at = &(*at)->older;
  }
  b.busy.store(left, std::memory_order_release);
  return gone.pages & ~left;
}

// Where the block's pages will be valid once all its transitions have ended.
struct expected_pages {
  page_mask valid[max_nodes];
  page_mask staying;  // pages that stay valid meanwhile wherever they are now
};

inline expected_pages expect_locked(const block& b, unsigned nodes) {
  expected_pages result{};
  // Newest first: behind a transition that left one node alone, what was before does not matter.
  page_mask open = all_pages;
  for (const transition* t = b.transitions; t != nullptr; t = t->older) {
    result.valid[t->destination] |= t->pages & open;
    open &= ~t->exclusive;
  }
  for (unsigned n = 0; n < nodes; ++n) result.valid[n] |= b.node(n).valid & open;
  result.staying = open;
  return result;
}

// Calls each(t) for the newest transition of each of the pages: whoever comes behind those comes behind all.
template <typename F>
void for_each_newest_locked(const block& b, page_mask pages, F&& each) {
  for (const transition* t = b.transitions; t != nullptr && pages != no_pages; t = t->older) {
    if ((t->pages & pages) == 0) continue;
    each(*t);
    pages &= ~t->pages;
  }
}

}  // namespace gm
