// SPDX-License-Identifier: Apache-2.0
#include "policy/density.h"

#include <initializer_list>

namespace gm {
namespace {

// The pages of the largest dense subtrees around those asked for.
page_mask dense_subtrees(page_mask wanted, page_mask counted, page_mask allocated) {
  page_mask filled = wanted;
  for (unsigned size = 2; size <= pages_per_block; size *= 2)
    for (unsigned first = 0; first < pages_per_block; first += size) {
      const page_mask subtree = pages_between(first, first + size) & allocated;
      if ((subtree & wanted) != 0 && 2 * count_pages(subtree & counted) > count_pages(subtree)) filled |= subtree;
    }
  return filled;
}

}  // namespace

page_mask dense_pages(const block_fill& b) {
  const page_mask wanted = b.requested & b.allocated & ~b.present;
  const page_mask counted = (b.present | b.requested) & b.allocated;
  page_mask pages = wanted;
  for (const page_mask kind : {b.elsewhere, ~b.elsewhere})
    if ((wanted & kind) != 0) pages |= dense_subtrees(wanted & kind, counted, b.allocated) & kind;
  return pages & ~b.present;
}

}  // namespace gm
