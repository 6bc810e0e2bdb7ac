// SPDX-License-Identifier: Apache-2.0
// program.cpp - what the program knows and checks; what it does is in program_steps.cpp.
#include "model/program.h"

#include <unistd.h>

#include <cstdarg>
#include <cstdio>

#include "model/peek.h"

namespace gm::test {

namespace {

constexpr std::size_t notes_max = 60;

std::uintptr_t block_start(const std::uint8_t* p) {
  return reinterpret_cast<std::uintptr_t>(p) / block_size * block_size;
}

}  // namespace

program::program(const flavour& f, std::uint64_t seed) : flavour_(f), seed_(seed), random_(seed) {
  nodes_ = static_cast<unsigned>(gm_node_count());
  for (unsigned node = 1; node < nodes_; ++node)
    for (int i = 0; i < 2; ++i) {
      stream made;
      made.node = node;
      if (gm_stream_create(static_cast<int>(node), &made.handle) != GM_OK) wrong("no stream");
      streams_.push_back(made);
    }
  gm_node_info info{};
  (void)gm_node_info_get(1, &info);
  capacity_ = info.budget_bytes / block_size;
  if (pipe(pipe_) != 0) wrong("no pipe");
}

program::~program() {
  for (const open_scope& o : open_) (void)gm_access_end(o.scope);
  for (const stream& s : streams_) {
    (void)gm_stream_synchronize(s.handle);
    EXPECT_EQ(gm_stream_destroy(s.handle), GM_OK) << gm_last_error();
  }
  for (const allocation& a : allocations_) gm_free(a.base);
  close(pipe_[0]);
  close(pipe_[1]);
}

bool program::run(std::uint64_t steps) {
  for (std::uint64_t i = 0; i < steps && failure_.empty(); ++i) {
    ++steps_done_;
    if (!step()) break;
    char why[512] = "";
    if (!debug_validate(why, sizeof why)) wrong(why);
  }
  if (failure_.empty()) quiet();
  return failure_.empty();
}

std::string program::failure() const {
  char head[160];
  std::snprintf(head, sizeof head, "\nGM_TEST_SEED=%llu, flavour %s, step %llu\nlast steps:\n",
                static_cast<unsigned long long>(seed_), flavour_.name, static_cast<unsigned long long>(steps_done_));
  std::string text = failure_ + head;
  for (const std::string& n : notes_) text += "  " + n + "\n";
  for (const allocation& a : allocations_) {
    char line[96];
    std::snprintf(line, sizeof line, "  #%u at %p, 0x%zx bytes\n", a.number, static_cast<void*>(a.base), a.bytes());
    text += line;
  }
  return text + table_;
}

bool program::wrong(const std::string& what) {
  if (failure_.empty()) {
    failure_ = what;
    table_ = table_dump();
  }
  return false;
}

void program::note(const char* format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (notes_.size() == notes_max) notes_.erase(notes_.begin());
  notes_.emplace_back(text);
}

std::string program::name(const range& r) const {
  static constexpr const char* modes[] = {"", "read", "write", "read_write"};
  char text[96];
  std::snprintf(text, sizeof text, "#%u[0x%zx, 0x%zx) %s", r.in->number, r.begin, r.begin + r.bytes, modes[r.mode]);
  return text;
}

// ---- What the oracle knows ---------------------------------------------------------------------------------------

// The frames that a scope needs: with a window those of its ranges, without one those of the whole allocations.
std::set<std::uintptr_t> program::frames_of(const std::vector<range>& ranges) const {
  std::set<std::uintptr_t> blocks;
  for (const range& r : ranges) {
    const std::uint8_t* begin = flavour_.window ? r.pointer() : r.in->base;
    const std::uint8_t* end = flavour_.window ? r.pointer() + r.bytes : r.in->base + r.in->bytes();
    for (std::uintptr_t b = block_start(begin); b < reinterpret_cast<std::uintptr_t>(end); b += block_size)
      blocks.insert(b);
  }
  return blocks;
}

// What cannot be evicted. uncertain: there may be more.
std::set<std::uintptr_t> program::frames_held(unsigned node, bool& uncertain) const {
  std::set<std::uintptr_t> blocks;
  for (const open_scope& o : open_) {
    if (streams_[o.stream].node != node) continue;
    uncertain = uncertain || o.lost_memory;
    blocks.merge(frames_of(o.ranges));
  }
  for (const allocation& a : allocations_)
    for (std::size_t page = 0; page < a.pins.size(); ++page) {
      if ((a.pins[page] >> node & 1) == 0) continue;
      blocks.insert(block_start(a.base + page * page_size));
      if (!flavour_.window) uncertain = true;
    }
  return blocks;
}

bool program::own_scope_conflicts(const range& r) const {
  for (const open_scope& o : open_)
    for (const range& held : o.ranges) {
      if (held.in != r.in || (held.mode == GM_READ && r.mode == GM_READ)) continue;
      if (held.first_page() <= r.last_page() && r.first_page() <= held.last_page()) return true;
    }
  return false;
}

bool program::pinned(const range& r, std::uint64_t nodes) const {
  for (std::size_t page = r.first_page(); page <= r.last_page(); ++page)
    if ((r.in->pins[page] & nodes) != 0) return true;
  return false;
}

program::may program::expected_of(const std::vector<range>& ranges, unsigned node) const {
  for (const range& r : ranges)
    if (own_scope_conflicts(r) || (node != GM_HOST && pinned(r, 1))) return may::be_busy;
  if (node == GM_HOST) return may::work;
  std::set<std::uintptr_t> frames = frames_of(ranges);
  bool uncertain = false;
  std::set<std::uintptr_t> held = frames_held(node, uncertain);
  // Without a window, pieces that cannot move may leave no neighbouring frames.
  if (!flavour_.window && !held.empty()) uncertain = true;
  frames.merge(held);
  return frames.size() > capacity_ || uncertain ? may::lack_memory : may::work;
}

bool program::agrees(may expected, gm_status got, const char* call) {
  const bool good = expected == may::work          ? got == GM_OK
                    : expected == may::lack_memory ? got == GM_OK || got == GM_ERROR_NO_MEMORY
                                                   : got == GM_ERROR_BUSY || got == GM_ERROR_NO_MEMORY;
  if (good) return true;
  static constexpr const char* words[] = {"work", "work or lack memory", "be busy"};
  return wrong(std::string(call) + " must " + words[static_cast<unsigned>(expected)] + " and gave " +
               gm_status_string(got) + " (" + (got != GM_OK ? gm_last_error() : "") + ")");
}

// ---- Checks ------------------------------------------------------------------------------------------------------

bool program::same(const std::uint8_t* seen, const range& r, const char* who) {
  if (std::memcmp(seen, r.expected(), r.bytes) == 0) return true;
  std::size_t at = 0;
  while (seen[at] == r.expected()[at]) ++at;
  std::size_t count = 0;
  for (std::size_t i = at; i < r.bytes; ++i) count += seen[i] != r.expected()[i] ? 1 : 0;
  char text[160];
  std::snprintf(text, sizeof text, "%s: %zu bytes differ, the first at 0x%zx is 0x%02x and should be 0x%02x", who,
                count, r.begin + at, seen[at], r.expected()[at]);
  return wrong(text + (" in " + name(r)));
}

bool program::kernels_were_right() {
  for (const auto& k : kernels_) {
    if (!k->finished.load()) return wrong("a kernel has not run although its stream is idle");
    if (!k->ran.load()) return wrong("a kernel was skipped");
    if (k->wrong.load() != 0) return wrong(k->message());
  }
  kernels_.clear();
  for (const auto& b : buffers_)
    if (!b->expected.empty() && b->expected != b->bytes) return wrong("a queued copy out of managed memory is wrong");
  buffers_.clear();
  return true;
}

bool program::copies_are_right(const allocation& a) {
  const std::string what = peek(a.base, a.now.data(), a.bytes());
  return what.empty() || wrong("#" + std::to_string(a.number) + ": " + what);
}

bool program::contents_are_right(const allocation& a) {
  const range whole{const_cast<allocation*>(&a), 0, a.bytes(), GM_READ};
  return same(a.base, whole, "the CPU at rest");
}

bool program::quiet() {
  note("quiet");
  while (!open_.empty())
    if (!close_scope(open_.size() - 1)) return false;
  for (const stream& s : streams_)
    if (gm_stream_synchronize(s.handle) != GM_OK) return wrong(std::string("synchronize: ") + gm_last_error());
  if (!kernels_were_right()) return false;
  char why[512] = "";
  if (!debug_settle(60 * second_ns)) return wrong("moves, scopes or frees never end");
  if (!debug_validate_at_rest(why, sizeof why)) return wrong(why);
  for (const allocation& a : allocations_) {
    if (!copies_are_right(a)) return false;
    if (random_.chance(20) && !contents_are_right(a)) return false;
  }
  gm_stats stats{};
  stats.size = sizeof stats;
  if (gm_stats_get(&stats) != GM_OK || stats.allocations != allocations_.size())
    return wrong("gm_stats counts other allocations");
  if (!debug_settle(60 * second_ns)) return wrong("moves, scopes or frees never end");
  return debug_validate_at_rest(why, sizeof why) || wrong(why);
}

}  // namespace gm::test
