// SPDX-License-Identifier: Apache-2.0
#include "fault/cpu_faults.h"

#include <algorithm>
#include <bit>

#include "evict/reclaim.h"
#include "migrate/host_pages.h"
#include "migrate/remapping.h"
#include "platform/clock.h"
#include "policy/placement.h"
#include "policy/policy_table.h"

namespace gm {
namespace {

// Moves that one fault begins: one for each device that holds part of the window. More wait for the next fault.
constexpr unsigned most_moves = 2;
// Times that a fault without host memory is served anew here before its handler sees to others.
constexpr unsigned most_tries = 8;

// Host pages to make room for at once: a small part of few, so that others' pages are not all gone with it.
std::uint64_t reclaim_at_once(const vm_object& vm) {
  return std::clamp<std::uint64_t>(vm.host.limit() / 8, 1, pages_per_block);
}

// Of pages, the `most` nearest to the touched one, which is among them.
page_mask nearest(page_mask pages, unsigned touched, std::uint64_t most) {
  while (count_pages(pages) > most) {
    const auto first = static_cast<unsigned>(std::countr_zero(pages));
    const auto last = static_cast<unsigned>(std::bit_width(pages)) - 1;
    pages &= ~one_page(touched - first > last - touched ? first : last);
  }
  return pages;
}

offence offence_of(status s) { return s == status::no_memory ? offence::no_memory : offence::failed_copy; }

}  // namespace

// What serving a fault has begun under the block's lock, to be submitted without it.
struct cpu_faults::begun_work {
  move* moves[most_moves] = {};
  homeward_copy_plan plans[most_moves];
  unsigned count = 0;
  remapping* taking = nullptr;
};

// Counted before anything is under way that could wake the thread.
void cpu_faults::park_locked(block& b, page_mask page) {
  b.parked |= page;
  vm_.stats.parked_faults.add();
}

// The kernel may have lost a page that the table says is mapped (it may reclaim page tables): it is mapped again, one
// OS page, as the table allows. Also wakes a thread whose fault another one's had served already.
void cpu_faults::repair_locked(block_index index, block& b, const cpu_fault& fault, page_mask page) {
  (void)index;
  const byte_range os_page{fault.offset, fault.offset + os_page_bytes};
  const bool writable = (b.host().writable & page) != 0;
  if (writable && fault.access == cpu_access::write) (void)vm_.cpu->allow_write(os_page);
  (void)vm_.cpu->map(os_page, writable ? cpu_access::write : cpu_access::read);
  vm_.cpu->wake(os_page);
}

// The pages to serve together with the touched one.
page_mask cpu_faults::window_locked(block_index index, const block& b, const cpu_fault& fault, page_mask page,
                                    page_mask unusable) {
  const page_index touched = page_of(fault.offset);
  const advice told = vm_.advices.at(touched);
  const page_mask own = same_allocation(b, page_in_block(touched));
  const auto first = static_cast<unsigned>(std::countr_zero(own));
  const std::uint64_t base = first_page(index).value;
  const fault_touch touch{.page = touched,
                          .first = {base + first},
                          .last = {base + first + count_pages(own)},
                          .begins = (b.starts & one_page(first)) != 0,
                          .pattern = told.pattern};
  const auto mask_of = [&](const fault_window& w) {
    return pages_between(page_in_block(w.first), static_cast<unsigned>(w.last.value - base));
  };
  // What a device has too stays there until it is written.
  const bool writes = fault.access == cpu_access::write;
  const page_mask shared = writes ? b.host().valid & valid_elsewhere(b, vm_.nodes, host_node) : no_pages;
  const bool writes_shared = (shared & page) != 0;
  const page_mask window = mask_of(writes_shared ? writes_.next(touch) : streams_.next(touch));
  // Beside a scope's pages only what was asked for is touched.
  if (b.leases != 0) return page;
  page_mask wanted = writes_shared ? window & shared : (fault_takes_block(told) ? own : window) & ~shared;
  // Neighbours in the same case: NOMAP pages only join other NOMAP pages, so that batching never makes memory that
  // nobody asked for out of a read of something else.
  const page_mask nomap = ~valid_anywhere(b, vm_.nodes);
  page_mask legal = own & ~unusable & (writes ? ~b.host().writable : ~b.readable);
  legal &= (nomap & page) != 0 ? nomap : ~nomap;
  const pages_question question{.page = touched,
                                .node = host_node,
                                .write = writes,
                                .told = told,
                                .requested = page,
                                .present = b.host().valid,
                                .elsewhere = valid_elsewhere(b, vm_.nodes, host_node),
                                .legal = legal};
  wanted = the_policy().pages(question, wanted);
  // Nor does it use up what is left of the budget: what was not asked for cannot be told from what was, and taken back.
  if ((nomap & page) != 0) {
    const std::uint64_t used = vm_.host.used();
    const std::uint64_t left = vm_.host.limit() - std::min(used, vm_.host.limit());
    wanted = nearest(wanted, page_in_block(touched), std::max<std::uint64_t>(left / 2, 1));
  }
  return wanted;
}

// Whether a block that kernels fetch on demand as well goes to and fro too often for neighbours to come along.
bool cpu_faults::keeps_to_page(block_index index, const block& b, const cpu_fault& fault, page_mask page) {
  bool on_demand = false;
  for (unsigned n = 1; n < vm_.nodes && thrash_ != nullptr; ++n)
    on_demand = on_demand || (vm_.map(n) != nullptr && vm_.map(n)->at(index).present != no_pages);
  const bool writes = fault.access == cpu_access::write;
  if (!on_demand || (valid_elsewhere(b, vm_.nodes, host_node) & page) == no_pages) return false;
  if (!writes && (b.host().valid & page) != no_pages) return false;
  const movement m{.block = index, .to = host_node, .write = writes, .now_ns = now_ns()};
  return bounces::keeps_from(thrash_->wanted(m, vm_.nodes), host_node);
}

// Where several devices have it, from one after the other; without a record for that the thread repeats its access.
cpu_faults::outcome cpu_faults::take_from_kernels_locked(block_index index, block& b, const cpu_fault& fault,
                                                         page_mask page, begun_work& begun) {
  const bool writes = fault.access == cpu_access::write;
  for (unsigned n = 1; n < vm_.nodes && begun.taking == nullptr; ++n) {
    access_map* map = vm_.map(n);
    if (map == nullptr || map->held_locked(index, writes ? page : page & map->at(index).writable) == no_pages) continue;
    begun.taking = begin_taking_locked(vm_, *map, moves_, index, b,
                                       {.pages = page, .wish = writes ? cpu_wish::write : cpu_wish::read});
    break;
  }
  if (begun.taking == nullptr) {
    vm_.cpu->wake({fault.offset, fault.offset + os_page_bytes});
    return outcome::served;
  }
  park_locked(b, page);
  return outcome::wait_copy;
}

cpu_faults::outcome cpu_faults::serve_locked(block_index index, block& b, const cpu_fault& fault, page_mask page,
                                             offence& why, begun_work& begun) {
  if ((b.allocated & page) == 0) {
    why = offence::wild;
    return outcome::offending;
  }
  const page_mask busy = b.busy.load(std::memory_order_relaxed);
  if ((busy & page) != 0) {
    park_locked(b, page);
    return outcome::wait_copy;
  }
  const page_mask allowed = fault.access == cpu_access::write ? b.host().writable : b.readable;
  if ((allowed & page) != 0) {
    vm_.stats.spurious_faults.add();
    repair_locked(index, b, fault, page);
    return outcome::served;
  }
  page_mask read_only = no_pages;
  if (b.leases != 0) {
    const page_index touched = page_of(fault.offset);
    switch (vm_.leases.admit_cpu(touched, fault.access, fault.thread, vm_.running_unit(fault.thread))) {
      case lease_table::verdict::free:
        break;
      case lease_table::verdict::wait:
        park_locked(b, page);
        return outcome::wait_scope;
      case lease_table::verdict::own:
        why = offence::own_scope;
        return outcome::offending;
      case lease_table::verdict::own_stream:
        why = offence::own_stream;
        return outcome::offending;
      case lease_table::verdict::circle:
        why = offence::circle;
        return outcome::offending;
    }
    // A page that a scope reads may be read here too, but not written.
    if (vm_.leases.cpu_verdict(touched, cpu_access::write, 0) != lease_table::verdict::free) read_only = page;
  }

  page_mask window = keeps_to_page(index, b, fault, page) ? page : window_locked(index, b, fault, page, busy);
  // Kernels that run may be using pages of it: the touched one is taken from them, the others stay.
  const page_mask used = held_by_kernels_locked(vm_, index, window, host_node, fault.access == cpu_access::read);
  if ((used & page) != 0) return take_from_kernels_locked(index, b, fault, page, begun);
  window &= ~used;
  const page_mask here = window & b.host().valid;
  const page_mask nomap = window & ~valid_anywhere(b, vm_.nodes);
  page_mask remote = window & ~here & ~nomap;

  if (here != no_pages) {
    if (fault.access == cpu_access::write) make_exclusive_locked(vm_, index, b, host_node, here);
    const page_mask alone = here & ~valid_elsewhere(b, vm_.nodes, host_node) & ~read_only;
    if (const status s = grant_cpu_locked(vm_, index, b, here, alone); s != status::ok) {
      why = offence_of(s);
      return outcome::offending;
    }
  }
  if (nomap != no_pages) {
    status s = grant_zero_pages_locked(vm_, index, b, nomap);
    if (s != status::ok && nomap != page && (nomap & page) != 0) s = grant_zero_pages_locked(vm_, index, b, page);
    if (s != status::ok) {
      why = offence_of(s);
      return outcome::offending;
    }
    if ((nomap & page & read_only) != 0) (void)write_protect_cpu_locked(vm_, index, b, page);
    b.willneed &= ~nomap;
  }
  for (unsigned n = 1; n < vm_.nodes && remote != no_pages && begun.count < most_moves; ++n) {
    const page_mask from_here = remote & b.node(n).valid;
    if (from_here == no_pages) continue;
    move* m = moves_.take(true);
    if (m == nullptr) break;  // moves in flight come back; the access is repeated until then
    move_request request{.destination = host_node, .source = n};
    status s = status::ok;
    // All of the window, or, without the memory for that, what was asked for.
    for (const page_mask pages : {from_here, from_here & page}) {
      if (pages == no_pages || (s != status::ok && pages == request.pages)) continue;
      request.pages = request.grant = pages;
      request.exclusive = fault.access == cpu_access::write ? pages : no_pages;
      s = begin_move_locked(vm_, index, b, request, *m, begun.plans[begun.count]);
      if (s != status::no_memory) break;
    }
    if (s != status::ok) {
      moves_.give_back(m);
      if ((from_here & page) == 0) continue;
      why = offence_of(s);
      return outcome::offending;
    }
    begun.moves[begun.count++] = m;
    remote &= ~request.pages;
  }
  if ((b.busy.load(std::memory_order_relaxed) & page) != 0) {
    park_locked(b, page);
    return outcome::wait_copy;
  }
  if ((remote & page) != 0) vm_.cpu->wake({fault.offset, fault.offset + os_page_bytes});
  return outcome::served;
}

cpu_faults::outcome cpu_faults::serve(const cpu_fault& fault, offence& why) {
  const block_index index = block_of(fault.offset);
  const page_mask page = one_page(page_in_block(page_of(fault.offset)));
  block* b = vm_.table.find(index);
  if (b == nullptr) {
    why = offence::wild;
    return outcome::offending;
  }
  for (unsigned tries = 1;; ++tries) {
    const std::uint32_t seen = vm_.starved.now();
    begun_work begun;
    outcome result{};
    {
      block_guard guard(b->lock);
      result = serve_locked(index, *b, fault, page, why, begun);
    }
    if (begun.taking != nullptr) (void)submit_remapping(begun.taking);  // refused: the thread is woken, and tries again
    for (unsigned i = 0; i < begun.count; ++i) {
      // A refused copy has been cancelled, which woke the thread; failing for ever would spin, so it is an offence.
      if (submit_move(moves_, begun.moves[i], begun.plans[i], nullptr) != status::ok && result == outcome::wait_copy) {
        why = offence::failed_copy;
        result = outcome::offending;
      }
    }
    if (result != outcome::offending || why != offence::no_memory) return result;
    result = find_host_memory(fault, seen);
    if (result != outcome::served) return result;
    if (tries == most_tries) {
      vm_.cpu->wake({fault.offset, fault.offset + os_page_bytes});
      return result;
    }
  }
}

// There was no memory for the page, at some time after the starved count was `seen`. served: there may be now.
// Without a lock. What holds memory at that time either is in the table, where we look after that and may take it, or
// is on its way: under way when we begin or end looking, or ended meanwhile, which raises the count.
cpu_faults::outcome cpu_faults::find_host_memory(const cpu_fault& fault, std::uint32_t seen) {
  const bool beside_streams = vm_.running_unit(fault.thread).stream == nullptr;
  bool coming = host_memory_is_coming(vm_, beside_streams);
  if (reclaim_host_pages(vm_, reclaim_at_once(vm_)) != 0) return outcome::served;
  coming = coming || host_memory_is_coming(vm_, beside_streams);
  if (vm_.starved.now() != seen) return outcome::served;
  if (!coming) return outcome::offending;
  vm_.stats.parked_faults.add();
  return vm_.starved.park(seen, fault.offset) ? outcome::wait_memory : outcome::served;
}

void cpu_faults::handle(const cpu_fault& fault) {
  const std::uint64_t start = now_ns();
  vm_.stats.node[host_node].faults.add();
  const std::uint32_t memory_seen = vm_.starved.now();
  offence why{};
  if (serve(fault, why) == outcome::offending)
    offenders_.offends(fault.offset, fault.thread, why, memory_seen);
  else
    offenders_.went_on(fault.thread);
  vm_.stats.fault_time_ns.add(now_ns() - start);
}

signal_verdict cpu_faults::handle_in_line(const cpu_fault& fault) {
  const std::uint64_t start = now_ns();
  vm_.stats.node[host_node].faults.add();
  signal_verdict verdict = signal_verdict::try_again;
  for (;;) {
    const std::uint32_t seen = vm_.leases.changes().now();
    const std::uint32_t memory_seen = vm_.starved.now();
    offence why{};
    const outcome result = serve(fault, why);
    if (result == outcome::served) break;
    if (result == outcome::offending) {
      verdict = offenders_.sentence(fault.offset, why);
      break;
    }
    if (result == outcome::wait_copy) {
      // The move's end has mapped the page, under the lock, or the access faults again and is served anew.
      block& b = vm_.table.at(block_of(fault.offset));
      wait_while_busy(b, one_page(page_in_block(page_of(fault.offset))));
      const block_guard mapped(b.lock);
      break;
    }
    if (result == outcome::wait_memory)
      vm_.starved.wait_past(memory_seen);
    else
      vm_.leases.changes().wait_past(seen);
  }
  vm_.stats.fault_time_ns.add(now_ns() - start);
  return verdict;
}

}  // namespace gm
