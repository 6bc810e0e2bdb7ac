// SPDX-License-Identifier: Apache-2.0
// density.h - the pages of a block that are brought along with those that a node has asked for: where it has most of a
// neighbourhood, it is given the rest.
//
// The block is a binary tree over its 32 pages: pairs, fours, eights, halves, all. A subtree is dense when the node
// has, or has asked for, more than half of the allocated pages in it. Each page that was asked for brings the pages of
// the largest dense subtree that it is in. What was brought counts as present at the next fault, so a walk through a
// block takes few faults, and a scatter over it takes one page each. The rule is the one that studies of NVIDIA's
// driver describe (Ganguly et al., ISCA 2019; Allen and Ge, SC 2021); nothing else is taken from there. A pure
// function: no state, no clocks, no locks.
#pragma once

#include "base/page_mask.h"

namespace gm {

// Masks of one block, for the node that faults.
struct block_fill {
  page_mask present;    // set: the node has a current copy, or one is on its way.  clear: not
  page_mask requested;  // set: asked for by this fault, or another one served with it
  page_mask allocated;  // set: a page of the same allocation, which may be brought.  clear: nobody's, or another's
  page_mask elsewhere;  // set: another node has a current copy.  clear, and not present: NOMAP
};

// The pages to bring: at least those requested, and none but allocated ones that are not present. NOMAP pages are
// brought only along with NOMAP pages, and others only along with others, so that reading what is there never makes
// memory that nobody asked for.
page_mask dense_pages(const block_fill&);

}  // namespace gm
