// SPDX-License-Identifier: Apache-2.0
#include "vm/extent_map.h"

#include <bit>
#include <new>

#include "base/check.h"
#include "base/inject.h"

namespace gm {
namespace {

// First fit of count neighbouring free pages at an aligned place; pages_per_block when there is none.
unsigned find_free(page_mask taken, unsigned count, unsigned alignment) {
  for (unsigned at = 0; at + count <= pages_per_block; at += alignment)
    if ((taken & pages_between(at, at + count)) == 0) return at;
  return pages_per_block;
}

}  // namespace

void extent_map::create(std::uint64_t arena_bytes, std::uintptr_t base) {
  lock_guard guard(lock_);
  base_blocks_ = base / block_bytes;
  insert_run_locked(0, arena_bytes / block_bytes - 1);
}

// Free runs never touch each other: the neighbours of a freed run become one with it.
void extent_map::insert_run_locked(std::uint64_t first, std::uint64_t count) {
  auto after = free_runs_.lower_bound(first);
  if (after != free_runs_.end() && after->first == first + count) {
    count += after->second;
    auto gone = after++;
    erase_run_locked(gone);
  }
  if (after != free_runs_.begin()) {
    auto before = std::prev(after);
    if (before->first + before->second == first) {
      first = before->first;
      count += before->second;
      erase_run_locked(before);
    }
  }
  by_length_.emplace(count, first);
  free_runs_.emplace(first, count);
}

void extent_map::erase_run_locked(runs::iterator run) {
  by_length_.erase({run->second, run->first});
  free_runs_.erase(run);
}

// Best fit, lowest address among equals: large runs stay whole.
bool extent_map::take_blocks_locked(std::uint64_t count, std::uint64_t alignment, std::uint64_t& first) {
  for (auto it = by_length_.lower_bound({count, 0}); it != by_length_.end(); ++it) {
    const auto [length, start] = *it;
    const std::uint64_t aligned = round_up(base_blocks_ + start, alignment) - base_blocks_;
    if (aligned + count > start + length) continue;
    erase_run_locked(free_runs_.find(start));
    if (aligned > start) insert_run_locked(start, aligned - start);
    if (start + length > aligned + count) insert_run_locked(aligned + count, start + length - aligned - count);
    first = aligned;
    return true;
  }
  return false;
}

bool extent_map::take_pages_locked(unsigned count, unsigned alignment, page_index& first) {
  for (const std::uint64_t index : shared_with_room_) {
    page_mask& taken = shared_.at(index);
    const unsigned at = find_free(taken, count, alignment);
    if (at == pages_per_block) continue;
    taken |= pages_between(at, at + count);
    if (taken == all_pages) shared_with_room_.erase(index);
    first = {index * pages_per_block + at};
    return true;
  }
  std::uint64_t index = 0;
  if (!take_blocks_locked(1, 1, index)) return false;
  shared_[index] = pages_between(0, count);
  if (count < pages_per_block) shared_with_room_.insert(index);
  first = {index * pages_per_block};
  return true;
}

extent* extent_map::allocate(std::uint64_t bytes, std::uint64_t alignment) try {
  if (inject::fails(inject::point::record_memory)) return nullptr;
  const std::uint64_t pages = bytes == 0 ? 1 : round_up(bytes, page_bytes) / page_bytes;
  extent made;
  lock_guard guard(lock_);
  if (pages < pages_per_block && alignment <= block_bytes) {
    const std::uint64_t alignment_pages = alignment <= page_bytes ? 1 : alignment / page_bytes;
    if (!take_pages_locked(static_cast<unsigned>(pages), static_cast<unsigned>(alignment_pages), made.first))
      return nullptr;
    made.pages = pages;
  } else {
    const std::uint64_t blocks = round_up(pages, pages_per_block) / pages_per_block;
    const std::uint64_t alignment_blocks = alignment <= block_bytes ? 1 : alignment / block_bytes;
    std::uint64_t first = 0;
    if (!take_blocks_locked(blocks, alignment_blocks, first)) return nullptr;
    made.first = first_page(block_index{first});
    made.pages = blocks * pages_per_block;
  }
  made.references = 1;
  ++live_;
  live_pages_ += made.pages;
  return &extents_.emplace(made.first, made).first->second;
} catch (const std::bad_alloc&) {
  // A node of one of the maps could not be had: address space may be lost, never handed out twice.
  return nullptr;
}

bool extent_map::grow(extent& e, std::uint64_t new_pages) try {
  lock_guard guard(lock_);
  if (!e.whole_blocks() || e.retired) return false;
  const std::uint64_t wanted = round_up(new_pages, pages_per_block) / pages_per_block;
  if (wanted <= e.blocks()) return true;
  const std::uint64_t more = wanted - e.blocks();
  const std::uint64_t behind = e.first_block().value + e.blocks();
  auto run = free_runs_.find(behind);
  if (run == free_runs_.end() || run->second < more) return false;
  const std::uint64_t left = run->second - more;
  erase_run_locked(run);
  if (left != 0) insert_run_locked(behind + more, left);
  e.pages += more * pages_per_block;
  live_pages_ += more * pages_per_block;
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

extent* extent_map::retire(std::uint64_t offset) {
  lock_guard guard(lock_);
  if (offset % page_bytes != 0) return nullptr;
  auto found = extents_.find(page_of(offset));
  if (found == extents_.end() || found->second.retired) return nullptr;
  extent& e = found->second;
  e.retired = true;
  ++e.references;
  --live_;
  live_pages_ -= e.pages;
  return &e;
}

extent* extent_map::reference(byte_range range) {
  lock_guard guard(lock_);
  auto after = extents_.upper_bound(page_of(range.begin));
  if (after == extents_.begin()) return nullptr;
  extent& e = std::prev(after)->second;
  if (e.retired || range.begin < e.bytes().begin || range.end > e.bytes().end || range.begin >= e.bytes().end)
    return nullptr;
  ++e.references;
  return &e;
}

extent* extent_map::reference_start(std::uint64_t offset) {
  lock_guard guard(lock_);
  if (offset % page_bytes != 0) return nullptr;
  auto found = extents_.find(page_of(offset));
  if (found == extents_.end() || found->second.retired) return nullptr;
  ++found->second.references;
  return &found->second;
}

bool extent_map::drop_reference(extent& e) {
  lock_guard guard(lock_);
  GM_CHECK(e.references > 0);
  return --e.references == 0 && e.retired;
}

void extent_map::release(extent& e) try {
  lock_guard guard(lock_);
  GM_CHECK(e.retired && e.references == 0);
  const std::uint64_t index = e.first_block().value;
  if (auto shared = shared_.find(index); !e.whole_blocks() && shared != shared_.end()) {
    const unsigned at = page_in_block(e.first);
    shared->second &= ~pages_between(at, at + static_cast<unsigned>(e.pages));
    if (shared->second == 0) {
      shared_.erase(shared);
      shared_with_room_.erase(index);
      insert_run_locked(index, 1);
    } else {
      shared_with_room_.insert(index);
    }
  } else {
    insert_run_locked(index, e.blocks());
  }
  extents_.erase(e.first);
} catch (const std::bad_alloc&) {
  // The addresses stay retired for ever: lost, never handed out twice.
}

std::uint64_t extent_map::live() const {
  lock_guard guard(lock_);
  return live_;
}

std::uint64_t extent_map::live_bytes() const {
  lock_guard guard(lock_);
  return live_pages_ * page_bytes;
}

std::uint64_t extent_map::metadata_bytes() const {
  lock_guard guard(lock_);
  constexpr std::uint64_t node_overhead = 48;  // of the standard containers' trees, and malloc's own
  return extents_.size() * (sizeof(extent) + 8 + node_overhead) + free_runs_.size() * 2 * (16 + node_overhead) +
         shared_.size() * (16 + node_overhead);
}

}  // namespace gm
