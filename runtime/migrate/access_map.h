// SPDX-License-Identifier: Apache-2.0
// access_map.h - one device's access map: which pages its kernels may touch without asking. gmem/access_map.h says what
// is in device memory; here is the host's side.
//
// The map is a cache of the logical page table, as the kernel's page tables are for the CPU:
//   M1 an entry that is present: the page is valid on the device, in the block's frame.
//   M2 an entry that is writable: the device alone has the page, and may write it.
// Entries are written by the host, in stream order, and only while the page is busy, until they are written; so two
// writers never race, and nobody else plans on the page meanwhile (remapping.h). There is one exception:
// pages that no kernel can touch, since no on-demand scope covers them, are forgotten at once, under the block's lock:
// their entries are stale until the next on-demand scope, which has them written before its kernels run.
// Each word has a generation that no other word of its block had (of the last 2^30).
// Locking: what is of a block is guarded by its lock; the rest is atomic or constant. Units: pages.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "base/counters.h"
#include "base/status.h"
#include "gmem/access_map.h"
#include "policy/victim_order.h"
#include "vm/vm_object.h"

namespace gm {

struct remapping;  // remapping.h

// Words of one block's entries, as they are planned.
struct entry_words {
  device::word_write words[pages_per_block];
  std::size_t count = 0;
};

class access_map {
 public:
  static constexpr std::uint64_t ring_slots = 4096;
  static constexpr unsigned remappings_max = 64;

  // Of one block. All zero: no entry of it was ever written.
  struct block_entries {
    page_mask present;             // kernels find it
    page_mask writable;            // ... and may write it
    page_mask stale;               // absent, but the entry does not say so yet
    std::uint32_t generation;      // of the word written last
    std::uint32_t place_plus_one;  // of the frame's first page in the pool; 0: not asked for yet
    std::uint32_t evicted;         // which eviction of the device took its frame, counted from 1; 0: none yet
    std::uint64_t hold_until_ns;   // others come first until then: kernels' requests wait
  };

  access_map(vm_object& vm, device_node& device);
  access_map(const access_map&) = delete;
  access_map& operator=(const access_map&) = delete;
  ~access_map();
  // Tables, ring. Waits for a few words to be written.
  status create();

  device_node& device() const { return device_; }
  block_entries& at(block_index index) const { return entries_[index.value]; }
  // The tables of these pages exist from now on.
  status extend(byte_range) const;
  gm_view_data view_of(byte_range, unsigned scope, bool may_write) const;

  // ---- On-demand scopes
  // A number for one. no_memory: all are in use.
  status take_scope(unsigned& scope);
  void release_scope(unsigned scope) { scopes_.fetch_or(std::uint64_t{1} << scope, std::memory_order_release); }
  // Whether there are any.
  bool in_use() const { return scopes_.load(std::memory_order_acquire) != ~std::uint64_t{0}; }
  // What kernels of a scope that begins must come behind: stale entries written, and the scope's own word reset. Its
  // lease is in the table by then.
  status prepare_kernels(unsigned scope, device::fence& ready);
  // Its kernels get no more pages.
  status give_up(unsigned scope) const;
  // Calls back when the device has carried out what the stream has ahead of this: a word is written that changes
  // nothing.
  status ask(device::stream*, device::callback answered, void* argument) const;

  // ---- Entries
  // The words by which kernels find the pages, which the device holds, writable or not.
  void show_locked(block_index, page_mask pages, page_mask writable, entry_words&) const;
  // The words by which they no longer do.
  void hide_locked(block_index, page_mask pages, entry_words&) const;
  // They find them now.
  void shown_locked(block_index index, page_mask pages, page_mask writable) const {
    block_entries& e = at(index);
    e.present |= pages;
    e.writable = (e.writable & ~pages) | (writable & pages);
    e.stale &= ~pages;
  }
  // Kernels may be touching these now.
  page_mask held_locked(block_index index, page_mask pages) const {
    const page_mask present = at(index).present & pages;
    return present == no_pages ? no_pages : present & vm_.leases.on_demand(device_.node, index);
  }
  // Pages that no kernel can be touching.
  void forget_locked(block_index, page_mask pages) const;
  // The same, and the next scope's kernels find other words than the last one's: what those had asked for, and was not
  // served, is asked for again.
  void renew_locked(block_index, page_mask pages) const;

  // ---- What comes back
  // The block's frame was evicted.
  void evicted_locked(block_index index) {
    at(index).evicted = std::max<std::uint32_t>(evictions_.fetch_add(1, std::memory_order_relaxed) + 1, 1);
  }
  // Frames evicted since; returning_data::never where it had none.
  std::uint32_t evictions_since_locked(block_index index) const {
    const std::uint32_t when = at(index).evicted;
    return when == 0 ? returning_data::never : evictions_.load(std::memory_order_relaxed) - when;
  }

  // ---- The ring
  // Calls each(request) for the requests that have come, at most that many. One thread. Returns how many.
  template <typename F>
  unsigned take_requests(unsigned most, F&& each) {
    unsigned taken = 0;
    for (; taken < most; ++taken, ++head_) {
      const std::uint64_t request =
          std::atomic_ref<std::uint64_t>(ring_[head_ % ring_slots]).load(std::memory_order_acquire);
      if ((request >> GM_REQUEST_TURN_SHIFT) != ((head_ / ring_slots + 1) & GM_REQUEST_TURN_MASK)) break;
      each(request);
    }
    if (head_ - consumed_ >= ring_slots / 4) tell_consumed();
    return taken;
  }

  // ---- What remapping.h needs
  remapping* take_remapping();  // null: all are in use
  void give_back(remapping*);
  std::uint64_t pins_address(block_index index) const { return pins_ + first_page(index).value * 4; }
  std::uint64_t accessed_address(block_index index) const { return accessed_ + first_page(index).value; }
  std::uint64_t metadata_bytes() const { return ring_slots * 8 + sizeof *this; }
  // Host memory that the device copies to; for evict/reclaimer.h.
  // Room for the marks of as many blocks as there are frames.
  std::uint8_t* marks() const { return marks_; }

 private:
  status write(const device::word_write* words, std::size_t count, device::fence* done) const;
  void tell_consumed();
  void mark_stale(block_index) const;
  device::word_write word_of(block_index, unsigned page, std::uint64_t flags) const;

  vm_object& vm_;
  device_node& device_;
  std::uint64_t control_ = 0;  // device addresses of the tables
  std::uint64_t words_ = 0;
  std::uint64_t pins_ = 0;
  std::uint64_t wanted_ = 0;
  std::uint64_t accessed_ = 0;
  void* mailbox_ = nullptr;
  std::uint64_t* ring_ = nullptr;
  std::uint8_t* marks_ = nullptr;
  block_entries* entries_ = nullptr;  // of all the arena, from the system, zero and without memory until touched
  std::uint64_t entries_bytes_ = 0;
  std::unique_ptr<std::atomic<std::uint64_t>[]> stale_blocks_;  // one bit a block
  std::uint64_t stale_words_ = 0;
  std::unique_ptr<remapping[]> remappings_;
  std::atomic<std::uint32_t> evictions_{0};
  std::atomic<std::uint64_t> free_remappings_{~std::uint64_t{0}};
  std::atomic<std::uint64_t> scopes_{~std::uint64_t{0}};  // one bit a number that is free
  mutable mutex<lock_rank::access_map> flushing_;  // flushes are queued in the order in which they took what was stale
  std::uint64_t head_ = 0;
  std::uint64_t consumed_ = 0;  // as the device knows it
};

// Pages that kernels of any device but one may be touching now, where that would be against the protocol: all that they
// can reach, or only what they may write.
page_mask held_by_kernels_locked(const vm_object&, block_index, page_mask pages, unsigned but, bool only_writable);

// M1 and M2 for the block, whose lock the caller holds; busy pages are exempt.
bool validate_entries_locked(const vm_object&, block_index, const block&, char* why, std::size_t why_bytes);

// The node's copies of the pages change; no kernel of it can be touching them.
inline void forget_mappings_locked(const vm_object& vm, unsigned node, block_index index, page_mask pages) {
  if (const access_map* map = vm.map(node); map != nullptr) map->forget_locked(index, pages);
}

}  // namespace gm
