// SPDX-License-Identifier: Apache-2.0
#include "evict/room.h"

#include <algorithm>
#include <memory>
#include <new>
#include <thread>

#include "device/backend_loader.h"
#include "evict/reclaim.h"
#include "migrate/host_pages.h"
#include "migrate/registrar.h"
#include "migrate/remapping.h"

namespace gm {
namespace {

constexpr std::size_t pieces_at_once = 64;

// Counts work in flight; the evicting thread sleeps until none is.
struct pending_work {
  std::atomic<std::uint32_t> count{0};
  std::atomic<int>* failure = nullptr;  // of write-backs, the last

  void begin() { count.fetch_add(1, std::memory_order_relaxed); }
  // The waiter may be gone the moment it sees zero: nothing of it is touched after the notification.
  void end() {
    if (count.fetch_sub(1, std::memory_order_acq_rel) == 1) count.notify_all();
  }
  void wait() {
    for (std::uint32_t left; (left = count.load(std::memory_order_acquire)) != 0;)
      count.wait(left, std::memory_order_acquire);
  }
};

void write_back_done(void* owner, const move& m, status result) {
  auto* work = static_cast<pending_work*>(owner);
  if (result == status::ok)
    m.vm->stats.node[m.source].writebacks.add(count_pages(m.pages));
  else
    work->failure->store(static_cast<int>(result), std::memory_order_relaxed);
  work->end();
}

// Nobody counts on what the device holds of the block, nor on its host memory, where evicted pages would go: the host's
// own queued work writes it before it owns it. A pin ends with its allocation, also while the memory is not yet back.
bool spoken_for_locked(const block& b, unsigned node) {
  const node_pages& here = b.node(node);
  return here.leases != 0 || (here.pinned & b.allocated) != 0 || b.host().leases != 0;
}

bool evictable_locked(const vm_object& vm, block_index index, const block& b, unsigned node) {
  if (!b.node(node).has_frame() || spoken_for_locked(b, node) || b.busy.load(std::memory_order_relaxed) != no_pages)
    return false;
  const access_map* map = vm.map(node);
  return map == nullptr || map->held_locked(index, all_pages) == no_pages;
}

void taken_from_kernels(void* owner, bool) { static_cast<pending_work*>(owner)->end(); }

// Step 0: running kernels lose the pieces, together, and are waited for as long as that may take. What they hold on to
// is not evictable in the steps to come. Such pieces are single blocks.
void take_from_kernels(vm_object& vm, move_pool& moves, device_node& device, const piece* pieces, std::size_t count) {
  access_map* map = vm.map(device.node);
  if (map == nullptr || !map->in_use()) return;
  pending_work all;
  for (std::size_t i = 0; i < count; ++i) {
    block& b = vm.table.at(pieces[i].first);
    remapping* taking = nullptr;
    {
      block_guard guard(b.lock);
      const page_mask held = map->held_locked(pieces[i].first, all_pages);
      if (held == no_pages || spoken_for_locked(b, device.node) || b.busy.load(std::memory_order_relaxed) != no_pages)
        continue;
      taking = begin_taking_locked(vm, *map, moves, pieces[i].first, b,
                                   {.pages = held, .done = taken_from_kernels, .owner = &all});
    }
    if (taking == nullptr) continue;
    all.begin();
    (void)submit_remapping(taking);
  }
  all.wait();
}

// The block has no frame any more; returns where it was.
std::uint64_t take_frame_locked(const vm_object& vm, unsigned node, block_index index, block& b, frame_index& frame) {
  node_pages& here = b.node(node);
  if (const access_map* map = vm.map(node); map != nullptr) map->at(index).place_plus_one = 0;
  const std::uint64_t address = here.address;
  frame = here.frame();
  here.frame_plus_one = 0;
  here.address = 0;
  return address;
}

// Whether so many frames are held by pieces that could be evicted, now or when a copy in flight has ended: what cannot
// suffice is not begun.
bool could_free(const vm_object& vm, const device_node& device, std::uint32_t frames) {
  constexpr std::size_t batch = 64;
  piece pieces[batch];
  std::uint32_t found = 0;
  for (std::size_t skip = 0;; skip += batch) {
    const std::size_t count = device.pool.victims(pieces, batch, skip);
    for (std::size_t i = 0; i < count; ++i) {
      bool fits = true;
      for (std::uint32_t k = 0; k < pieces[i].blocks && fits; ++k) {
        block& b = vm.table.at({pieces[i].first.value + k});
        block_guard guard(b.lock);
        fits = !spoken_for_locked(b, device.node);
      }
      if (fits) found += pieces[i].blocks;
      if (found >= frames) return true;
    }
    if (count < batch) return false;
  }
}

// Pages whose only current copy is here and differs from zero; and those that are zero, but whose host memory cannot be
// given back, as it would have to be if they were NOMAP. Freed pages only where kernels still use them.
page_mask must_go_home(const vm_object& vm, block_index index, const block& b, unsigned node) {
  const page_mask kept = b.host_memory == registration::none ? no_pages : b.backed;
  const page_mask only_here = (b.node(node).dirty | kept) & b.node(node).valid & ~valid_elsewhere(b, vm.nodes, node);
  page_mask used = b.allocated;
  for (unsigned n = 1; n < vm.nodes && (only_here & ~used) != no_pages; ++n)
    if (vm.map(n) != nullptr) used |= vm.leases.on_demand(n, index);
  return only_here & used;
}

// Step 1 for one block, under its lock. False: not evictable, or (then s is not ok) its write-back could not begin.
// home: the pages that have to go; none when there is nothing to submit.
bool begin_block_locked(vm_object& vm, device_node& device, block_index index, block& b, pending_work& work, move* m,
                        copy_plan& plan, page_mask& home, status& s) {
  const bool fits = evictable_locked(vm, index, b, device.node);
  home = fits ? must_go_home(vm, index, b, device.node) : no_pages;
  if (home == no_pages) return fits;
  s = status::no_memory;
  if (m == nullptr) return false;
  const move_request request{
      .destination = host_node, .source = device.node, .pages = home, .done = write_back_done, .owner = &work};
  s = begin_move_locked(vm, index, b, request, *m, plan);
  return s == status::ok;
}

// Step 1 for one block. False: not evictable (or its write-back could not begin; then failure says why). Host memory
// for the write-back is made out of what the host need not hold, without the block's lock.
bool begin_block(vm_object& vm, move_pool& moves, device_node& device, block_index index, pending_work& work,
                 std::uint32_t& clean_pages) {
  block& b = vm.table.at(index);
  move* m = moves.take(false);
  copy_plan plan;
  for (;;) {
    page_mask home = no_pages;
    status s = status::ok;
    bool begun = false;
    {
      block_guard guard(b.lock);
      begun = begin_block_locked(vm, device, index, b, work, m, plan, home, s);
      if (begun) clean_pages += count_pages(b.node(device.node).valid & ~home & b.allocated);
    }
    if (begun && home != no_pages) break;
    // One search of all host memory a round is enough to know that there is none.
    const bool has_searched = work.failure->load(std::memory_order_relaxed) == GM_ERROR_NO_MEMORY;
    if (s == status::no_memory && m != nullptr && !has_searched &&
        reclaim_host_pages(vm, count_pages(home), device.node) != 0)
      continue;
    if (m != nullptr) moves.give_back(m);
    if (s != status::ok) work.failure->store(static_cast<int>(s), std::memory_order_relaxed);
    return begun;
  }
  work.begin();
  return submit_move(moves, m, plan, nullptr) == status::ok;
}

// Step 2 for one block. False: it has become busy, or its write-back failed.
bool strike_block_locked(vm_object& vm, device_node& device, block_index index, block& b) {
  if (!evictable_locked(vm, index, b, device.node) || must_go_home(vm, index, b, device.node) != no_pages) return false;
  node_pages& here = b.node(device.node);
  // Zeroes that nobody wrote become NOMAP, and NOMAP pages have no memory.
  const page_mask nomap = here.valid & ~valid_elsewhere(b, vm.nodes, device.node);
  // Of an allocation that is being freed: it waits for this, too.
  if ((nomap & b.backed) != no_pages && !host_memory_is_loose_locked(vm, index, b)) return false;
  if (drop_host_pages_locked(vm, index, b, nomap) != status::ok) return false;
  // Another device's copy is now the one that is newer than the host's.
  page_mask inherited = here.dirty;
  for (unsigned n = 1; n < vm.nodes; ++n) {
    if (n == device.node) continue;
    b.node(n).dirty |= inherited & b.node(n).valid;
    inherited &= ~b.node(n).valid;
  }
  here.valid = here.writable = here.dirty = no_pages;
  forget_mappings_locked(vm, device.node, index, all_pages);
  return true;
}

// Steps 2 and 3 for a piece of one block, as one: nobody finds it without contents and with a frame.
bool strike_and_release_block(vm_object& vm, device_node& device, block_index index) {
  lock_guard making(device.pieces);
  block& b = vm.table.at(index);
  frame_index frame = no_frame;
  std::uint64_t address = 0;
  {
    block_guard guard(b.lock);
    if (!strike_block_locked(vm, device, index, b)) return false;
    vm.own_work.fetch_add(1);
    address = take_frame_locked(vm, device.node, index, b, frame);
    if (access_map* map = vm.map(device.node); map != nullptr) map->evicted_locked(index);
  }
  device.api->piece_destroy(device.handle, offset_of(index), 1, address);
  device.pool.give_back(frame);
  vm.own_work_ended();
  return true;
}

bool strike_and_release_piece(vm_object& vm, device_node& device, const piece& gone) {
  if (gone.blocks == 1) return strike_and_release_block(vm, device, gone.first);
  for (std::uint32_t k = 0; k < gone.blocks; ++k) {
    const block_index index{gone.first.value + k};
    block& b = vm.table.at(index);
    block_guard guard(b.lock);
    if (!strike_block_locked(vm, device, index, b)) return false;
  }
  release_piece(vm, device, gone);
  return true;
}

// When evicted pieces come free. Kernels take what comes free at once: a scope that gathers frames would get to see
// none.
enum class release : std::uint8_t { each_when_written_back, all_together };

// Evicts up to 64 pieces together, so that their write-backs overlap, until enough is under way. count becomes the
// number looked at. Returns the frames that came free.
std::uint32_t evict_pieces(vm_object& vm, move_pool& moves, device_node& device, piece* pieces, std::size_t& count,
                           std::uint32_t frames, release when, status& failure) {
  std::atomic<int> failed{static_cast<int>(failure)};
  pending_work work[pieces_at_once];
  std::uint32_t clean[pieces_at_once] = {};
  bool begun[pieces_at_once] = {};
  std::uint32_t promised = 0;
  std::size_t looked_at = 0;
  std::size_t taken_up_to = 0;
  for (; looked_at < count && promised < frames; ++looked_at) {
    const std::size_t i = looked_at;
    // As many at once as are still needed, or as were tried before: what kernels hold on to makes no promise.
    if (i == taken_up_to) {
      taken_up_to = std::min<std::size_t>(count, i + std::max<std::size_t>(frames - promised, i));
      take_from_kernels(vm, moves, device, pieces + i, taken_up_to - i);
    }
    work[i].failure = &failed;
    begun[i] = true;
    for (std::uint32_t k = 0; k < pieces[i].blocks && begun[i]; ++k)
      begun[i] = begin_block(vm, moves, device, {pieces[i].first.value + k}, work[i], clean[i]);
    if (begun[i]) promised += pieces[i].blocks;
  }
  count = looked_at;

  for (std::size_t i = 0; i < looked_at && when == release::all_together; ++i) work[i].wait();
  std::uint32_t freed = 0;
  for (std::size_t i = 0; i < looked_at; ++i) {
    work[i].wait();
    if (!begun[i] || !strike_and_release_piece(vm, device, pieces[i])) continue;
    vm.stats.node[device.node].evictions.add(pieces[i].blocks);
    vm.stats.node[device.node].writebacks_skipped.add(clean[i]);
    freed += pieces[i].blocks;
  }
  if (const int why = failed.load(std::memory_order_relaxed); why != GM_OK) failure = static_cast<status>(why);
  return freed;
}

// One round through the pool, oldest first, until so many frames came free. Returns how many did; in_vain: how often a
// piece was looked at that did not.
std::uint32_t evict_round(vm_object& vm, move_pool& moves, device_node& device, std::uint32_t frames, release when,
                          status& failure, std::uint32_t& in_vain) {
  std::uint32_t freed = 0;
  in_vain = 0;
  for (std::size_t skip = 0; freed < frames;) {
    piece pieces[pieces_at_once];
    std::size_t count = device.pool.victims(pieces, pieces_at_once, skip);
    if (count == 0) break;
    const std::uint32_t now = evict_pieces(vm, moves, device, pieces, count, frames - freed, when, failure);
    freed += now;
    in_vain += static_cast<std::uint32_t>(count) - std::min(static_cast<std::uint32_t>(count), now);
    // What was evicted has left the list; what could not be is skipped. A piece may be passed over when both happen at
    // once: the next round starts from the oldest again.
    if (now == 0) skip += count;
  }
  return freed;
}

}  // namespace

namespace {

// All blocks of the piece are to get frames, if they are free, and nobody else makes it: it is ours to make then.
enum class making : std::uint8_t { ours, others, made, no_frames };

making begin_piece(vm_object& vm, device_node& device, const piece& wanted, victim_class which, bool kept_too,
                   frame_index* frames) {
  lock_guard no_frame_changes(device.pieces);
  block& b = vm.table.at(wanted.first);
  block_guard guard(b.lock);
  node_pages& here = b.node(device.node);
  if (here.has_frame()) return making::made;
  if (here.address == piece_being_made) return making::others;
  if (!device.pool.take(wanted, which, frames, kept_too)) return making::no_frames;
  here.address = piece_being_made;
  return making::ours;
}

// Without a lock: the device may have to wait until memory that is on its way back has come.
status make_piece(vm_object& vm, device_node& device, const piece& wanted, const frame_index* frames) {
  std::uint64_t address = 0;
  const gm_status made = device.api->piece_create(device.handle, offset_of(wanted.first), wanted.blocks, &address);
  if (made != GM_OK) {
    const status failed = device::check_device(*device.api, made, "device memory");
    {
      block& b = vm.table.at(wanted.first);
      block_guard guard(b.lock);
      b.node(device.node).address = 0;
    }
    for (std::uint32_t i = 0; i < wanted.blocks; ++i) device.pool.give_back(frames[i]);
    return failed;
  }
  for (std::uint32_t i = wanted.blocks; i-- > 0;) {  // the first last: who finds that finds all
    block& b = vm.table.at({wanted.first.value + i});
    block_guard guard(b.lock);
    b.node(device.node).frame_plus_one = frames[i] + 1;
    b.node(device.node).address = address + i * block_bytes;
  }
  return status::ok;
}

}  // namespace

piece piece_for(const device_node& device, const extent& e, block_index index) {
  if (device.windowed()) return {index, 1};
  return {e.first_block(), static_cast<std::uint32_t>(e.blocks())};
}

status make_room(vm_object& vm, move_pool& moves, device_node& device, std::uint32_t frames) {
  for (;;) {
    status failure = status::ok;
    const std::uint32_t free = device.pool.free_frames();
    if (free >= frames) return status::ok;
    const std::uint32_t seen = vm.room_changes.now();
    const bool could = could_free(vm, device, frames - free);
    // What is nobody's any more may just have become free.
    if (!could && device.pool.free_frames() > free) continue;
    std::uint32_t in_vain = 0;
    if (could && evict_round(vm, moves, device, frames - free, release::all_together, failure, in_vain) != 0) continue;
    // Host memory that write-backs lacked may be held by copies in flight, whose ends raise room_changes.
    if (failure == status::no_memory && (vm.own_work.load() != 0 || vm.room_changes.now() != seen))
      failure = status::ok;
    if (could && failure == status::ok) {
      // What could go was being copied, or has just become free to go. But what kernels hold on to is not waited for
      // here, under the admission lock: trying to take it is itself a change.
      const access_map* map = vm.map(device.node);
      if (vm.room_changes.now() != seen && (map == nullptr || !map->in_use())) continue;
      return fail(status::busy, "no room on node %u (%s) before copies in flight have ended", device.node,
                  device.info.name);
    }
    if (failure != status::ok && failure != status::no_memory)
      return fail(failure, "no room on node %u (%s): writing pages back failed: %s", device.node, device.info.name,
                  last_error());
    return fail(status::no_memory,
                "no room on node %u (%s): %u of %u frames are free, %u are needed, and the rest is in use by scopes, "
                "pinned, or cannot be written back within GM_HOST_BUDGET",
                device.node, device.info.name, device.pool.free_frames(), device.pool.capacity(), frames);
  }
}

std::uint32_t evict_some(vm_object& vm, move_pool& moves, device_node& device, std::uint32_t frames,
                         std::uint32_t* in_vain) {
  status ignored = status::ok;
  std::uint32_t not_told = 0;
  return evict_round(vm, moves, device, frames, release::each_when_written_back, ignored,
                     in_vain != nullptr ? *in_vain : not_told);
}

status acquire_piece(vm_object& vm, move_pool& moves, device_node& device, const piece& wanted, victim_class which,
                     bool evict) {
  std::unique_ptr<frame_index[]> many;
  frame_index one[1];
  frame_index* frames = one;
  if (wanted.blocks > 1) {
    many.reset(new (std::nothrow) frame_index[wanted.blocks]);
    frames = many.get();
    if (frames == nullptr) return fail(status::no_memory, "no memory to record %u frames", wanted.blocks);
  }
  for (;;) {
    const making turn = begin_piece(vm, device, wanted, which, evict, frames);
    if (turn == making::made) return status::ok;
    if (turn != making::ours) {
      if (!evict) return fail(status::no_memory, "no free frames on node %u", device.node);
      if (turn == making::others) {  // a kernel's fault, which waits for nothing that we hold
        std::this_thread::yield();
        continue;
      }
      if (const status s = make_room(vm, moves, device, wanted.blocks); s != status::ok) return s;
      continue;
    }
    const status made = make_piece(vm, device, wanted, frames);
    if (made == status::ok) return status::ok;
    if (made != status::no_memory || !evict) return made;
    // The budget has room and the device has not: others' use of it, or no contiguous piece. Evict and ask again.
    status ignored = status::ok;
    std::uint32_t in_vain = 0;
    if (evict_round(vm, moves, device, wanted.blocks, release::all_together, ignored, in_vain) == 0)
      return could_free(vm, device, 1) && ignored == status::ok ? status::busy : made;
  }
}

void release_piece(vm_object& vm, device_node& device, const piece& gone) {
  frame_index first = no_frame;
  std::uint64_t address = 0;
  lock_guard making(device.pieces);
  {
    block& b = vm.table.at(gone.first);
    block_guard guard(b.lock);
    if (!b.node(device.node).has_frame()) return;
    vm.own_work.fetch_add(1);  // until it is free, it is nowhere to be found
    address = take_frame_locked(vm, device.node, gone.first, b, first);
  }
  // Nobody uses the rest of the piece either: nothing is valid there, and there are no leases.
  device.api->piece_destroy(device.handle, offset_of(gone.first), gone.blocks, address);
  // Frames go back behind the memory, so that whoever takes them finds the memory there.
  for (std::uint32_t i = 1; i < gone.blocks; ++i) {
    block& b = vm.table.at({gone.first.value + i});
    frame_index frame = no_frame;
    {
      block_guard guard(b.lock);
      (void)take_frame_locked(vm, device.node, {gone.first.value + i}, b, frame);
    }
    device.pool.give_back(frame);
  }
  device.pool.give_back(first);
  vm.own_work_ended();
}

namespace {

// If nothing is in it, nobody is about to use it, and the block as a whole is as it has to be for that.
template <typename F>
void release_frame_if(vm_object& vm, device_node& device, block_index index, F&& fits) {
  lock_guard making(device.pieces);
  block& b = vm.table.at(index);
  frame_index frame = no_frame;
  std::uint64_t address = 0;
  {
    block_guard guard(b.lock);
    const node_pages& here = b.node(device.node);
    // Freed memory that waits for its scopes is still here: the last of it to be reclaimed comes by again.
    if (!fits(b) || here.valid != no_pages || b.busy.load(std::memory_order_relaxed) != no_pages || !here.has_frame() ||
        here.leases != 0)
      return;
    vm.own_work.fetch_add(1);  // until it is free, it is nowhere to be found
    address = take_frame_locked(vm, device.node, index, b, frame);
  }
  device.api->piece_destroy(device.handle, offset_of(index), 1, address);
  device.pool.give_back(frame);
  vm.own_work_ended();
}

}  // namespace

void release_unused_frame(vm_object& vm, device_node& device, block_index index) {
  release_frame_if(vm, device, index, [](const block& b) { return b.allocated == no_pages; });
}

void release_empty_frame(vm_object& vm, device_node& device, block_index index) {
  release_frame_if(vm, device, index, [&](const block& b) {
    return b.leases == 0 && (b.node(device.node).pinned & b.allocated) == no_pages;
  });
}

}  // namespace gm
