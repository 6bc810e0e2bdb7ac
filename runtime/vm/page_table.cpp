// SPDX-License-Identifier: Apache-2.0
#include "vm/page_table.h"

#include <sys/mman.h>

#include <cerrno>
#include <new>

#include "base/inject.h"

namespace gm {

page_table::~page_table() {
  for (std::uint64_t i = 0; i < chunk_count_; ++i)
    if (std::byte* chunk = chunks_[i].load(std::memory_order_relaxed); chunk != nullptr) munmap(chunk, chunk_bytes_);
}

status page_table::create(std::uint64_t arena_bytes, unsigned nodes, counter& metadata_bytes) {
  const std::uint64_t count = round_up(arena_bytes / block_bytes, blocks_per_chunk) / blocks_per_chunk;
  chunks_.reset(new (std::nothrow) std::atomic<std::byte*>[count]());
  if (chunks_ == nullptr) return fail(status::no_memory, "no memory for the page table of the arena");
  blocks_ = arena_bytes / block_bytes;
  chunk_count_ = count;
  stride_ = sizeof(block) + nodes * sizeof(node_pages);
  chunk_bytes_ = round_up(stride_ * blocks_per_chunk, os_page_bytes);
  metadata_bytes_ = &metadata_bytes;
  metadata_bytes.add(count * sizeof(std::atomic<std::byte*>));
  return status::ok;
}

status page_table::ensure(block_index first, std::uint64_t count) {
  for (std::uint64_t i = first.value / blocks_per_chunk; i <= (first.value + count - 1) / blocks_per_chunk; ++i) {
    if (chunks_[i].load(std::memory_order_acquire) != nullptr) continue;
    void* memory = inject::fails(inject::point::table_memory)
                       ? MAP_FAILED
                       : mmap(nullptr, chunk_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return fail(status::no_memory, "no memory for %zu bytes of page table", chunk_bytes_);
    // Zeroed memory is 512 blocks of which nothing is known: blocks need no constructor.
    std::byte* expected = nullptr;
    if (chunks_[i].compare_exchange_strong(expected, static_cast<std::byte*>(memory), std::memory_order_acq_rel))
      metadata_bytes_->add(chunk_bytes_);
    else
      munmap(memory, chunk_bytes_);
  }
  return status::ok;
}

}  // namespace gm
