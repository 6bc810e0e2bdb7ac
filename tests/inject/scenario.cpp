// SPDX-License-Identifier: Apache-2.0
#include "inject/scenario.h"

#include <algorithm>
#include <csignal>
#include <cstring>

#include "model/peek.h"

namespace gm::test {
namespace {

sigjmp_buf landing;
volatile sig_atomic_t may_land = 0;

void land(int number) {
  if (may_land == 0) {
    std::signal(number, SIG_DFL);
    return;
  }
  siglongjmp(landing, 1);
}

}  // namespace

void install_landing() { std::signal(SIGBUS, land); }

bool survives(const std::function<void()>& access) {
  if (sigsetjmp(landing, 1) != 0) {
    may_land = 0;
    return false;
  }
  may_land = 1;
  access();
  may_land = 0;
  return true;
}

void scenario::blame(const std::string& what) {
  if (wrong_.empty()) wrong_ = what + "\n" + table_dump();
}

// True when it worked; else the failure is a proper one and is noted.
bool scenario::worked(gm_status got, const char* what) {
  if (got == GM_OK) return true;
  const std::string message = gm_last_error();
  if (message.empty()) blame(std::string(what) + " failed without words");
  if (got != GM_ERROR_NO_MEMORY && got != GM_ERROR_DEVICE && got != GM_ERROR_SYSTEM)
    blame(std::string(what) + " gave " + gm_status_string(got) + ": " + message);
  failures_.push_back(std::string(what) + ": " + message);
  return false;
}

// Contents and table, in between.
void scenario::look(const char* after) {
  char why[512] = "";
  if (!debug_settle(20 * second_ns)) return blame(std::string("after ") + after + ": moves, scopes or frees never end");
  if (!debug_validate_at_rest(why, sizeof why)) return blame(std::string("after ") + after + ": " + why);
  for (const memory* m : live_) {
    const std::string what = peek(m->base, m->now.data(), m->bytes);
    if (!what.empty()) blame(std::string("after ") + after + ", " + m->name + ": " + what);
  }
}

// ---- Steps -------------------------------------------------------------------------------------------------------

void scenario::allocate(memory& m) {
  for (int attempt = 0; attempt < 2 && m.base == nullptr; ++attempt) {
    m.base = static_cast<std::uint8_t*>(gm_calloc(m.bytes, 1));
    if (m.base == nullptr) worked(GM_ERROR_NO_MEMORY, "gm_calloc");
    look("gm_calloc");
  }
  if (m.base == nullptr) return blame("gm_calloc failed twice");
  m.now.assign(m.bytes, 0);
  live_.push_back(&m);
}

void scenario::release(memory& m) {
  gm_free(m.base);
  m.base = nullptr;
  live_.erase(std::find(live_.begin(), live_.end(), &m));
  look("gm_free");
}

void scenario::resize(memory& m, std::size_t bytes) {
  auto* moved = static_cast<std::uint8_t*>(gm_realloc(m.base, bytes));
  if (moved == nullptr) {
    worked(GM_ERROR_NO_MEMORY, "gm_realloc");
    return look("gm_realloc");
  }
  const std::size_t before = m.bytes;
  m.base = moved;
  m.bytes = bytes;
  m.now.resize(bytes);
  if (bytes > before) rewrite(m, before, bytes - before);
  look("gm_realloc");
}

void scenario::cpu_write(memory& m, std::size_t begin, std::size_t bytes) {
  const std::uint64_t seed = ++seed_;
  std::vector<std::uint8_t> what(bytes);
  fill_with(what.data(), bytes, seed);
  // An OS page at a time, so that what came before the failure is known.
  for (std::size_t at = 0; at < bytes;) {
    const std::size_t count = std::min(bytes - at, 4096 - (begin + at) % 4096);
    if (survives([&] { std::memcpy(m.base + begin + at, what.data() + at, count); })) {
      std::memcpy(m.now.data() + begin + at, what.data() + at, count);
      at += count;
    } else {
      failures_.emplace_back("SIGBUS on a CPU write");
      look("a SIGBUS");
      if (failures_.size() > 3) return blame("one failure and SIGBUS again and again");
    }
  }
}

void scenario::cpu_read(memory& m, std::size_t begin, std::size_t bytes) {
  for (std::size_t at = begin; at < begin + bytes;) {
    const std::size_t count = std::min(begin + bytes - at, 4096 - at % 4096);
    int different = 0;
    if (survives([&] { different = std::memcmp(m.base + at, m.now.data() + at, count); })) {
      if (different != 0) return blame(std::string(m.name) + ": the CPU saw other contents");
      at += count;
    } else {
      failures_.emplace_back("SIGBUS on a CPU read");
      look("a SIGBUS");
      if (failures_.size() > 3) return blame("one failure and SIGBUS again and again");
    }
  }
}

// Known contents where they are undefined.
void scenario::rewrite(memory& m, std::size_t begin, std::size_t bytes) { cpu_write(m, begin, bytes); }

bool scenario::synchronize(int node) { return worked(gm_stream_synchronize(stream(node)), "gm_stream_synchronize"); }

void scenario::scope(unsigned which, memory& m, std::size_t begin, std::size_t bytes, gm_mode mode) {
  const auto node = static_cast<int>(which);
  const gm_access access{m.base + begin, bytes, mode};
  gm_scope begun = nullptr;
  if (!worked(gm_access_begin(stream(node), &access, 1, &begun), "gm_access_begin")) return look("gm_access_begin");
  oracle_kernel kernel;
  oracle_kernel::piece p;
  p.device = static_cast<std::uint8_t*>(gm_device_pointer(m.base + begin, node));
  p.bytes = bytes;
  p.mode = mode;
  p.seed = ++seed_;
  if (mode != GM_WRITE) p.expected.assign(m.now.data() + begin, m.now.data() + begin + bytes);
  kernel.pieces.push_back(std::move(p));
  const bool launched = worked(kernel.launch(stream(node)), "gm_stream_launch");
  bool good = worked(gm_access_end(begun), "gm_access_end") && launched;
  good = synchronize(node) && good;
  if (launched && !kernel.finished.load()) blame("a kernel's finish was not called");
  if (good && !kernel.ran.load()) blame("a kernel did not run and nobody said so");
  if (kernel.wrong.load() != 0) blame(kernel.message());
  if (kernel.ran.load() && mode != GM_READ) {
    fill_with(m.now.data() + begin, bytes, seed_);
  } else if (!kernel.ran.load() && mode == GM_WRITE) {
    rewrite(m, begin, bytes);
  }
  look("a scope");
}

void scenario::prefetch(memory& m, int node, bool queued) {
  worked(gm_prefetch(m.base, m.bytes, node, queued ? stream(std::max(node, 1)) : nullptr), "gm_prefetch");
  if (queued) synchronize(std::max(node, 1));
  look("gm_prefetch");
}

void scenario::fill(memory& m, std::size_t begin, std::size_t bytes, int node, bool queued) {
  const auto value = static_cast<int>(++seed_ & 0xff);
  bool good =
      worked(gm_memset(m.base + begin, value, bytes, node, queued ? stream(std::max(node, 1)) : nullptr), "gm_memset");
  const bool accepted = good;
  if (queued) good = synchronize(std::max(node, 1)) && good;
  if (good)
    std::memset(m.now.data() + begin, value, bytes);
  else if (queued && accepted)
    rewrite(m, begin, bytes);  // queued work that failed: as with a scope's kernel
  look("gm_memset");
}

void scenario::copy(memory& to, memory& from, std::size_t bytes, int node, bool queued) {
  bool good =
      worked(gm_memcpy(to.base, from.base, bytes, node, queued ? stream(std::max(node, 1)) : nullptr), "gm_memcpy");
  const bool accepted = good;
  if (queued) good = synchronize(std::max(node, 1)) && good;
  if (good)
    std::memcpy(to.now.data(), from.now.data(), bytes);
  else if (queued && accepted)
    rewrite(to, 0, bytes);
  look("gm_memcpy");
}

void scenario::copy_in(memory& to, std::size_t begin, std::size_t bytes, int node) {
  std::vector<std::uint8_t> plain(bytes);
  fill_with(plain.data(), bytes, ++seed_);
  if (worked(gm_memcpy(to.base + begin, plain.data(), bytes, node, nullptr), "gm_memcpy"))
    std::memcpy(to.now.data() + begin, plain.data(), bytes);
  look("gm_memcpy");
  std::vector<std::uint8_t> seen(bytes);
  if (worked(gm_memcpy(seen.data(), to.base + begin, bytes, node, nullptr), "gm_memcpy") &&
      std::memcmp(seen.data(), to.now.data() + begin, bytes) != 0)
    blame("a copy to ordinary memory is wrong");
  look("gm_memcpy");
}

void scenario::pin(memory& m, std::size_t bytes, int node) {
  const bool pinned = worked(gm_pin(m.base, bytes, node), "gm_pin");
  gm_mapping seen{};
  if (gm_query(m.base, &seen) != GM_OK || ((seen.flags & GM_PAGE_PINNED) != 0) != pinned)
    blame("gm_pin and gm_query disagree");
  look("gm_pin");
  worked(gm_unpin(m.base, bytes, node), "gm_unpin");
}

void scenario::advise(memory& m, gm_advice what, int node) {
  worked(gm_advise(m.base, m.bytes, what, node), "gm_advise");
  look("gm_advise");
}

void scenario::discard(memory& m, std::size_t begin, std::size_t bytes) {
  if (worked(gm_discard(m.base + begin, bytes), "gm_discard")) {
    const std::size_t first = (begin + page_size - 1) / page_size * page_size;
    const std::size_t last = (begin + bytes) / page_size * page_size;
    if (last > first) std::memset(m.now.data() + first, 0, last - first);
  }
  look("gm_discard");
}

// The devices hold four frames each; five blocks go round.
void scenario::walk() {
  for (int node = 1; node <= 2; ++node) {
    gm_status made = gm_stream_create(node, &streams_[node]);
    if (!worked(made, "gm_stream_create")) made = gm_stream_create(node, &streams_[node]);
    if (made != GM_OK) return blame("gm_stream_create failed twice");
  }
  for (memory* m : {&small_, &odd_, &block_, &blocks_, &other_}) allocate(*m);

  cpu_write(small_, 100, 2 * page_size);
  cpu_write(block_, 0, block_size);
  cpu_read(odd_, 0, odd_.bytes);  // zero pages
  scope(1, small_, 0, small_.bytes, GM_READ);
  cpu_write(small_, page_size, 10);  // an upgrade; the device loses its copy
  scope(1, small_, 10, page_size + 10, GM_READ_WRITE);
  scope(2, small_, 0, small_.bytes, GM_READ);  // from device to device
  cpu_read(small_, 0, small_.bytes);           // both ways
  scope(2, blocks_, 0, blocks_.bytes, GM_WRITE);
  scope(1, blocks_, 5 * page_size, block_size, GM_READ_WRITE);
  scope(1, block_, 0, block_.bytes, GM_READ_WRITE);
  scope(1, other_, 100, block_size - 200, GM_WRITE);
  scope(1, odd_, 0, odd_.bytes, GM_READ_WRITE);
  scope(1, blocks_, 0, blocks_.bytes, GM_READ_WRITE);  // evicts, writing back
  cpu_read(block_, 0, block_.bytes);
  prefetch(block_, 1, false);
  prefetch(block_, 2, true);
  prefetch(blocks_, 0, true);
  prefetch(other_, 0, false);
  fill(other_, 0, other_.bytes, 1, false);
  fill(other_, 50, 2 * page_size, 2, true);
  fill(other_, 3 * page_size, page_size, 0, false);
  fill(other_, 5 * page_size, page_size + 1, 0, true);
  copy(block_, other_, block_size, 1, false);
  copy(block_, small_, small_.bytes, 2, true);
  copy(block_, odd_, odd_.bytes, 0, false);
  copy(block_, odd_, odd_.bytes, 0, true);
  copy_in(small_, 10, 2 * page_size, 1);
  copy_in(small_, 10, 2 * page_size, 0);
  pin(small_, small_.bytes, 0);
  pin(small_, page_size, 1);
  for (const gm_advice what : {GM_ADVISE_READ_MOSTLY, GM_ADVISE_SEQUENTIAL, GM_ADVISE_NORMAL, GM_ADVISE_RANDOM,
                               GM_ADVISE_COLD, GM_ADVISE_NORMAL})
    advise(block_, what, 0);
  advise(blocks_, GM_ADVISE_ACCESSED_BY, 2);
  advise(other_, GM_ADVISE_WILLNEED, 2);
  advise(other_, GM_ADVISE_WILLNEED, 0);
  discard(other_, 100, 10 * page_size);
  discard(blocks_, 0, blocks_.bytes);
  scope(2, other_, 0, other_.bytes, GM_READ_WRITE);  // NOMAP pages are filled on the device
  resize(odd_, 20 * page_size);
  resize(block_, block_size / 4);
  cpu_read(other_, 0, other_.bytes);
  cpu_write(blocks_, block_size - page_size, 2 * page_size);

  for (memory* m : {&small_, &odd_, &block_, &blocks_, &other_})
    if (m->base != nullptr) cpu_read(*m, 0, m->bytes);
  while (!live_.empty()) release(*live_.back());
  for (int node = 1; node <= 2; ++node) worked(gm_stream_destroy(streams_[node]), "gm_stream_destroy");
}

}  // namespace gm::test
