// SPDX-License-Identifier: Apache-2.0
// vm_object.h - contents and state of the arena: the logical page table and what belongs to it. It knows no policy, and
// copies nothing: the layers above change the table, each page under the lock of its block.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "base/counters.h"
#include "frame/device_node.h"
#include "platform/arena.h"
#include "platform/user_mapping.h"
#include "vm/advice_map.h"
#include "vm/extent_map.h"
#include "vm/host_budget.h"
#include "vm/lease_table.h"
#include "vm/page_table.h"
#include "vm/starved_faults.h"
#include "vm/transition.h"

namespace gm {

class registrar;   // migrate/registrar.h
class access_map;  // migrate/access_map.h

class vm_object {
 public:
  arena memory;
  user_mapping* cpu = nullptr;
  page_table table;
  extent_map extents;
  lease_table leases;
  advice_map advices;
  host_budget host;
  counters stats;
  unsigned nodes = 1;                                           // the host and the devices
  std::array<std::unique_ptr<device_node>, max_nodes> devices;  // [host_node] is null

  device_node& device(unsigned node) const { return *devices[node]; }

  // Moves begun and not yet recorded; debug_settle waits on it.
  std::atomic<std::uint64_t> moves_in_flight{0};
  // Of those, the ones on the runtime's own copy streams, and host memory that is being registered or unregistered:
  // they end whatever the program does. So do frees of such memory, whoever works off frees that were put aside, the
  // release of a scope, once begun, and whoever gives frames back.
  std::atomic<std::uint64_t> own_work{0};
  // Null where no host memory is registered with copy engines.
  gm::registrar* registered = nullptr;
  // Of devices whose kernels have fetched pages, or may; made with the first on-demand scope there.
  std::array<std::atomic<access_map*>, max_nodes> maps{};
  access_map* map(unsigned node) const { return maps[node].load(std::memory_order_acquire); }
  // Rises whenever a move or a registration has ended, frames came free, or a scope that held some is gone: what was in
  // the way of making room may be gone.
  event room_changes;
  // Rises whenever a move has been handed to its backend, or has ended: who wants to plan on one in flight waits for
  // it.
  event submissions;
  // Frees that have been put aside: here those that a move in flight holds up, and who carries them out when a move has
  // ended; with the registrar those of memory that is being unregistered.
  std::atomic<std::uint64_t> deferred_frees{0};  // all of them
  void (*retry_deferred_frees)(vm_object&) = nullptr;
  bool (*retry_free)(vm_object&, extent&) = nullptr;
  mutex<lock_rank::deferred> deferred_lock;
  extent_queue deferred;
  std::atomic<std::uint32_t> deferred_events{0};  // reasons to try them again
  std::atomic<bool> deferred_retrying{false};     // somebody does, and looks for further reasons when through

  // Faults that wait for host memory, and the count of what may have brought some.
  starved_faults starved;
  // Where reclaim_host_pages() goes on looking: what it has taken from last is asked last again.
  std::atomic<std::uint64_t> reclaim_hand{0};

  // Work that was counted in own_work is over. Who waits is told on either side: who sees it gone sees that something
  // has changed, and who still saw it is woken.
  void own_work_ended() {
    starved.changed(*cpu);
    room_changes.happened();
    own_work.fetch_sub(1);
    starved.changed(*cpu);
    room_changes.happened();
  }
  // Pages that were charged to the budget are gone. May be called under a block's lock.
  void uncharge_host(std::uint64_t pages) {
    host.uncharge(pages);
    if (pages != 0) starved.changed(*cpu);
  }
  // The unit of stream work that the thread is running, where a backend can tell; else the null fence.
  device::fence running_unit(thread_id thread) const {
    const device::backend_table* asked = nullptr;
    for (unsigned n = 1; n < nodes; ++n) {
      const device::backend_table* api = devices[n]->api;
      if (api == asked || api->running_unit == nullptr) continue;
      asked = api;
      if (const device::fence unit = api->running_unit(thread); unit.stream != nullptr) return unit;
    }
    return {};
  }

  byte_range bytes_of(block_index index, unsigned first_page, unsigned pages) const {
    const std::uint64_t begin = offset_of(index) + first_page * page_bytes;
    return {begin, begin + pages * page_bytes};
  }
};

// Waits, with no lock held, until a page of `pages` that was busy is no longer.
inline void wait_while_busy(block& b, page_mask pages) {
  for (;;) {
    const page_mask seen = b.busy.load(std::memory_order_acquire);
    if ((seen & pages) == 0) return;
    b.busy.wait(seen, std::memory_order_acquire);
  }
}

// Locks the block when none of the pages is busy.
inline block_lock lock_when_idle(block& b, page_mask pages) {
  for (;;) {
    block_lock lock(b.lock);
    if ((b.busy.load(std::memory_order_relaxed) & pages) == 0) return lock;
    lock.unlock();
    wait_while_busy(b, pages);
  }
}

// Checks one block against block.h's invariants. The caller holds its lock. at_rest: nothing may be busy.
bool validate_block_locked(const vm_object&, block_index, const block&, bool at_rest, char* why, std::size_t why_bytes);
// All blocks, the frame pools, the counts. Takes each block's lock in turn.
bool validate(vm_object&, bool at_rest, char* why, std::size_t why_bytes);

}  // namespace gm
