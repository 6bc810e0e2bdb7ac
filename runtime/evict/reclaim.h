// SPDX-License-Identifier: Apache-2.0
// reclaim.h - giving memory back: of freed extents on every node, and of host pages that somebody else holds as well.
#pragma once

#include "vm/vm_object.h"

namespace gm {

// The extent is retired and has no references. Its pages are given back everywhere and its addresses are free again;
// when a move still copies some of them, or the system refuses, the extent is put aside and tried again after later
// moves and frees. Any thread, no lock held; waits for nothing.
void reclaim(vm_object&, extent&);
void retry_deferred_frees(vm_object&);

// Makes room in the host's budget: memory of pages that are not valid on the host first, then host copies that a device
// holds too. Returns the pages given back, 0 when there are none to give. No lock held.
std::uint64_t reclaim_host_pages(vm_object&, std::uint64_t pages);

}  // namespace gm
