// SPDX-License-Identifier: Apache-2.0
#include "fault/condemned.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "platform/clock.h"

namespace gm {
namespace {

byte_range os_page(std::uint64_t offset) {
  const std::uint64_t begin = round_down(offset, os_page_bytes);
  return {begin, begin + os_page_bytes};
}

bool send_sigbus(thread_id thread, void* address) {
  siginfo_t info{};
  info.si_signo = SIGBUS;
  info.si_code = sent_by_gmem;
  info.si_addr = address;
  return syscall(SYS_rt_tgsigqueueinfo, getpid(), thread, SIGBUS, &info) == 0;
}

// Our signal may come while its thread is in here, with the lock held: then the handler keeps out.
[[gnu::tls_model("initial-exec")]] thread_local constinit volatile bool inside = false;

class keep_signal_out {
 public:
  keep_signal_out() { inside = true; }
  keep_signal_out(const keep_signal_out&) = delete;
  keep_signal_out& operator=(const keep_signal_out&) = delete;
  ~keep_signal_out() { inside = false; }
};

}  // namespace

bool condemned::ask_thread(thread_id thread, void* address) {
  return fault_signals_in_place() && send_sigbus(thread, address);
}

condemned::entry* condemned::of_thread_locked(thread_id thread) {
  for (entry& e : entries_)
    if (e.at != step::none && e.thread == thread) return &e;
  return nullptr;
}

// Null when all are in use. What has led nowhere for long makes room first.
condemned::entry* condemned::take_locked(thread_id thread, std::uint64_t page, std::uint64_t now_ns) {
  for (entry& e : entries_) {
    if (e.at != step::none && !e.poisons() && now_ns - e.since_ns > forgotten_ns) free_locked(e);
    if (e.at != step::none) continue;
    e = {.offset = page, .thread = thread, .serial = ++serial_, .poisoned_ns = poisoned_ns};
    active_.fetch_add(1, std::memory_order_relaxed);
    return &e;
  }
  return nullptr;
}

void condemned::free_locked(entry& e) {
  e.at = step::none;
  active_.fetch_sub(1, std::memory_order_relaxed);
}

condemned::step condemned::advance_locked(entry& e) {
  switch (e.at) {
    case step::none:
      return step::suspected;
    case step::suspected:
      return step::asked;
    case step::asked:
    case step::poisoned_call:  // somebody has healed the page before the thread came back to it
      return step::poisoned_call;
    case step::in_program:
    case step::poisoned_program:
    case step::sentenced:
      return step::poisoned_program;
  }
  return step::suspected;
}

void condemned::offends(std::uint64_t offset, thread_id thread, offence what, std::uint32_t memory_seen) {
  const keep_signal_out guard_against_it;
  const byte_range page = os_page(offset);
  const std::uint64_t now = now_ns();
  step next = step::none;
  std::uint32_t serial = 0;
  bool heal_other = false;
  byte_range other{};
  {
    lock_guard guard(lock_);
    entry* e = of_thread_locked(thread);
    if (e != nullptr && e->offset != page.begin) {
      heal_other = e->poisons();
      other = os_page(e->offset);
      free_locked(*e);
      e = nullptr;
    }
    if (e == nullptr) e = take_locked(thread, page.begin, now);
    if (e != nullptr) {
      next = e->at = advance_locked(*e);
      e->what = what;
      e->memory_seen = memory_seen;
      e->since_ns = now;
      serial = e->serial;
    }
  }
  if (heal_other) (void)vm_.cpu->drop(other);
  if (next == step::asked && !ask_(thread, vm_.memory.user(page.begin))) {
    // Nothing to be learned: the poison itself is what is met, and the watch heals it if it was a system call.
    lock_guard guard(lock_);
    if (entry* e = of_thread_locked(thread); e != nullptr && e->serial == serial) e->at = step::in_program;
  }
  if (next == step::poisoned_call || next == step::poisoned_program) poison(page.begin, thread, serial);
  vm_.cpu->wake(page);
  if (next != step::none) work_.happened();
}

void condemned::poison(std::uint64_t page, thread_id thread, std::uint32_t serial) {
  const bool done = vm_.cpu->poison(page);
  bool is_ours = false;
  bool sentence_it = false;
  {
    lock_guard guard(lock_);
    entry* e = of_thread_locked(thread);
    is_ours = e != nullptr && e->serial == serial;
    sentence_it = is_ours && !done && e->at == step::poisoned_program;
    if (sentence_it) e->at = step::sentenced;
  }
  // Healed while it was being poisoned: what came first must not win.
  if (done && !is_ours) (void)vm_.cpu->drop(os_page(page));
  if (sentence_it) (void)send_sigbus(thread, vm_.memory.user(page));
}

// The world may have changed since the fault was read; this thread's own access happens now.
bool condemned::still_guilty(std::uint64_t offset, cpu_access access, const entry& e) const {
  const page_index page = page_of(offset);
  const page_mask bit = one_page(page_in_block(page));
  block* b = vm_.table.find(block_of(page));
  if (b == nullptr) return e.what == offence::wild;
  block_guard guard(b->lock);
  if (e.what == offence::wild) return (b->allocated & bit) == 0;
  using verdict = lease_table::verdict;
  const verdict now = b->leases == 0
                          ? verdict::free
                          : vm_.leases.cpu_verdict(page, access, this_thread(), vm_.running_unit(this_thread()));
  const bool allowed = ((access == cpu_access::write ? b->host().writable : b->readable) & bit) != 0;
  const bool coming = (b->busy.load(std::memory_order_relaxed) & bit) != 0;
  switch (e.what) {
    case offence::wild:
      break;
    case offence::own_scope:
      return now == verdict::own;
    case offence::own_stream:
      return now == verdict::own_stream;
    case offence::circle:
      return now == verdict::circle;
    case offence::no_memory:
      return !allowed && !coming && vm_.starved.now() == e.memory_seen;
    case offence::failed_copy:
      return !allowed && !coming;
  }
  return true;
}

signal_verdict condemned::sentence(std::uint64_t offset, offence what) const {
  const void* address = vm_.memory.user(offset);
  const thread_id self = this_thread();
  switch (what) {
    case offence::wild:
      log_line(log_level::error,
               "thread %d touched %p, which is in gmem's arena but not allocated (never was, or was freed): SIGSEGV",
               self, address);
      return signal_verdict::wild;
    case offence::own_scope:
      log_line(log_level::error,
               "thread %d touched %p while it has a scope open over that page, and would have waited for itself for "
               "ever: SIGBUS. Call gm_access_end first (allocations up to 32 KiB share pages of 64 KiB)",
               self, address);
      break;
    case offence::own_stream:
      log_line(
          log_level::error,
          "thread %d runs a kernel or a call of a stream and touched %p, the host's address of memory that a scope "
          "of that stream covers; the scope ends behind this work, which would have waited for itself for ever: "
          "SIGBUS. Kernels use the address that gm_device_pointer (gm::device_pointer) gives",
          self, address);
      break;
    case offence::circle:
      log_line(log_level::error,
               "thread %d touched %p, which a scope that is open in another thread covers, and that thread waits for a "
               "scope that this one has open: all of them would have waited for ever: SIGBUS. End one's own scopes "
               "before touching memory in others'",
               self, address);
      break;
    case offence::no_memory:
      log_line(
          log_level::error,
          "thread %d touched %p, and there is no host memory for the page (GM_HOST_BUDGET, or the system's): SIGBUS",
          self, address);
      break;
    case offence::failed_copy:
      log_line(log_level::error, "thread %d touched %p, and the page could not be brought to the host: SIGBUS", self,
               address);
      break;
  }
  return signal_verdict::bus_error;
}

signal_verdict condemned::verdict(std::uint64_t offset, cpu_access access) {
  if (inside) return signal_verdict::try_again;
  const byte_range page = os_page(offset);
  entry mine;
  {
    const keep_signal_out guard_against_it;
    lock_guard guard(lock_);
    if (entry* e = of_thread_locked(this_thread()); e != nullptr) {
      if (e->offset == page.begin && e->at == step::asked) {
        e->at = step::in_program;
        return signal_verdict::try_again;
      }
      mine = *e;
      free_locked(*e);
    }
  }
  (void)vm_.cpu->drop(page);
  if (mine.poisons() && mine.offset != page.begin) (void)vm_.cpu->drop(os_page(mine.offset));
  const bool met = mine.at == step::poisoned_program || mine.at == step::sentenced;
  return met && mine.offset == page.begin && still_guilty(offset, access, mine) ? sentence(offset, mine.what)
                                                                                : signal_verdict::try_again;
}

void condemned::forget(thread_id thread) {
  const keep_signal_out guard_against_it;
  byte_range page{};
  {
    lock_guard guard(lock_);
    entry* e = of_thread_locked(thread);
    if (e == nullptr) return;
    if (e->poisons()) page = os_page(e->offset);
    free_locked(*e);
  }
  if (page.end != 0) (void)vm_.cpu->drop(page);
}

void condemned::heal(byte_range range) {
  if (active_.load(std::memory_order_relaxed) == 0) return;
  const keep_signal_out guard_against_it;
  std::uint64_t pages[capacity];
  unsigned count = 0;
  {
    lock_guard guard(lock_);
    for (entry& e : entries_) {
      if (e.at == step::none || e.offset < range.begin || e.offset >= range.end) continue;
      if (e.poisons()) pages[count++] = e.offset;
      free_locked(e);
    }
  }
  for (unsigned i = 0; i < count; ++i) (void)vm_.cpu->drop(os_page(pages[i]));
}

void condemned::heal_overdue(std::uint64_t now_ns) {
  const keep_signal_out guard_against_it;
  std::uint64_t pages[capacity];
  unsigned count = 0;
  {
    lock_guard guard(lock_);
    for (entry& e : entries_) {
      if (e.at == step::none || now_ns < e.since_ns) continue;
      if (e.poisons() && now_ns - e.since_ns >= e.poisoned_ns) {
        pages[count++] = e.offset;
        e.at = e.at == step::poisoned_call ? step::asked : step::in_program;
        e.poisoned_ns = std::min(2 * e.poisoned_ns, forgotten_ns);
        e.since_ns = now_ns;
      } else if (!e.poisons() && now_ns - e.since_ns >= forgotten_ns) {
        free_locked(e);
      }
    }
  }
  for (unsigned i = 0; i < count; ++i) (void)vm_.cpu->drop(os_page(pages[i]));
}

}  // namespace gm
