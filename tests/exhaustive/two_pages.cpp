// SPDX-License-Identifier: Apache-2.0
#include "exhaustive/two_pages.h"

#include <cstring>

#include "evict/room.h"

namespace gm::test {
namespace {

std::uint64_t word(const std::byte* at) {
  std::uint64_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return value;
}

void set_word(std::byte* at, std::uint64_t value) { std::memcpy(at, &value, sizeof value); }

// Places between the words.
constexpr std::array<std::size_t, 4> fill_at = {8, 4096, page_size - 4096, page_size - 9};

std::string hex(std::uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace

std::string to_string(const step& s) {
  static constexpr const char* names[] = {"cpu_read", "cpu_write", "host_prefetch", "discard", "read",
                                          "update",   "overwrite", "prefetch",      "evict"};
  std::string text = names[static_cast<unsigned>(s.what)];
  if (s.what != act::device_evict) text += s.page == 0 ? " P" : " Q";
  if (s.device != 0) text += " on " + std::to_string(s.device);
  return text;
}

two_pages::two_pages(placement where) : where_(where) {
  for (unsigned d = 1; d <= device_count; ++d)
    EXPECT_EQ(gm_stream_create(static_cast<int>(d), &streams_[d]), GM_OK) << gm_last_error();
}

two_pages::~two_pages() {
  release();
  for (gm_stream s : streams_) EXPECT_EQ(gm_stream_destroy(s), GM_OK) << gm_last_error();
}

void two_pages::allocate() {
  release();
  switch (where_) {
    case placement::same_extent:
      allocations_[0] = gm_calloc(2, page_size);
      break;
    case placement::shared_block:
      for (void*& a : allocations_) a = gm_calloc(1, page_size);
      break;
    case placement::two_blocks:
      allocations_[0] = gm_calloc(2, block_size);
      break;
    case placement::two_allocations:
      for (void*& a : allocations_) a = gm_calloc(1, block_size);
      break;
  }
  pages_ = {};
  pages_[0].bytes = static_cast<std::byte*>(allocations_[0]);
  if (where_ == placement::two_blocks) pages_[0].bytes += block_size - page_size;
  pages_[1].bytes = allocations_[1] != nullptr ? static_cast<std::byte*>(allocations_[1]) : pages_[0].bytes + page_size;
}

void two_pages::forget() {
  for (page& p : pages_) {
    if (p.protocol.valid != 0) EXPECT_EQ(gm_discard(p.bytes, page_size), GM_OK) << gm_last_error();
    p.protocol = {};
    p.now = {};
  }
}

void two_pages::release() {
  for (void*& a : allocations_) {
    gm_free(a);
    a = nullptr;
  }
}

bool two_pages::wrong(const std::string& what) {
  why_ = what;
  return false;
}

bool two_pages::looks_like(const std::byte* bytes, const contents& c) const {
  bool same = true;
  for (std::size_t i = 0; i < word_at.size(); ++i) same = same && word(bytes + word_at[i]) == c.words[i];
  for (const std::size_t at : fill_at) same = same && bytes[at] == std::byte{c.fill};
  return same;
}

two_pages::contents two_pages::changed(const contents& from) {
  contents to = from;
  ++values_;
  to.words[values_ % word_at.size()] = values_;
  return to;
}

void two_pages::run_kernel(void* self, std::size_t, std::size_t) {
  auto* k = static_cast<kernel*>(self);
  k->seen_right = true;
  if (k->what != act::device_overwrite)
    for (std::size_t i = 0; i < word_at.size(); ++i)
      if (word(k->page + word_at[i]) != k->before.words[i]) k->seen_right = false;
  if (k->what == act::device_overwrite) std::memset(k->page, k->after.fill, page_size);
  if (k->what != act::device_read)
    for (std::size_t i = 0; i < word_at.size(); ++i) set_word(k->page + word_at[i], k->after.words[i]);
}

bool two_pages::run_scope(const step& s) {
  page& p = pages_[s.page];
  const gm_stream stream = streams_[s.device];
  const gm_mode mode = s.what == act::device_read ? GM_READ : s.what == act::device_update ? GM_READ_WRITE : GM_WRITE;
  const gm_access access{p.bytes, page_size, mode};
  gm_scope scope = nullptr;
  if (gm_access_begin(stream, &access, 1, &scope) != GM_OK) return wrong(std::string("begin: ") + gm_last_error());
  kernel k{static_cast<std::byte*>(gm_device_pointer(p.bytes, static_cast<int>(s.device))), p.now, p.now, s.what,
           false};
  if (s.what == act::device_overwrite) {
    ++values_;
    k.after.fill = static_cast<std::uint8_t>(values_);
    k.after.words = {values_, values_ + 1, values_ + 2};
  } else if (s.what == act::device_update) {
    k.after = changed(p.now);
  }
  const gm_status launched = gm_stream_launch(stream, 1, run_kernel, nullptr, &k);
  if (gm_access_end(scope) != GM_OK) return wrong(std::string("end: ") + gm_last_error());
  if (launched != GM_OK || gm_stream_synchronize(stream) != GM_OK)
    return wrong(std::string("kernel: ") + gm_last_error());
  p.now = k.after;
  if (s.what == act::device_read)
    p.protocol.read(s.device);
  else
    p.protocol.write(s.device);
  return k.seen_right || wrong("the kernel saw other contents");
}

bool two_pages::evict(unsigned device) {
  runtime* rt = running();
  device_node& d = rt->vm.device(device);
  lock_guard guard(d.admission);
  if (make_room(rt->vm, rt->moves, d, d.pool.capacity()) != status::ok)
    return wrong(std::string("evict: ") + last_error());
  for (page& p : pages_) p.protocol.evict(device);
  return true;
}

bool two_pages::perform(const step& s) {
  page& p = pages_[s.page];
  switch (s.what) {
    case act::cpu_read:
      if (!looks_like(p.bytes, p.now)) return wrong("the CPU saw other contents");
      p.protocol.read(0);
      return true;
    case act::cpu_write: {
      const contents after = changed(p.now);
      const std::size_t which = values_ % word_at.size();
      set_word(p.bytes + word_at[which], after.words[which]);
      p.now = after;
      p.protocol.write(0);
      return true;
    }
    case act::host_prefetch:
      if (gm_prefetch(p.bytes, page_size, GM_HOST, nullptr) != GM_OK)
        return wrong(std::string("prefetch: ") + gm_last_error());
      p.protocol.read(0);
      return true;
    case act::discard:
      if (gm_discard(p.bytes, page_size) != GM_OK) return wrong(std::string("discard: ") + gm_last_error());
      p.protocol.discard();
      p.now = {};
      return true;
    case act::device_prefetch:
      if (gm_prefetch(p.bytes, page_size, static_cast<int>(s.device), nullptr) != GM_OK)
        return wrong(std::string("prefetch: ") + gm_last_error());
      p.protocol.read(s.device);
      return true;
    case act::device_evict:
      return evict(s.device);
    case act::device_read:
    case act::device_update:
    case act::device_overwrite:
      return run_scope(s);
  }
  return false;
}

bool two_pages::check_page(unsigned which) {
  const page& p = pages_[which];
  const std::string name = which == 0 ? "P: " : "Q: ";
  gm_mapping m{};
  if (gm_query(p.bytes, &m) != GM_OK) return wrong(name + gm_last_error());
  if (m.page != p.bytes) return wrong(name + "gm_query names another page");
  const reference_page& r = p.protocol;
  if (m.valid_nodes != r.valid) return wrong(name + "valid on " + hex(m.valid_nodes) + ", should be " + hex(r.valid));
  if (!r.writer_may_be(m.writer))
    return wrong(name + "writer " + std::to_string(m.writer) + ", should be " + std::to_string(r.writer));
  std::uint32_t flags = r.dirty ? GM_PAGE_DIRTY : 0u;
  if (r.valid == 0) flags |= GM_PAGE_NOMAP;
  if ((r.valid & 1) != 0) flags |= GM_PAGE_CPU;
  if ((r.valid & ~1u) != 0) flags |= GM_PAGE_DEVICE;
  if (m.flags != flags) return wrong(name + "flags " + hex(m.flags) + ", should be " + hex(flags));

  // Every copy that is called current is.
  const vm_object& vm = running()->vm;
  const std::uint64_t offset = vm.memory.offset_of(p.bytes);
  if ((r.valid & 1) != 0 && !looks_like(static_cast<const std::byte*>(vm.memory.alias(offset)), p.now))
    return wrong(name + "the host's copy has other contents");
  for (unsigned d = 1; d <= device_count; ++d) {
    if ((r.valid >> d & 1) == 0) continue;
    const std::uint64_t address = vm.table.at(block_of(offset)).node(d).address + offset % block_bytes;
    if (!looks_like(reinterpret_cast<const std::byte*>(address), p.now))
      return wrong(name + "the copy on device " + std::to_string(d) + " has other contents");
  }
  return true;
}

bool two_pages::check() {
  for (unsigned which = 0; which < pages_.size(); ++which)
    if (!check_page(which)) return false;
  char text[512] = "";
  return debug_validate(text, sizeof text) || wrong(text);
}

}  // namespace gm::test
