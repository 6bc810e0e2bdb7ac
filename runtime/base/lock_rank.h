// SPDX-License-Identifier: Apache-2.0
// lock_rank.h - every lock of the runtime, outermost first. A thread takes locks in rising rank only, and at most one
// of a rank; builds with GMEM_DEBUG_CHECKS check it at each lock. What each protects stands beside the lock itself;
// this is the order and the reason.
#pragma once

#include <cstdint>

namespace gm {

enum class lock_rank : std::uint8_t {
  life,            // runtime start and stop
  objects,         // chunks of small objects, and which of their pages are in use
  admission,       // one a device: who may gather frames. Held while write-backs are waited for, never while scopes are
  pieces,          // one a device: its pieces are made and given back one at a time
  extents,         // which addresses are allocated, and their references
  deferred,        // frees that a copy in flight holds up
  access_map,      // one a device: stale entries of its access map are written in order. Takes block locks
  block,           // one a block: its pages' state and kernel page tables. Never held while anything is waited for
  advice,          // the interval map of advice; read under a block lock by faults
  leases,          // active scopes; asked under a block lock by faults
  frames,          // one a device: the frame pool and its LRU order
  moves,           // the pool of move records
  registrar,       // which blocks' host memory is to be registered, and which no longer
  policy,          // setting the program's policy; nothing else is taken under it
  fault_streams,   // the recent sequential streams of CPU faults
  demand_scopes,   // one a device: which on-demand scopes it has
  bounces,         // what is remembered of blocks that go to and fro
  starved_faults,  // CPU faults that wait for host memory
  condemned,       // threads whose touch is about to be an error
  log,
  count_
};

}  // namespace gm
