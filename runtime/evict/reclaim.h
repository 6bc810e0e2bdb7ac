// SPDX-License-Identifier: Apache-2.0
// reclaim.h - giving memory back: of freed extents on every node, and of host pages that somebody else holds as well.
#pragma once

#include "vm/vm_object.h"

namespace gm {

// The extent is retired and has no references. Its pages are given back everywhere and its addresses are free again;
// when a move still copies some of them, their memory is registered, or the system refuses, the extent is put aside and
// tried again after later moves and frees. Any thread, no lock held; waits for nothing.
void reclaim(vm_object&, extent&);
void retry_deferred_frees(vm_object&);
// For the registrar, of an extent that was put aside with it. False: memory of it is still registered.
bool retry_free(vm_object&, extent&);

// Makes room in the host's budget: memory of pages that are not valid on the host first, then host copies that a device
// holds too; not what a scope on the host is using. Takes from the blocks in turn, so that nobody's pages are always
// the first to go. Returns the pages given back, 0 when there are none to give. No lock held; takes one block's lock at
// a time. evicting: a device whose blocks are being written home; their host copies are what that is for, and stay.
std::uint64_t reclaim_host_pages(vm_object&, std::uint64_t pages, unsigned evicting = host_node);

// Whether host memory may yet come without the program's doing: copies of the runtime's own are in flight, or a call is
// at work on the host. The end of either raises vm.starved. beside_streams: also the latter, which may wait for queued
// work, and so is not waited for by that.
bool host_memory_is_coming(const vm_object&, bool beside_streams);

}  // namespace gm
