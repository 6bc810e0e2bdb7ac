// SPDX-License-Identifier: Apache-2.0
// program_steps.cpp - the steps a program draws from.
#include <unistd.h>

#include "malloc/object_heap.h"
#include "model/program.h"

namespace gm::test {
namespace {

constexpr std::size_t allocations_max = 10;
constexpr std::size_t scopes_open_max = 2;

}  // namespace

program::allocation* program::any_allocation() {
  if (allocations_.empty()) return nullptr;
  auto it = allocations_.begin();
  std::advance(it, static_cast<long>(random_.below(allocations_.size())));
  return &*it;
}

// A few bytes, a part, whole pages, or everything.
program::range program::any_range(allocation* a, gm_mode mode) {
  const std::size_t bytes = a->bytes();
  range r{a, 0, bytes, mode};
  switch (random_.below(6)) {
    case 0:
      r.begin = random_.below(bytes);
      r.bytes = std::min<std::size_t>(bytes - r.begin, random_.between(1, 64));
      break;
    case 1:
    case 2:
      r.begin = random_.below(bytes);
      r.bytes = std::min<std::size_t>(bytes - r.begin, random_.between(1, 3 * page_size));
      break;
    case 3:
    case 4:
      r.begin = random_.below((bytes + page_size - 1) / page_size) * page_size;
      r.bytes = std::min<std::size_t>(bytes - r.begin, random_.between(1, 4) * page_size);
      break;
    default:
      break;
  }
  return r;
}

gm_stream program::any_stream(unsigned node) {
  if (random_.chance(50)) return nullptr;
  for (;;) {
    const stream& s = streams_[random_.below(streams_.size())];
    if (node == GM_HOST || s.node == node) return s.handle;
  }
}

bool program::step() {
  struct choice {
    unsigned weight;
    bool (program::*take)();
  };
  static constexpr choice choices[] = {
      {6, &program::allocate},      {4, &program::release},        {2, &program::resize},  {14, &program::cpu_read},
      {14, &program::cpu_write},    {3, &program::through_a_pipe}, {24, &program::scope},  {8, &program::end_scope},
      {8, &program::prefetch},      {8, &program::advise},         {5, &program::discard}, {4, &program::pin},
      {9, &program::copy},          {5, &program::fill},           {4, &program::query},   {2, &program::residency},
      {2, &program::bad_arguments}, {4, &program::synchronize},    {2, &program::quiet},
  };
  unsigned total = 0;
  for (const choice& c : choices) total += c.weight;
  std::uint64_t drawn = random_.below(total);
  for (const choice& c : choices) {
    if (drawn < c.weight) return (this->*c.take)();
    drawn -= c.weight;
  }
  return true;
}

// ---- Memory ------------------------------------------------------------------------------------------------------

bool program::allocate() {
  if (allocations_.size() >= allocations_max) return true;
  std::size_t bytes = 0;
  switch (random_.below(8)) {
    case 0:
      bytes = random_.between(1, 300);
      break;
    case 1:
      bytes = block_size * random_.between(1, 2);
      break;
    case 2:
      bytes = block_size + random_.below(block_size);
      break;
    default:
      bytes = random_.between(1, 12 * page_size);
      break;
  }
  // Small ones by an alignment that gives them pages of their own: what shares a page is no part of this model.
  const bool is_small = bytes <= largest_object;
  const std::uint64_t how = is_small ? 2 : random_.below(3);
  const std::size_t alignment = (is_small ? 2 * most_aligned_object : 16) << random_.below(is_small ? 10 : 19);
  void* made = how == 0 ? gm_calloc(bytes, 1) : how == 1 ? gm_malloc(bytes) : gm_aligned_alloc(alignment, bytes);
  note("#%u = %zu bytes, %s", next_number_, bytes, how == 0 ? "calloc" : how == 1 ? "malloc" : "aligned_alloc");
  if (made == nullptr) return wrong(std::string("allocation: ") + gm_last_error());
  if (how == 2 && reinterpret_cast<std::uintptr_t>(made) % alignment != 0) return wrong("the alignment is missed");
  if (bytes >= block_size && reinterpret_cast<std::uintptr_t>(made) % block_size != 0)
    return wrong("large memory is not aligned to a block");
  if (gm_usable_size(made) < bytes) return wrong("gm_usable_size is less than what was asked for");
  allocation& a = allocations_.emplace_back();
  a.base = static_cast<std::uint8_t*>(made);
  a.now.resize(bytes);
  a.pins.resize(gm_usable_size(made) / page_size);
  a.number = next_number_++;
  // malloc's contents are undefined until written.
  if (how != 0 && random_.chance(50)) {
    const std::uint64_t seed = random_.next();
    fill_with(a.now.data(), bytes, seed);
    fill_with(a.base, bytes, seed);
  } else if (how != 0) {
    if (gm_memset(a.base, 0, bytes, GM_HOST, nullptr) != GM_OK) return wrong(std::string("memset: ") + gm_last_error());
  }
  return true;
}

// The allocation is gone: scopes that are open over it hold something that has no name any more.
void program::forget(allocation* gone) {
  for (open_scope& o : open_)
    for (std::size_t i = o.ranges.size(); i-- > 0;) {
      if (o.ranges[i].in != gone) continue;
      o.ranges.erase(o.ranges.begin() + static_cast<long>(i));
      o.lost_memory = true;
    }
}

bool program::release() {
  allocation* a = any_allocation();
  if (a == nullptr || (allocations_.size() < 4 && random_.chance(70))) return true;
  note("free #%u", a->number);
  forget(a);
  gm_free(a->base);
  allocations_.remove_if([&](const allocation& each) { return &each == a; });
  return true;
}

bool program::resize() {
  allocation* a = any_allocation();
  if (a == nullptr) return true;
  std::size_t bytes = random_.between(1, std::min<std::size_t>(2 * a->bytes(), 2 * block_size));
  if (bytes < gm_usable_size(a->base) / 2) bytes = std::max(bytes, largest_object + 1);  // moves: see allocate()
  // All of it: a scope may still be open over what an earlier call cut off.
  range whole{a, 0, gm_usable_size(a->base), GM_READ_WRITE};
  const bool busy = own_scope_conflicts(whole);
  note("realloc #%u to %zu bytes", a->number, bytes);
  auto* made = static_cast<std::uint8_t*>(gm_realloc(a->base, bytes));
  if (made == nullptr) return busy || wrong(std::string("realloc: ") + gm_last_error());
  const bool moved = made != a->base;
  const std::size_t kept = std::min(bytes, a->bytes());
  if (moved) {
    a->pins.assign(gm_usable_size(made) / page_size, 0);
    if (!busy && !same(made, {a, 0, kept, GM_READ}, "after realloc")) return false;
  }
  a->base = made;
  a->now.resize(bytes);
  if (busy && moved) return wrong("realloc moved memory under an open scope");
  // What is new is undefined until written; it shares a page with what may be leased.
  if (bytes > kept) {
    if (busy) {
      a->now.resize(kept);
    } else {
      std::memset(made + kept, 0, bytes - kept);
    }
  }
  return true;
}

// ---- The CPU -----------------------------------------------------------------------------------------------------

bool program::cpu_read() {
  allocation* a = any_allocation();
  if (a == nullptr) return true;
  const range r = any_range(a, GM_READ);
  if (own_scope_conflicts(r)) return true;
  note("CPU reads %s", name(r).c_str());
  return same(r.pointer(), r, "the CPU");
}

bool program::cpu_write() {
  allocation* a = any_allocation();
  if (a == nullptr) return true;
  const range r = any_range(a, GM_WRITE);
  if (own_scope_conflicts(r)) return true;
  const std::uint64_t seed = random_.next();
  note("CPU writes %s", name(r).c_str());
  fill_with(r.expected(), r.bytes, seed);
  fill_with(r.pointer(), r.bytes, seed);
  return true;
}

// System calls on managed memory, wherever it is: thread mode only.
bool program::through_a_pipe() {
  if (std::string(flavour_.fault_mode) != "thread") return true;
  allocation* a = any_allocation();
  allocation* b = any_allocation();
  if (a == nullptr) return true;
  range from = any_range(a, GM_READ);
  range to = any_range(b, GM_WRITE);
  from.bytes = to.bytes = std::min<std::size_t>({from.bytes, to.bytes, 16384});
  const bool overlap = a == b && from.begin < to.begin + to.bytes && to.begin < from.begin + from.bytes;
  if (overlap || own_scope_conflicts(from) || own_scope_conflicts(to)) return true;
  note("write(2) %s, read(2) %s", name(from).c_str(), name(to).c_str());
  const auto bytes = static_cast<ssize_t>(from.bytes);
  if (write(pipe_[1], from.pointer(), from.bytes) != bytes) return wrong("write(2) from managed memory failed");
  if (read(pipe_[0], to.pointer(), from.bytes) != bytes) return wrong("read(2) into managed memory failed");
  std::memcpy(to.expected(), from.expected(), from.bytes);
  return same(to.pointer(), {to.in, to.begin, to.bytes, GM_READ}, "after read(2)");
}

// ---- Devices -----------------------------------------------------------------------------------------------------

bool program::scope() {
  std::vector<range> ranges;
  for (std::uint64_t left = random_.between(1, 3); left > 0 && !allocations_.empty(); --left) {
    const range r = any_range(any_allocation(), any_mode());
    bool overlaps = false;
    for (const range& other : ranges)
      overlaps =
          overlaps || (other.in == r.in && r.begin < other.begin + other.bytes && other.begin < r.begin + r.bytes);
    if (!overlaps) ranges.push_back(r);
  }
  if (ranges.empty()) return true;
  const auto which = static_cast<unsigned>(random_.below(streams_.size()));
  const stream& s = streams_[which];
  std::vector<gm_access> accesses;
  std::string text = "scope on stream " + std::to_string(which) + " of node " + std::to_string(s.node);
  for (const range& r : ranges) {
    accesses.push_back({r.pointer(), r.bytes, r.mode});
    text += ", " + name(r);
  }
  note("%s", text.c_str());
  const may expected = expected_of(ranges, s.node);
  gm_scope begun = nullptr;
  const gm_status got = gm_access_begin(s.handle, accesses.data(), accesses.size(), &begun);
  if (!agrees(expected, got, "gm_access_begin")) return false;
  if (got != GM_OK) {
    note("  -> %s", gm_status_string(got));
    return true;
  }

  auto kernel = std::make_unique<oracle_kernel>();
  for (const range& r : ranges) {
    oracle_kernel::piece p;
    p.device = static_cast<std::uint8_t*>(gm_device_pointer(r.pointer(), static_cast<int>(s.node)));
    if (p.device == nullptr) return wrong(std::string("no device pointer in a scope: ") + gm_last_error());
    p.bytes = r.bytes;
    p.mode = r.mode;
    p.seed = random_.next();
    if (r.mode != GM_WRITE) p.expected.assign(r.expected(), r.expected() + r.bytes);
    if (r.mode != GM_READ) fill_with(r.expected(), r.bytes, p.seed);
    kernel->pieces.push_back(std::move(p));
  }
  if (kernel->launch(s.handle) != GM_OK) return wrong(std::string("launch: ") + gm_last_error());
  kernels_.push_back(std::move(kernel));
  open_.push_back({begun, which, std::move(ranges)});
  if (open_.size() <= scopes_open_max && random_.chance(25)) return true;
  return close_scope(open_.size() - 1);
}

bool program::close_scope(std::size_t which) {
  note("  end of the scope on stream %u", open_[which].stream);
  const gm_status got = gm_access_end(open_[which].scope);
  open_.erase(open_.begin() + static_cast<long>(which));
  return got == GM_OK || wrong(std::string("gm_access_end: ") + gm_last_error());
}

bool program::end_scope() { return open_.empty() || close_scope(random_.below(open_.size())); }

bool program::synchronize() {
  note("synchronize");
  for (const stream& s : streams_)
    if (gm_stream_synchronize(s.handle) != GM_OK) return wrong(std::string("synchronize: ") + gm_last_error());
  return kernels_were_right();
}

// ---- Hints and movement ------------------------------------------------------------------------------------------

bool program::prefetch() {
  allocation* a = any_allocation();
  if (a == nullptr) return true;
  const range r = any_range(a, GM_READ);
  const unsigned node = any_node();
  gm_stream queue = any_stream(node);
  note("prefetch %s to %u%s", name(r).c_str(), node, queue != nullptr ? " in a stream" : "");
  const may expected = expected_of({r}, node);
  return agrees(expected, gm_prefetch(r.pointer(), r.bytes, static_cast<int>(node), queue), "gm_prefetch");
}

bool program::advise() {
  allocation* a = any_allocation();
  if (a == nullptr) return true;
  const range r = any_range(a, GM_READ);
  const auto advice = static_cast<gm_advice>(random_.between(GM_ADVISE_NORMAL, GM_ADVISE_COLD));
  const unsigned node = any_node();
  note("advice %d for %s, node %u", static_cast<int>(advice), name(r).c_str(), node);
  return agrees(may::work, gm_advise(r.pointer(), r.bytes, advice, static_cast<int>(node)), "gm_advise");
}

bool program::discard() {
  allocation* a = any_allocation();
  if (a == nullptr) return true;
  const range r = any_range(a, GM_WRITE);
  // Whole pages inside the range are what it is about.
  range whole = r;
  whole.begin = (r.begin + page_size - 1) / page_size * page_size;
  const std::size_t end = (r.begin + r.bytes) / page_size * page_size;
  whole.bytes = end > whole.begin ? end - whole.begin : 0;
  note("discard %s", name(r).c_str());
  may expected = may::work;
  if (whole.bytes != 0 && (own_scope_conflicts(whole) || pinned(whole, ~std::uint64_t{0}))) expected = may::be_busy;
  const gm_status got = gm_discard(r.pointer(), r.bytes);
  if (!agrees(expected, got, "gm_discard")) return false;
  if (got == GM_OK && whole.bytes != 0) std::memset(whole.expected(), 0, whole.bytes);
  return true;
}

bool program::pin() {
  allocation* a = any_allocation();
  if (a == nullptr) return true;
  range r = any_range(a, GM_READ);
  const unsigned node = any_node();
  const auto n = static_cast<int>(node);
  const std::uint64_t bit = std::uint64_t{1} << node;
  // Pins are rare and short, so that they are not all that is left of a small device.
  if (random_.chance(70) || pinned(r, ~std::uint64_t{0})) {
    r = {a, 0, gm_usable_size(a->base), GM_READ};
    note("unpin %s from %u", name(r).c_str(), node);
    for (std::uint64_t& pins : a->pins) pins &= ~bit;
    return agrees(may::work, gm_unpin(r.pointer(), r.bytes, n), "gm_unpin");
  }
  r.bytes = std::min(r.bytes, page_size);
  if (node == GM_HOST) r.mode = GM_READ_WRITE;
  note("pin %s to %u", name(r).c_str(), node);
  may expected = expected_of({r}, node);
  if (pinned(r, node == GM_HOST ? ~std::uint64_t{1} : 1)) expected = may::be_busy;
  const gm_status got = gm_pin(r.pointer(), r.bytes, n);
  if (!agrees(expected, got, "gm_pin")) return false;
  if (got != GM_OK) return true;
  for (std::size_t page = r.first_page(); page <= r.last_page(); ++page) a->pins[page] |= bit;
  return true;
}

bool program::copy() {
  allocation* a = any_allocation();
  allocation* b = any_allocation();
  if (a == nullptr) return true;
  const unsigned node = any_node();
  const auto n = static_cast<int>(node);
  gm_stream queue = any_stream(node);
  range to = any_range(a, GM_WRITE);
  range from = any_range(b, GM_READ);
  switch (random_.below(3)) {
    case 0: {
      from.bytes = to.bytes = std::min(from.bytes, to.bytes);
      const bool overlap = a == b && from.begin < to.begin + to.bytes && to.begin < from.begin + from.bytes;
      note("copy %s from %s by %u%s", name(to).c_str(), name(from).c_str(), node, queue != nullptr ? ", queued" : "");
      const gm_status got = gm_memcpy(to.pointer(), from.pointer(), to.bytes, n, queue);
      if (overlap) return got == GM_ERROR_INVALID_ARGUMENT || wrong("gm_memcpy took ranges that overlap");
      if (!agrees(expected_of({to, from}, node), got, "gm_memcpy")) return false;
      if (got == GM_OK) std::memcpy(to.expected(), from.expected(), to.bytes);
      return true;
    }
    case 1: {
      auto source = std::make_unique<plain_buffer>();
      source->bytes.resize(to.bytes);
      fill_with(source->bytes.data(), to.bytes, random_.next());
      note("copy %s from ordinary memory by %u%s", name(to).c_str(), node, queue != nullptr ? ", queued" : "");
      const gm_status got = gm_memcpy(to.pointer(), source->bytes.data(), to.bytes, n, queue);
      if (!agrees(expected_of({to}, node), got, "gm_memcpy")) return false;
      if (got == GM_OK) std::memcpy(to.expected(), source->bytes.data(), to.bytes);
      buffers_.push_back(std::move(source));
      return true;
    }
    default: {
      auto target = std::make_unique<plain_buffer>();
      target->bytes.resize(from.bytes);
      note("copy %s to ordinary memory by %u%s", name(from).c_str(), node, queue != nullptr ? ", queued" : "");
      const gm_status got = gm_memcpy(target->bytes.data(), from.pointer(), from.bytes, n, queue);
      if (!agrees(expected_of({from}, node), got, "gm_memcpy")) return false;
      if (got != GM_OK) return true;
      target->expected.assign(from.expected(), from.expected() + from.bytes);
      if (queue == nullptr && target->bytes != target->expected) return wrong("a copy out of managed memory is wrong");
      buffers_.push_back(std::move(target));
      return true;
    }
  }
}

bool program::fill() {
  allocation* a = any_allocation();
  if (a == nullptr) return true;
  const range r = any_range(a, GM_WRITE);
  const unsigned node = any_node();
  gm_stream queue = any_stream(node);
  const auto value = static_cast<int>(random_.below(256));
  note("fill %s by %u%s", name(r).c_str(), node, queue != nullptr ? ", queued" : "");
  const may expected = expected_of({r}, node);
  const gm_status got = gm_memset(r.pointer(), value, r.bytes, static_cast<int>(node), queue);
  if (!agrees(expected, got, "gm_memset")) return false;
  if (got == GM_OK) std::memset(r.expected(), value, r.bytes);
  return true;
}

// ---- Looking in, and what is refused -----------------------------------------------------------------------------

bool program::query() {
  allocation* a = any_allocation();
  if (a == nullptr) return true;
  const range r{a, random_.below(a->bytes()), 1, GM_READ_WRITE};
  gm_mapping m{};
  if (gm_query(r.pointer(), &m) != GM_OK) return wrong(std::string("gm_query: ") + gm_last_error());
  if (m.page != a->base + r.first_page() * page_size) return wrong("gm_query names another page");
  const bool cpu = (m.flags & GM_PAGE_CPU) != 0;
  const bool device = (m.flags & GM_PAGE_DEVICE) != 0;
  const bool nomap = (m.flags & GM_PAGE_NOMAP) != 0;
  if (cpu != ((m.valid_nodes & 1) != 0) || device != ((m.valid_nodes & ~1u) != 0) || nomap != (m.valid_nodes == 0))
    return wrong("gm_query's flags and valid_nodes disagree: " + name(r));
  if (((m.flags & GM_PAGE_PINNED) != 0) != pinned(r, ~std::uint64_t{0}))
    return wrong("gm_query's PINNED is wrong: " + name(r));
  if (own_scope_conflicts(r) && (m.flags & GM_PAGE_LEASED) == 0)
    return wrong("a leased page is not LEASED: " + name(r));
  return true;
}

bool program::residency() {
  allocation* a = any_allocation();
  if (a == nullptr) return true;
  const range r = any_range(a, GM_READ);
  const unsigned node = any_node();
  std::size_t resident = 0;
  if (gm_residency(r.pointer(), r.bytes, static_cast<int>(node), &resident) != GM_OK)
    return wrong(std::string("gm_residency: ") + gm_last_error());
  if (resident > r.bytes) return wrong("more is resident than there is");
  // What an open scope declares is on its node as soon as the copies before its work are done.
  for (const open_scope& o : open_) {
    const stream& on = streams_[o.stream];
    if (gm_stream_synchronize(on.handle) != GM_OK) return wrong(std::string("synchronize: ") + gm_last_error());
    for (const range& held : o.ranges) {
      if (gm_residency(held.pointer(), held.bytes, static_cast<int>(on.node), &resident) != GM_OK)
        return wrong(std::string("gm_residency: ") + gm_last_error());
      if (resident != held.bytes) return wrong("an open scope's range is not resident: " + name(held));
    }
  }
  return true;
}

bool program::bad_arguments() {
  allocation* a = any_allocation();
  if (a == nullptr) return true;
  note("bad arguments");
  void* p = a->base;
  const std::size_t usable = gm_usable_size(p);
  int here = 0;
  gm_scope scope = nullptr;
  gm_mapping m{};
  std::size_t resident = 0;
  const int no_node = static_cast<int>(nodes_);
  const gm_access nothing{p, 0, GM_READ};
  const gm_access no_mode{p, 1, static_cast<gm_mode>(0)};
  const gm_access too_long[] = {{p, 1, GM_READ}, {p, usable + 1, GM_READ}};
  const gm_access foreign{&here, sizeof here, GM_READ};
  const struct {
    const char* what;
    gm_status got;
    gm_status wanted;
  } calls[] = {
      {"begin of nothing", gm_access_begin(nullptr, nullptr, 1, &scope), GM_ERROR_INVALID_ARGUMENT},
      {"begin of no bytes", gm_access_begin(nullptr, &nothing, 1, &scope), GM_ERROR_INVALID_ARGUMENT},
      {"begin of no mode", gm_access_begin(nullptr, &no_mode, 1, &scope), GM_ERROR_INVALID_ARGUMENT},
      {"begin past the end", gm_access_begin(streams_[0].handle, too_long, 2, &scope), GM_ERROR_NOT_MANAGED},
      {"begin of foreign memory", gm_access_begin(nullptr, &foreign, 1, &scope), GM_ERROR_NOT_MANAGED},
      {"end of nothing", gm_access_end(nullptr), GM_ERROR_INVALID_ARGUMENT},
      {"prefetch past the end", gm_prefetch(p, usable + 1, 0, nullptr), GM_ERROR_NOT_MANAGED},
      {"prefetch of a huge range", gm_prefetch(p, ~std::size_t{0}, 0, nullptr), GM_ERROR_NOT_MANAGED},
      {"prefetch to nowhere", gm_prefetch(p, 1, no_node, nullptr), GM_ERROR_INVALID_ARGUMENT},
      {"advice for nowhere", gm_advise(p, 1, GM_ADVISE_WILLNEED, no_node), GM_ERROR_INVALID_ARGUMENT},
      {"discard of foreign memory", gm_discard(&here, 1), GM_ERROR_NOT_MANAGED},
      {"discard of null", gm_discard(nullptr, 1), GM_ERROR_INVALID_ARGUMENT},
      {"pin to nowhere", gm_pin(p, 1, -1), GM_ERROR_INVALID_ARGUMENT},
      {"copy of foreign memory", gm_memcpy(&here, &here + 1, 1, 0, nullptr), GM_ERROR_NOT_MANAGED},
      {"copy past the end", gm_memcpy(p, &here, usable + 1, 0, nullptr), GM_ERROR_NOT_MANAGED},
      {"fill of null", gm_memset(nullptr, 0, 1, 0, nullptr), GM_ERROR_INVALID_ARGUMENT},
      {"query of null", gm_query(nullptr, &m), GM_ERROR_INVALID_ARGUMENT},
      {"query of foreign memory", gm_query(&here, &m), GM_ERROR_NOT_MANAGED},
      {"residency nowhere", gm_residency(p, 1, no_node, &resident), GM_ERROR_INVALID_ARGUMENT},
      {"stream nowhere", gm_stream_create(0, nullptr), GM_ERROR_INVALID_ARGUMENT},
      {"start of what runs", gm_init(nullptr), GM_ERROR_INVALID_ARGUMENT},
      {"stop of what lives", gm_shutdown(), GM_ERROR_BUSY},
  };
  for (const auto& call : calls)
    if (call.got != call.wanted) return wrong(std::string(call.what) + " gave " + gm_status_string(call.got));
  if (gm_last_error()[0] == '\0') return wrong("a failing call left no message");
  if (gm_malloc(~std::size_t{0}) != nullptr || gm_calloc(~std::size_t{0} / 2, 3) != nullptr ||
      gm_aligned_alloc(24, 1) != nullptr)
    return wrong("an impossible allocation was made");
  return true;
}

}  // namespace gm::test
