// SPDX-License-Identifier: Apache-2.0
// validate.cpp - the invariants of block.h, I1 to I6, and the frame pools', F1 and F2.
#include <cstdarg>
#include <cstdio>

#include "vm/vm_object.h"

namespace gm {
namespace {

struct report {
  char* why;
  std::size_t bytes;
  [[gnu::format(printf, 2, 3)]] bool broken(const char* format, ...) const {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(why, bytes, format, arguments);
    va_end(arguments);
    return false;
  }
};

// An open scope's pages are valid on its node, or busy (I5). Asked with the block's lock held.
bool leased_pages_are_there(const vm_object& vm, block_index index, const block& b, page_mask busy) {
  bool there = true;
  vm.leases.for_each([&](const lease& l) {
    if (l.state != lease_state::open || !l.resident) return;
    for (const leased_range& range : l.ranges) {
      if (range.on_demand) continue;
      const page_mask pages = pages_touched(range.bytes, index);
      if ((pages & ~b.node(l.node).valid & ~busy) != 0) there = false;
    }
  });
  return there;
}

// Every used frame is held by the block that it was taken for.
bool frames_are_held(const vm_object& vm, unsigned node, const report& r) {
  const frame_pool& pool = vm.device(node).pool;
  for (frame_index frame = 0; frame < pool.capacity(); ++frame) {
    const block_index owner = pool.owner(frame);
    block* b = vm.table.find(owner);
    if (b == nullptr) continue;
    block_guard guard(b->lock);
    const node_pages& there = b->node(node);
    if (pool.owner(frame) != owner || (there.has_frame() && there.frame() == frame)) continue;
    return r.broken("F1: node %u: frame %u belongs to block %llu, which has frame %d, address 0x%llx", node, frame,
                    static_cast<unsigned long long>(owner.value),
                    there.has_frame() ? static_cast<int>(there.frame()) : -1,
                    static_cast<unsigned long long>(there.address));
  }
  return true;
}

}  // namespace

bool validate_block_locked(const vm_object& vm, block_index index, const block& b, bool at_rest, char* why,
                           std::size_t why_bytes) {
  const report r{why, why_bytes};
  const auto at = static_cast<unsigned long long>(index.value);
  const page_mask busy = b.busy.load(std::memory_order_relaxed);
  if (at_rest && busy != 0) return r.broken("block %llu: pages 0x%x busy at rest", at, busy);
  std::uint32_t leases = 0;
  page_mask valid = no_pages;
  for (unsigned n = 0; n < vm.nodes; ++n) {
    const node_pages& node = b.node(n);
    leases += node.leases;
    valid |= node.valid;
    const page_mask elsewhere = valid_elsewhere(b, vm.nodes, n);
    if ((node.writable & ~busy & (~node.valid | elsewhere)) != 0)
      return r.broken("I1/I2: block %llu: node %u may write 0x%x, valid there 0x%x, valid elsewhere 0x%x", at, n,
                      node.writable, node.valid, elsewhere);
    if (n == host_node) {
      if ((node.dirty | node.frame_plus_one) != 0)
        return r.broken("block %llu: the host has frames or dirty pages", at);
      continue;
    }
    if (node.valid != 0 && !node.has_frame())
      return r.broken("I4: block %llu: pages 0x%x valid on node %u without a frame", at, node.valid, n);
    if (node.has_frame() && vm.device(n).pool.owner(node.frame()) != index)
      return r.broken("I4: block %llu: its frame on node %u belongs to another block", at, n);
    if ((node.dirty & ~node.valid) != 0)
      return r.broken("block %llu: pages 0x%x dirty on node %u, valid 0x%x", at, node.dirty, n, node.valid);
    if ((node.dirty & b.node(host_node).valid & ~busy) != 0)
      return r.broken("block %llu: pages 0x%x dirty on node %u although the host has them", at, node.dirty, n);
    if (!node.has_frame() && (node.pinned & b.allocated) != 0)
      return r.broken("I5: block %llu: pinned on node %u without a frame", at, n);
  }
  const page_mask host_valid = b.node(host_node).valid;
  if ((b.readable & ~host_valid & ~busy) != 0)
    return r.broken("I3: block %llu: CPU maps 0x%x, valid on the host 0x%x", at, b.readable, host_valid);
  if ((b.node(host_node).writable & ~b.readable) != 0)
    return r.broken("I3: block %llu: CPU may write 0x%x, maps 0x%x", at, b.node(host_node).writable, b.readable);
  if ((host_valid & ~b.backed) != 0)
    return r.broken("block %llu: pages 0x%x valid on the host without memory", at, host_valid & ~b.backed);
  if (b.host_memory != registration::none && b.backed != all_pages)
    return r.broken("block %llu: its host memory is registered, and pages 0x%x of it do not exist", at, ~b.backed);
  const page_mask nomap = ~valid & ~busy;
  if ((nomap & (b.readable | b.backed)) != 0)
    return r.broken("I6: block %llu: pages 0x%x are NOMAP but mapped or backed", at, nomap & (b.readable | b.backed));
  page_mask kept = b.backed | b.readable | b.willneed | valid;
  for (unsigned n = 0; n < vm.nodes; ++n) kept |= b.node(n).pinned | b.node(n).dirty;
  if (at_rest && (kept & ~b.allocated) != 0)
    return r.broken("block %llu: pages 0x%x are nobody's and something of them is kept", at, kept & ~b.allocated);
  if ((b.starts & ~b.allocated) != 0)
    return r.broken("block %llu: allocations start at pages 0x%x, which are nobody's", at, b.starts & ~b.allocated);
  if (leases != b.leases) return r.broken("block %llu: %u leases counted, %u recorded", at, leases, b.leases);
  if (b.leases != 0 && !leased_pages_are_there(vm, index, b, busy))
    return r.broken("I5: block %llu: an open scope's pages are not on its node", at);
  return true;
}

bool validate(vm_object& vm, bool at_rest, char* why, std::size_t why_bytes) {
  const report r{why, why_bytes};
  std::uint64_t backed = 0;
  for (block_index index; index.value < vm.table.blocks(); ++index) {
    block* b = vm.table.find(index);
    if (b == nullptr) {
      index.value += page_table::blocks_per_chunk - 1 - index.value % page_table::blocks_per_chunk;
      continue;
    }
    block_guard guard(b->lock);
    if (!validate_block_locked(vm, index, *b, at_rest, why, why_bytes)) return false;
    backed += count_pages(b->backed);
  }
  for (unsigned n = 1; n < vm.nodes; ++n) {
    const frame_pool& pool = vm.device(n).pool;
    if (!pool.validate()) return r.broken("F1/F2: the frame pool of node %u is inconsistent", n);
    if (at_rest && !frames_are_held(vm, n, r)) return false;
  }
  if (at_rest && backed != vm.host.used())
    return r.broken("host pages: blocks hold %llu, charged are %llu", static_cast<unsigned long long>(backed),
                    static_cast<unsigned long long>(vm.host.used()));
  return true;
}

}  // namespace gm
