// SPDX-License-Identifier: Apache-2.0
// units.h - pages, blocks and nodes, as types that do not mix.
//
//   arena offset --/ 64 KiB--> page_index --/ 32--> block_index --/ 512--> a chunk (1 GiB) of the page table
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace gm {

inline constexpr std::size_t os_page_bytes = 4096;
inline constexpr std::size_t page_bytes = std::size_t{64} << 10;
inline constexpr std::size_t block_bytes = std::size_t{2} << 20;
inline constexpr unsigned pages_per_block = block_bytes / page_bytes;
inline constexpr std::size_t frame_bytes = block_bytes;
static_assert(pages_per_block == 32, "one 32-bit mask a fact");

inline constexpr unsigned max_devices = 32;
inline constexpr unsigned max_nodes = max_devices + 1;
inline constexpr unsigned host_node = 0;

struct page_index {
  std::uint64_t value = 0;
  auto operator<=>(const page_index&) const = default;
};

struct block_index {
  std::uint64_t value = 0;
  auto operator<=>(const block_index&) const = default;
  block_index& operator++() {
    ++value;
    return *this;
  }
};

constexpr page_index page_of(std::uint64_t arena_offset) { return {arena_offset / page_bytes}; }
constexpr block_index block_of(std::uint64_t arena_offset) { return {arena_offset / block_bytes}; }
constexpr block_index block_of(page_index page) { return {page.value / pages_per_block}; }
constexpr page_index first_page(block_index block) { return {block.value * pages_per_block}; }
constexpr unsigned page_in_block(page_index page) { return static_cast<unsigned>(page.value % pages_per_block); }
constexpr std::uint64_t offset_of(page_index page) { return page.value * page_bytes; }
constexpr std::uint64_t offset_of(block_index block) { return block.value * block_bytes; }

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }
constexpr std::uint64_t round_down(std::uint64_t value, std::uint64_t unit) { return value / unit * unit; }

// A half-open range of arena offsets.
struct byte_range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t bytes() const { return end - begin; }
  bool overlaps(const byte_range& other) const { return begin < other.end && other.begin < end; }
};

}  // namespace gm
