// SPDX-License-Identifier: Apache-2.0
#include "migrate/access_map.h"

#include <sys/mman.h>

#include <bit>
#include <cstddef>
#include <cstdio>
#include <new>

#include "base/check.h"
#include "base/log.h"
#include "device/backend_loader.h"
#include "migrate/remapping.h"

namespace gm {
namespace {

constexpr std::uint64_t ring_bytes = access_map::ring_slots * sizeof(std::uint64_t);
constexpr std::uint64_t pins_bytes = access_map::remappings_max * pages_per_block * sizeof(std::uint32_t);

}  // namespace

access_map::access_map(vm_object& vm, device_node& device) : vm_(vm), device_(device) {}

access_map::~access_map() {
  if (mailbox_ != nullptr) device_.api->mailbox_destroy(device_.handle, mailbox_);
  if (entries_ != nullptr) munmap(entries_, entries_bytes_);
}

status access_map::create() {
  const device::backend_table& api = *device_.api;
  const std::uint64_t blocks = vm_.table.blocks();
  const std::uint64_t pages = blocks * pages_per_block;
  if (pages > std::uint64_t{1} << 32)
    return fail(status::unsupported, "an access map covers arenas of up to 256 TiB (GM_ARENA_SIZE)");
  stale_words_ = (blocks + 63) / 64;
  stale_blocks_.reset(new (std::nothrow) std::atomic<std::uint64_t>[stale_words_] {});
  remappings_.reset(new (std::nothrow) remapping[remappings_max]);
  entries_bytes_ = blocks * sizeof(block_entries);
  void* got = mmap(nullptr, entries_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (got != MAP_FAILED) entries_ = static_cast<block_entries*>(got);
  if (stale_blocks_ == nullptr || remappings_ == nullptr || entries_ == nullptr)
    return fail(status::no_memory, "no memory for an access map");

  const struct {
    std::uint64_t bytes;
    std::uint64_t* address;
  } tables[] = {{sizeof(gm_map_control), &control_},
                {pages * 8, &words_},
                {pages * 4, &pins_},
                {pages * 4, &wanted_},
                {pages, &accessed_}};
  for (const auto& table : tables) {
    const gm_status made = api.table_reserve(device_.handle, table.bytes, table.address);
    if (const status s = device::check_device(api, made, "addresses for an access map"); s != status::ok) return s;
  }
  status s = device::check_device(api, api.table_extend(device_.handle, control_, sizeof(gm_map_control)),
                                  "memory for an access map");
  std::uint64_t ring_address = 0;
  const std::uint64_t marks_bytes = std::uint64_t{device_.pool.capacity()} * pages_per_block;
  if (s == status::ok)
    s = device::check_device(
        api, api.mailbox_create(device_.handle, ring_bytes + pins_bytes + marks_bytes, &mailbox_, &ring_address),
        "memory that kernels and the host share");
  if (s != status::ok) return s;
  auto* const bytes = static_cast<std::byte*>(mailbox_);
  ring_ = reinterpret_cast<std::uint64_t*>(bytes);
  marks_ = reinterpret_cast<std::uint8_t*>(bytes + ring_bytes + pins_bytes);
  for (unsigned i = 0; i < remappings_max; ++i)
    remappings_[i].pins = reinterpret_cast<std::uint32_t*>(bytes + ring_bytes) + i * pages_per_block;

  const device::word_write words[] = {{control_ + offsetof(gm_map_control, ring), ring_address},
                                      {control_ + offsetof(gm_map_control, slots), ring_slots}};
  device::fence done;
  if (s = write(words, std::size(words), &done); s != status::ok) return s;
  api.fence_wait(done);
  return status::ok;
}

status access_map::write(const device::word_write* words, std::size_t count, device::fence* done) const {
  const device::backend_table& api = *device_.api;
  return device::check_device(
      api, api.transfer_and_write(device_.to_map, nullptr, 0, nullptr, 0, words, count, nullptr, nullptr, done),
      "writing an access map");
}

status access_map::extend(byte_range range) const {
  // Whole blocks: what is read of the tables is read a block at a time.
  const std::uint64_t first = first_page(block_of(range.begin)).value;
  const std::uint64_t count = round_up(page_of(range.end + page_bytes - 1).value, pages_per_block) - first;
  const device::backend_table& api = *device_.api;
  const struct {
    std::uint64_t table;
    std::uint64_t bytes_a_page;
  } tables[] = {{words_, 8}, {pins_, 4}, {wanted_, 4}, {accessed_, 1}};
  for (const auto& table : tables) {
    const gm_status made =
        api.table_extend(device_.handle, table.table + first * table.bytes_a_page, count * table.bytes_a_page);
    if (const status s = device::check_device(api, made, "memory for an access map"); s != status::ok) return s;
  }
  return status::ok;
}

gm_view_data access_map::view_of(byte_range range, unsigned scope, bool may_write) const {
  const std::uint64_t first = page_of(range.begin).value;
  gm_view_data view{};
  view.bytes = range.bytes();
  view.entries = reinterpret_cast<const std::uint64_t*>(words_ + first * 8);
  view.pins = reinterpret_cast<std::uint32_t*>(pins_ + first * 4);
  view.wanted = reinterpret_cast<std::uint32_t*>(wanted_ + first * 4);
  view.accessed = reinterpret_cast<std::uint8_t*>(accessed_ + first);
  view.control = reinterpret_cast<gm_map_control*>(control_);
  view.pool = device_.info.pool_base;
  view.first_page = static_cast<std::uint32_t>(first);
  view.first_byte = static_cast<std::uint16_t>(range.begin % page_bytes);
  view.scope = static_cast<std::uint8_t>(scope);
  view.may_write = may_write ? 1 : 0;
  return view;
}

// ---- On-demand scopes ----------------------------------------------------------------------------------------------

status access_map::take_scope(unsigned& scope) {
  std::uint64_t free = scopes_.load(std::memory_order_relaxed);
  do {
    if (free == 0)
      return fail(status::no_memory, "node %u (%s) has %d on-demand scopes, and no more at a time: end some",
                  device_.node, device_.info.name, GM_MAP_SCOPES);
    scope = static_cast<unsigned>(std::countr_zero(free));
  } while (!scopes_.compare_exchange_weak(free, free & ~(std::uint64_t{1} << scope), std::memory_order_acq_rel));
  return status::ok;
}

// Who forgets pages marks their block as stale and then asks the lease table; we are in that table, and then look for
// marks: one of the two sees the other.
status access_map::prepare_kernels(unsigned scope, device::fence& ready) {
  lock_guard guard(flushing_);
  for (std::uint64_t i = 0; i < stale_words_; ++i) {
    if (stale_blocks_[i].load(std::memory_order_seq_cst) == 0) continue;
    for (std::uint64_t bits = stale_blocks_[i].exchange(0); bits != 0; bits &= bits - 1) {
      const block_index index{i * 64 + static_cast<unsigned>(std::countr_zero(bits))};
      entry_words plan;
      block& b = vm_.table.at(index);
      page_mask stale = no_pages;
      {
        block_guard block_held(b.lock);
        stale = at(index).stale;
        hide_locked(index, stale, plan);
        at(index).stale = no_pages;
      }
      if (plan.count == 0) continue;
      if (const status s = write(plan.words, plan.count, nullptr); s != status::ok) {
        block_guard block_held(b.lock);
        at(index).stale |= stale & ~at(index).present;
        mark_stale(index);
        return s;
      }
    }
  }
  // Also behind the words of others who have just taken what was stale.
  const device::word_write reset{control_ + offsetof(gm_map_control, given_up) + scope * 8, 0};
  return write(&reset, 1, &ready);
}

status access_map::give_up(unsigned scope) const {
  const device::word_write word{control_ + offsetof(gm_map_control, given_up) + scope * 8, 1};
  return write(&word, 1, nullptr);
}

status access_map::ask(device::stream* on, device::callback answered, void* argument) const {
  const device::word_write word{control_ + offsetof(gm_map_control, slots), ring_slots};
  const device::backend_table& api = *device_.api;
  return device::check_device(api,
                              api.transfer_and_write(on, nullptr, 0, nullptr, 0, &word, 1, answered, argument, nullptr),
                              "writing an access map");
}

void access_map::tell_consumed() {
  const device::word_write word{control_ + offsetof(gm_map_control, consumed), head_};
  // Refused: told with the next ones.
  if (write(&word, 1, nullptr) == status::ok) consumed_ = head_;
}

// ---- Entries -------------------------------------------------------------------------------------------------------

device::word_write access_map::word_of(block_index index, unsigned page, std::uint64_t flags) const {
  const block_entries& e = at(index);
  const std::uint64_t place = (flags & GM_MAP_PRESENT) != 0 ? e.place_plus_one - 1u + page : 0;
  const std::uint64_t word = flags | std::uint64_t{e.generation & GM_MAP_GENERATION_MASK} << GM_MAP_GENERATION_SHIFT |
                             place << GM_MAP_PLACE_SHIFT;
  return {words_ + (first_page(index).value + page) * 8, word};
}

void access_map::show_locked(block_index index, page_mask pages, page_mask writable, entry_words& plan) const {
  if (pages == no_pages) return;
  block_entries& e = at(index);
  GM_CHECK(e.place_plus_one != 0);
  ++e.generation;
  for (page_mask left = pages; left != no_pages; left &= left - 1) {
    const auto page = static_cast<unsigned>(std::countr_zero(left));
    const bool may_write = (writable & one_page(page)) != 0;
    plan.words[plan.count++] = word_of(index, page, may_write ? GM_MAP_PRESENT | GM_MAP_WRITABLE : GM_MAP_PRESENT);
  }
}

void access_map::hide_locked(block_index index, page_mask pages, entry_words& plan) const {
  if (pages == no_pages) return;
  ++at(index).generation;
  for (page_mask left = pages; left != no_pages; left &= left - 1)
    plan.words[plan.count++] = word_of(index, static_cast<unsigned>(std::countr_zero(left)), 0);
}

void access_map::mark_stale(block_index index) const {
  stale_blocks_[index.value / 64].fetch_or(std::uint64_t{1} << index.value % 64, std::memory_order_seq_cst);
}

void access_map::forget_locked(block_index index, page_mask pages) const {
  block_entries& e = at(index);
  const page_mask gone = e.present & pages;
  if (gone == no_pages) return;
  e.stale |= gone;
  mark_stale(index);
  e.present &= ~gone;
  e.writable &= ~gone;
  // Of a scope that began under our eyes no kernel has run: it comes by for the block's lock before, and then flushes.
  GM_CHECK((vm_.leases.on_demand(device_.node, index, true) & gone) == no_pages);
}

void access_map::renew_locked(block_index index, page_mask pages) const {
  forget_locked(index, pages);
  at(index).stale |= pages;
  mark_stale(index);
}

page_mask held_by_kernels_locked(const vm_object& vm, block_index index, page_mask pages, unsigned but,
                                 bool only_writable) {
  page_mask held = no_pages;
  for (unsigned n = 1; n < vm.nodes; ++n) {
    const access_map* map = n == but ? nullptr : vm.map(n);
    if (map != nullptr) held |= map->held_locked(index, only_writable ? pages & map->at(index).writable : pages);
  }
  return held;
}

bool validate_entries_locked(const vm_object& vm, block_index index, const block& b, char* why, std::size_t why_bytes) {
  const page_mask idle = ~b.busy.load(std::memory_order_relaxed);
  const auto at = static_cast<unsigned long long>(index.value);
  for (unsigned n = 1; n < vm.nodes; ++n) {
    const access_map* map = vm.map(n);
    if (map == nullptr) continue;
    const access_map::block_entries& e = map->at(index);
    const node_pages& node = b.node(n);
    const page_mask alone = node.valid & ~valid_elsewhere(b, vm.nodes, n);
    if ((e.present & idle & ~node.valid) != no_pages || (e.present != no_pages && e.place_plus_one == 0)) {
      std::snprintf(why, why_bytes, "M1: block %llu: kernels of node %u find 0x%x, valid there 0x%x", at, n, e.present,
                    node.valid);
      return false;
    }
    if ((e.writable & idle & ~(node.writable & alone)) != no_pages || (e.writable & ~e.present) != no_pages) {
      std::snprintf(why, why_bytes, "M2: block %llu: kernels of node %u may write 0x%x, the node 0x%x, alone with 0x%x",
                    at, n, e.writable, node.writable, alone);
      return false;
    }
  }
  return true;
}

// ---- The pool of remappings ----------------------------------------------------------------------------------------

remapping* access_map::take_remapping() {
  std::uint64_t free = free_remappings_.load(std::memory_order_relaxed);
  unsigned i = 0;
  do {
    if (free == 0) return nullptr;
    i = static_cast<unsigned>(std::countr_zero(free));
  } while (!free_remappings_.compare_exchange_weak(free, free & ~(std::uint64_t{1} << i), std::memory_order_acq_rel));
  return &remappings_[i];
}

void access_map::give_back(remapping* r) {
  const auto i = static_cast<unsigned>(r - remappings_.get());
  free_remappings_.fetch_or(std::uint64_t{1} << i, std::memory_order_acq_rel);
}

}  // namespace gm
