// SPDX-License-Identifier: Apache-2.0
#include "fault/condemned.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

namespace gm {
namespace {

byte_range os_page(std::uint64_t offset) {
  const std::uint64_t begin = round_down(offset, os_page_bytes);
  return {begin, begin + os_page_bytes};
}

void send_sigbus(thread_id thread, void* address) {
  siginfo_t info{};
  info.si_signo = SIGBUS;
  info.si_code = sent_by_gmem;
  info.si_addr = address;
  syscall(SYS_rt_tgsigqueueinfo, getpid(), thread, SIGBUS, &info);
}

}  // namespace

bool condemned::suspected_before(std::uint64_t offset, thread_id thread) {
  const std::uint64_t page = os_page(offset).begin;
  lock_guard guard(lock_);
  for (entry& e : suspects_) {
    if (!e.active || e.offset != page || e.thread != thread) continue;
    e.active = false;
    return true;
  }
  suspects_[next_suspect_++ % capacity] = {page, thread, offence::wild, true};
  return false;
}

// The world may have changed since the fault was read; this thread's own access happens now.
bool condemned::still_guilty(std::uint64_t offset, cpu_access access, offence what) const {
  const page_index page = page_of(offset);
  const page_mask bit = one_page(page_in_block(page));
  block* b = vm_.table.find(block_of(page));
  if (b == nullptr) return what == offence::wild;
  block_guard guard(b->lock);
  switch (what) {
    case offence::wild:
      return (b->allocated & bit) == 0;
    case offence::own_scope:
      return b->leases != 0 && vm_.leases.cpu_verdict(page, access, this_thread()) == lease_table::verdict::own;
    case offence::no_memory:
    case offence::failed_copy:
      return ((access == cpu_access::write ? b->host().writable : b->readable) & bit) == 0;
  }
  return true;
}

void condemned::condemn(std::uint64_t offset, thread_id thread, offence what) {
  const byte_range page = os_page(offset);
  std::uint64_t healed = 0;
  bool heal_one = false;
  {
    lock_guard guard(lock_);
    entry& e = entries_[next_++ % capacity];
    if (e.active) {
      healed = e.offset;
      heal_one = true;
    } else {
      active_.fetch_add(1, std::memory_order_relaxed);
    }
    e = {page.begin, thread, what, true};
  }
  if (heal_one) (void)vm_.cpu->drop(os_page(healed));
  if (!vm_.cpu->poison(page.begin)) send_sigbus(thread, vm_.memory.user(page.begin));
}

signal_verdict condemned::sentence(std::uint64_t offset, offence what) const {
  const void* address = vm_.memory.user(offset);
  switch (what) {
    case offence::wild:
      log_line(log_level::error,
               "thread %d touched %p, which is in gmem's arena but not allocated (never was, or was freed): SIGSEGV",
               this_thread(), address);
      return signal_verdict::wild;
    case offence::own_scope:
      log_line(log_level::error,
               "thread %d touched %p while it has a scope open over that page, and would have waited for itself for "
               "ever: SIGBUS. Call gm_access_end first",
               this_thread(), address);
      return signal_verdict::bus_error;
    case offence::no_memory:
      log_line(
          log_level::error,
          "thread %d touched %p, and there is no host memory for the page (GM_HOST_BUDGET, or the system's): SIGBUS",
          this_thread(), address);
      return signal_verdict::bus_error;
    case offence::failed_copy:
      log_line(log_level::error, "thread %d touched %p, and the page could not be brought to the host: SIGBUS",
               this_thread(), address);
      return signal_verdict::bus_error;
  }
  return signal_verdict::bus_error;
}

signal_verdict condemned::verdict(std::uint64_t offset, cpu_access access) {
  const byte_range page = os_page(offset);
  const thread_id self = this_thread();
  bool mine = false;
  offence what = offence::wild;
  {
    lock_guard guard(lock_);
    for (entry& e : entries_) {
      if (!e.active || e.offset != page.begin) continue;
      if (e.thread == self) {
        mine = true;
        what = e.what;
      }
      // Another thread's sentence on the same page comes when that thread faults again.
      e.active = false;
      active_.fetch_sub(1, std::memory_order_relaxed);
    }
  }
  (void)vm_.cpu->drop(page);
  return mine && still_guilty(offset, access, what) ? sentence(offset, what) : signal_verdict::try_again;
}

void condemned::heal(byte_range range) {
  if (active_.load(std::memory_order_relaxed) == 0) return;
  std::uint64_t pages[capacity];
  unsigned count = 0;
  {
    lock_guard guard(lock_);
    for (entry& e : entries_) {
      if (!e.active || e.offset < range.begin || e.offset >= range.end) continue;
      e.active = false;
      active_.fetch_sub(1, std::memory_order_relaxed);
      pages[count++] = e.offset;
    }
  }
  for (unsigned i = 0; i < count; ++i) (void)vm_.cpu->drop(os_page(pages[i]));
}

}  // namespace gm
