// SPDX-License-Identifier: Apache-2.0
#include "migrate/host_pages.h"

#include <cstring>

#include "base/check.h"

namespace gm {
namespace {

// Does each run in turn and stops at the first failure. done(run) records a run that went well.
template <typename Act, typename Done>
status for_runs(const vm_object& vm, block_index index, page_mask pages, Act act, Done done) {
  status result = status::ok;
  for_each_run(pages, [&](unsigned first, unsigned count) {
    if (result != status::ok) return;
    result = act(vm.bytes_of(index, first, count));
    if (result == status::ok) done(pages_between(first, first + count));
  });
  return result;
}

status over_budget(const vm_object& vm) {
  const std::uint64_t bytes = vm.host.limit() * page_bytes;
  return fail(status::no_memory, "the host budget of %llu bytes is exhausted (GM_HOST_BUDGET)",
              static_cast<unsigned long long>(bytes));
}

}  // namespace

status back_host_pages_locked(vm_object& vm, block_index index, block& b, page_mask pages) {
  const page_mask missing = pages & ~b.backed;
  if (missing == no_pages) return status::ok;
  if (!vm.host.charge(count_pages(missing))) return over_budget(vm);
  const status s = for_runs(
      vm, index, missing, [&](byte_range r) { return vm.memory.populate(r); }, [](page_mask) {});
  if (s == status::ok) {
    b.backed |= missing;
    return s;
  }
  // All or nothing: a page that is backed and valid nowhere would be neither NOMAP nor the host's.
  for_each_run(missing,
               [&](unsigned first, unsigned count) { (void)vm.memory.punch(vm.bytes_of(index, first, count)); });
  vm.uncharge_host(count_pages(missing));
  return s;
}

status revoke_cpu_locked(vm_object& vm, block_index index, block& b, page_mask pages) {
  return for_runs(
      vm, index, pages & b.readable, [&](byte_range r) { return vm.cpu->drop(r); },
      [&](page_mask run) {
        b.readable &= ~run;
        b.host().writable &= ~run;
      });
}

status write_protect_cpu_locked(vm_object& vm, block_index index, block& b, page_mask pages) {
  return for_runs(
      vm, index, pages & b.host().writable, [&](byte_range r) { return vm.cpu->deny_write(r); },
      [&](page_mask run) { b.host().writable &= ~run; });
}

status grant_cpu_locked(vm_object& vm, block_index index, block& b, page_mask pages, page_mask writable) {
  // What is mapped read-only and may now be written.
  status s = for_runs(
      vm, index, pages & writable & b.readable & ~b.host().writable,
      [&](byte_range r) { return vm.cpu->allow_write(r); },
      [&](page_mask run) {
        b.host().writable |= run;
        b.parked &= ~run;
      });
  if (s != status::ok) return s;
  const page_mask absent = pages & ~b.readable;
  s = for_runs(
      vm, index, absent & writable, [&](byte_range r) { return vm.cpu->map(r, cpu_access::write); },
      [&](page_mask run) {
        b.readable |= run;
        b.host().writable |= run;
        b.parked &= ~run;
      });
  if (s != status::ok) return s;
  return for_runs(
      vm, index, absent & ~writable, [&](byte_range r) { return vm.cpu->map(r, cpu_access::read); },
      [&](page_mask run) {
        b.readable |= run;
        b.parked &= ~run;
      });
}

status grant_zero_pages_locked(vm_object& vm, block_index index, block& b, page_mask pages) {
  if (pages == no_pages) return status::ok;
  if (!vm.host.charge(count_pages(pages & ~b.backed))) return over_budget(vm);
  page_mask done = no_pages;
  const status s = for_runs(
      vm, index, pages, [&](byte_range r) { return vm.cpu->map_zero(r); },
      [&](page_mask run) {
        done |= run;
        b.backed |= run;
        b.readable |= run;
        b.host().valid |= run;
        b.host().writable |= run;
        b.parked &= ~run;
      });
  if (s == status::ok) return s;
  // The run that failed may be half there: it is taken out of the kernel's tables and of the memfd again.
  const page_mask left = pages & ~done;
  for_each_run(left, [&](unsigned first, unsigned count) { (void)vm.memory.punch(vm.bytes_of(index, first, count)); });
  vm.uncharge_host(count_pages(left));
  return s;
}

status drop_host_pages_locked(vm_object& vm, block_index index, block& b, page_mask pages) {
  GM_CHECK(b.host_memory == registration::none || (pages & b.backed) == no_pages);
  status s = for_runs(
      vm, index, pages & b.backed, [&](byte_range r) { return vm.memory.punch(r); },
      [&](page_mask run) {
        // Punching took them from the user mapping as well.
        b.readable &= ~run;
        b.host().writable &= ~run;
        b.host().valid &= ~run;
        b.backed &= ~run;
        vm.uncharge_host(count_pages(run));
      });
  return s;
}

}  // namespace gm
