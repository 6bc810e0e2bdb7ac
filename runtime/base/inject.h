// SPDX-License-Identifier: Apache-2.0
// inject.h - counted failures of the runtime's own system calls and allocations, for tests (after nvidia-uvm's idea).
//
// Code that can fail asks `if (inject::fails(point))` beside the real call. Nothing armed: one relaxed load.
#pragma once

#include <atomic>
#include <cstdint>

namespace gm::inject {

enum class point : std::uint8_t {
  table_memory,   // memory for the page table's chunk
  host_memory,    // memory for host pages (populate, zero-fill)
  record_memory,  // memory for scopes, moves, extents, advice
  map_pages,      // UFFDIO_CONTINUE
  zero_pages,     // UFFDIO_ZEROPAGE
  protect_pages,  // UFFDIO_WRITEPROTECT
  drop_pages,     // MADV_DONTNEED
  punch_pages,    // fallocate(PUNCH_HOLE)
  thread_start,
  count_
};

extern std::atomic<std::uint32_t> armed;  // points that count down

bool fails_armed(point);
inline bool fails(point where) { return armed.load(std::memory_order_relaxed) != 0 && fails_armed(where); }

// The n-th pass of the point from now fails, once. n = 0 turns it off.
void fail_nth(point, std::uint64_t n);
// Passes of the point since fail_nth was called for it.
std::uint64_t passes(point);

}  // namespace gm::inject
