// SPDX-License-Identifier: Apache-2.0
// page_table.h - from block index to block: two loads, no lock.
//
// A flat array of chunks; a chunk holds the blocks of 1 GiB and is made by the first allocation there, from zeroed
// memory that costs nothing until touched. Chunks live as long as the table: a pointer to a block stays good.
// Threads: find() from any; ensure() takes no lock of ours (racing makers: one wins).
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "base/counters.h"
#include "base/status.h"
#include "vm/block.h"

namespace gm {

class page_table {
 public:
  static constexpr std::uint64_t blocks_per_chunk = (std::uint64_t{1} << 30) / block_bytes;

  page_table() = default;
  page_table(const page_table&) = delete;
  page_table& operator=(const page_table&) = delete;
  ~page_table();

  status create(std::uint64_t arena_bytes, unsigned nodes, counter& metadata_bytes);

  // Null where nothing was ever allocated, and beyond the arena.
  block* find(block_index index) const {
    if (index.value >= blocks_) return nullptr;
    std::byte* base = chunks_[index.value / blocks_per_chunk].load(std::memory_order_acquire);
    if (base == nullptr) return nullptr;
    return reinterpret_cast<block*>(base + (index.value % blocks_per_chunk) * stride_);
  }
  // For blocks of allocated memory.
  block& at(block_index index) const { return *find(index); }

  // Makes the chunks of blocks [first, first + count) exist.
  status ensure(block_index first, std::uint64_t count);

  // Of the arena.
  std::uint64_t blocks() const { return blocks_; }

 private:
  std::unique_ptr<std::atomic<std::byte*>[]> chunks_;
  std::uint64_t blocks_ = 0;
  std::uint64_t chunk_count_ = 0;
  std::size_t stride_ = 0;
  std::size_t chunk_bytes_ = 0;
  counter* metadata_bytes_ = nullptr;
};

}  // namespace gm
