// SPDX-License-Identifier: Apache-2.0
// advice_map.h - what the program advised, by page range; apart from the page table, since advice outlives residency
// and mostly covers large ranges.
//
// An interval map: ranges are disjoint, split at the edges of a change, and merged where neighbours are equal. Pages
// without an entry have no advice.
// Threads: any. Locking: rank advice. Reading allocates nothing (faults read); empty maps are not locked at all.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <type_traits>

#include "base/mutex.h"
#include "base/status.h"
#include "base/units.h"

namespace gm {

enum class access_pattern : std::uint8_t { unknown, sequential, random };

struct advice {
  bool read_mostly = false;
  bool cold = false;
  access_pattern pattern = access_pattern::unknown;
  std::int8_t preferred_node = -1;
  std::uint64_t accessed_by = 0;  // bit n: node n

  bool operator==(const advice&) const = default;
};

struct page_range {
  page_index begin;
  page_index end;
};

class advice_map {
 public:
  advice at(page_index) const;
  // change edits the advice of every page of the range. no_memory leaves the map as it was.
  template <typename F>
  status update(page_range range, F&& change) {
    return update_with(
        range, [](advice& a, void* f) { (*static_cast<std::remove_reference_t<F>*>(f))(a); }, &change);
  }
  // Forgets the range. Cutting a hole into one interval takes memory; without any, its stale advice stays, which is
  // harmless: advice never changes what memory contains.
  void clear(page_range range);
  std::size_t intervals() const;

 private:
  struct interval {
    page_index end;
    gm::advice advice;
  };
  using map = std::map<page_index, interval>;
  status update_with(page_range, void (*change)(advice&, void*), void* argument);

  mutable mutex<lock_rank::advice> lock_;
  map intervals_;
  std::atomic<std::size_t> count_{0};
};

}  // namespace gm
