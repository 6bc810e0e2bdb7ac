// SPDX-License-Identifier: Apache-2.0
#include "policy/bring_plan.h"

#include <algorithm>

namespace gm {
namespace {

// Single pages to bring ahead for each block that there is room for: steps are short, mostly.
constexpr std::uint32_t single_pages_a_block = 4;

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

// Whether the pages asked for are where a walk with that step comes into a block.
bool comes_in(page_mask asked, std::int64_t step) {
  constexpr unsigned edge = pages_per_block / 4;
  return (asked & (step > 0 ? pages_between(0, edge) : pages_between(pages_per_block - edge, pages_per_block))) != 0;
}

// A walk by single pages. Steps of whole blocks may be those of a walk whose blocks were all brought.
bool strides(const ahead_answer& pages, const ahead_answer& blocks) {
  return pages.count != 0 && !is_neighbour(pages.step) && (pages.step % pages_per_block != 0 || blocks.count == 0);
}

}  // namespace

bring_plan plan_fault(device_streams& streams, const device_fault& fault) {
  const page_mask asked = fault.block.requested & fault.block.allocated;
  const page_mask absent = fault.block.allocated & ~fault.block.present;
  const ahead_question blocks = question_of(fault, pages_per_block);
  const ahead_question pages = question_of(fault, 1);
  ahead_answer walk = next_ahead(streams.blocks, blocks.touch);
  ahead_answer steps;
  if (count_pages(asked) == 1) steps = next_ahead(streams.pages, pages.touch);
  const bool random = fault.told.pattern == access_pattern::random;
  const bool advised = fault.told.pattern == access_pattern::sequential;
  const bool by_pages = strides(steps, walk);
  // Neighbours are density's, and what is touched in blocks further on than the next is not known.
  if (!by_pages) steps.count = 0;
  if (by_pages || !is_neighbour(walk.step) || (!advised && !comes_in(asked, walk.step))) walk.count = 0;
  walk = the_policy().ahead(blocks, walk);
  steps = the_policy().ahead(pages, steps);

  bring_plan plan;
  plan.streamed = walk.streamed || steps.streamed;
  const pages_question around{.page = fault.page,
                              .node = fault.node,
                              .write = fault.write,
                              .told = fault.told,
                              .requested = asked,
                              .present = fault.block.present,
                              .elsewhere = fault.block.elsewhere,
                              .legal = absent};
  const page_mask built_in = walk.count != 0 ? absent : (random || by_pages ? asked : dense_pages(fault.block));
  add(plan, block_of(fault.page), the_policy().pages(around, built_in));
  for (std::uint32_t i = 1; i <= walk.count; ++i) {
    const block_index next{block_of(fault.page).value + static_cast<std::uint64_t>(walk.step) * i};
    add(plan, next, pages_in(fault, next));
  }
  for (std::uint32_t i = 1; i <= steps.count; ++i) {
    const page_index next{fault.page.value + static_cast<std::uint64_t>(steps.step) * i};
    add(plan, block_of(next), one_page(page_in_block(next)));
  }
  return plan;
}

std::uint32_t frames_in_use(const device_streams& streams, std::uint32_t most_a_stream) {
  constexpr std::uint32_t recent_faults = 32;
  std::uint32_t frames = 0;
  for (const ahead_stream& s : streams.blocks.streams)
    if (s.used != 0 && streams.blocks.now - s.used < recent_faults) frames += std::min(s.ahead + 1, most_a_stream);
  return frames;
}

}  // namespace gm
