// SPDX-License-Identifier: Apache-2.0
#include "policy/bring_plan.h"

#include <algorithm>

namespace gm {
namespace {

// Single pages to bring ahead for each block that there is room for: steps are short, mostly.
constexpr std::uint32_t single_pages_a_block = 4;
// A walk through a block is first seen in the first or the last so many pages of it.
constexpr unsigned edge_pages = pages_per_block / 4;

// The allocation's pages in the block.
page_mask pages_in(const device_fault& fault, block_index block) {
  return pages_touched({offset_of(fault.first), offset_of(fault.last)}, block);
}

ahead_question question_of(const device_fault& fault, std::uint32_t pages_a_unit) {
  ahead_question q{
      .page = fault.page, .node = fault.node, .pages_a_unit = pages_a_unit, .touch = {}, .told = fault.told};
  q.touch.unit = fault.page.value / pages_a_unit;
  q.touch.first = fault.first.value / pages_a_unit;
  q.touch.last = (fault.last.value + pages_a_unit - 1) / pages_a_unit;
  q.touch.pattern = fault.told.pattern;
  const std::uint32_t a_block = pages_a_unit == 1 ? single_pages_a_block : 1;
  q.touch.most = std::min(fault.most_blocks_ahead * a_block, most_units_ahead);
  return q;
}

void add(bring_plan& plan, block_index block, page_mask pages) {
  bring_plan::entry* last = plan.count == 0 ? nullptr : &plan.entries[plan.count - 1];
  if (last != nullptr && last->block == block)
    last->pages |= pages;
  else if (plan.count < bring_plan::most)
    plan.entries[plan.count++] = {block, pages};
}

bool is_neighbour(std::int64_t step) { return step == 1 || step == -1; }

// A walk by single pages. Steps of whole blocks may be those of a walk whose blocks were all brought.
bool strides(const ahead_answer& pages, const ahead_answer& blocks) {
  return pages.count != 0 && !is_neighbour(pages.step) && (pages.step % pages_per_block != 0 || !blocks.walking);
}

// How the faults go on, as far as it can be told.
struct way {
  ahead_answer walk;    // by blocks
  ahead_answer steps;   // by single pages
  bool alone = false;   // nothing is to be had from the neighbourhood
  bool writes = false;  // the walk has been writing
};

way way_of(device_streams& streams, const device_fault& fault) {
  const page_mask asked = fault.block.requested & fault.block.allocated;
  ahead_question blocks = question_of(fault, pages_per_block);
  blocks.touch.at_begin = (asked & pages_between(0, edge_pages)) != no_pages;
  blocks.touch.at_end = (asked & pages_between(pages_per_block - edge_pages, pages_per_block)) != no_pages;
  ahead_question pages = question_of(fault, 1);
  way w{.walk = next_ahead(streams.blocks, blocks.touch), .steps = {}};
  // Next to a page that is there it begins no walk by single pages: it is what density has left away.
  pages.touch.may_begin = ((asked << 1 | asked >> 1) & fault.block.present) == no_pages;
  if (count_pages(asked) == 1) w.steps = next_ahead(streams.pages, pages.touch);
  const bool by_pages = strides(w.steps, w.walk);
  // Neighbours are density's, and what is touched in blocks further on than the next is not known.
  if (!by_pages) w.steps.count = 0;
  if (by_pages || !is_neighbour(w.walk.step)) {
    w.walk.count = 0;
    w.walk.walking = false;
  }
  w.walk.streamed = w.walk.streamed || fault.comes_back;
  w.walk = the_policy().ahead(blocks, w.walk);
  w.steps = the_policy().ahead(pages, w.steps);
  w.alone = by_pages;
  const block_index last{block_of(fault.page).value - static_cast<std::uint64_t>(w.walk.step)};
  w.writes = w.walk.walking && streams.written.contains(last);
  return w;
}

pages_question question_of(const device_fault& fault) {
  return {.page = fault.page,
          .node = fault.node,
          .write = fault.to_write != no_pages,
          .told = fault.told,
          .requested = fault.block.requested & fault.block.allocated,
          .present = fault.block.present,
          .elsewhere = fault.block.elsewhere,
          .legal = fault.block.allocated & ~fault.block.present};
}

page_mask pages_to_bring(const device_fault& fault, const way& w) {
  const pages_question q = question_of(fault);
  const bool alone = w.alone || fault.told.pattern == access_pattern::random;
  return the_policy().pages(q, w.walk.walking ? q.legal : alone ? q.requested : dense_pages(fault.block));
}

page_mask pages_to_write(const device_fault& fault, const way& w) {
  pages_question q = question_of(fault);
  q.requested = fault.to_write & fault.block.allocated;
  q.present = fault.writable;
  q.legal = fault.block.allocated & ~fault.writable;
  const bool alone = w.alone || fault.told.pattern == access_pattern::random;
  const block_fill written{.present = fault.writable,
                           .requested = q.requested,
                           .allocated = fault.block.allocated,
                           .elsewhere = fault.block.elsewhere | fault.block.present};
  return the_policy().writes(q, w.writes ? q.legal : alone ? q.requested : dense_pages(written));
}

}  // namespace

bring_plan plan_fault(device_streams& streams, const device_fault& fault) {
  bring_plan plan;
  way w;
  page_mask bring = no_pages;
  // A write to what is there already says nothing of what will be wanted.
  if ((fault.block.requested & fault.block.allocated & ~fault.block.present) != no_pages) {
    w = way_of(streams, fault);
    bring = pages_to_bring(fault, w);
  }
  add(plan, block_of(fault.page), bring);
  for (std::uint32_t i = 1; i <= w.walk.count; ++i) {
    const block_index next{block_of(fault.page).value + static_cast<std::uint64_t>(w.walk.step) * i};
    add(plan, next, pages_in(fault, next));
  }
  for (std::uint32_t i = 1; i <= w.steps.count; ++i) {
    const page_index next{fault.page.value + static_cast<std::uint64_t>(w.steps.step) * i};
    add(plan, block_of(next), one_page(page_in_block(next)));
  }
  plan.streamed = w.walk.streamed || w.steps.streamed;
  if (fault.to_write == no_pages) return plan;
  plan.to_write = pages_to_write(fault, w);
  plan.ahead_to_write = w.writes;
  if (2 * count_pages(plan.to_write | fault.writable) > pages_per_block) streams.written.add(block_of(fault.page));
  for (unsigned i = 1; i < plan.count && w.writes; ++i) streams.written.add(plan.entries[i].block);
  return plan;
}

std::uint32_t frames_in_use(const device_streams& streams, std::uint32_t frames) {
  constexpr std::uint32_t recent_faults = 32;
  const std::uint32_t most_a_stream = 1 + std::min(most_units_ahead, frames / 8);
  std::uint32_t in_use = 0;
  for (const ahead_stream& s : streams.blocks.streams)
    if (s.used != 0 && streams.blocks.now - s.used < recent_faults) in_use += std::min(s.ahead + 1, most_a_stream);
  return std::min(in_use, frames * 5 / 8);
}

}  // namespace gm
