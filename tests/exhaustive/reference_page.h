// SPDX-License-Identifier: Apache-2.0
// reference_page.h - what gm_query must say of one page: the protocol of a page over the host and the devices, written
// down a second time, as rules for one page alone and without moves, locks, frames or fences.
//
//   valid    bit n: node n holds a current copy. None: nobody does, and the page reads as zero
//   writer   the node that may write, or -1
//   host_may_write   the host, alone, was let read: it may have been let write as well
//   dirty    a device wrote the page since the host last held it
#pragma once

#include <cstdint>

namespace gm::test {

struct reference_page {
  std::uint32_t valid = 0;
  int writer = -1;
  bool host_may_write = false;
  bool dirty = false;

  void read(unsigned node) {
    const bool held_it = (valid >> node & 1) != 0;
    valid |= 1u << node;
    const bool alone = valid == 1u << node;
    if (!alone) writer = -1;
    host_may_write = node == 0 && alone;
    if (node == 0 && !held_it) dirty = false;
  }

  void write(unsigned node) {
    *this = {};
    valid = 1u << node;
    writer = static_cast<int>(node);
    dirty = node != 0;
  }

  void discard() { *this = {}; }

  // The device gives up its copy.
  void evict(unsigned device) {
    if ((valid >> device & 1) == 0) return;
    valid &= ~(1u << device);
    if (writer == static_cast<int>(device)) writer = -1;
    if (valid != 0) return;
    if (dirty) valid = 1;
    dirty = false;
  }

  bool writer_may_be(int node) const { return node == writer || (host_may_write && writer == -1 && node == 0); }
};

}  // namespace gm::test
