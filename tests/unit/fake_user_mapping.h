// SPDX-License-Identifier: Apache-2.0
// fake_user_mapping.h - a model of the kernel's page tables of a small arena, in place of userfaultfd.
//
//   absent --map(read)--> read_only --allow_write--> writable       drop: absent, from anywhere
//   absent --map(write), map_zero--> writable --deny_write--> read_only
// As the kernel does it: map needs the memfd's pages; map_zero makes those that are missing and passes over the others;
// mapped pages stay as they are; a punched page is mapped no more (seen at the next call or question). Each call can be
// made to fail, and may then have done a part: the OS pages before `partly`.
// Threads: any, one lock.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "platform/arena.h"
#include "platform/user_mapping.h"
#include "vm/vm_object.h"

namespace gm::test {

enum class mapped : std::uint8_t { absent, read_only, writable };

class fake_user_mapping final : public user_mapping {
 public:
  enum call : std::uint8_t { calls_map, calls_map_zero, calls_allow, calls_deny, calls_drop, calls_ };

  explicit fake_user_mapping(const arena& memory) : memory_(memory), pages_(memory.bytes() / os_page_bytes) {}

  status map(byte_range range, cpu_access access) override {
    const std::scoped_lock guard(lock_);
    std::uint64_t last = 0;
    const status injected = begin(calls_map, range, last);
    for (std::uint64_t p = first_of(range); p < last; ++p) {
      if (!in_core_[p]) return fail(status::system, "the memfd has no such page");
      if (pages_[p] == mapped::absent) pages_[p] = access == cpu_access::write ? mapped::writable : mapped::read_only;
    }
    return injected == status::ok ? woken(range) : injected;
  }

  status map_zero(byte_range range) override {
    const std::scoped_lock guard(lock_);
    std::uint64_t last = 0;
    const status injected = begin(calls_map_zero, range, last);
    for (std::uint64_t p = first_of(range); p < last; ++p) {
      if (in_core_[p]) continue;  // "exists": passed over, and not mapped
      *static_cast<volatile std::byte*>(memory_.alias(p * os_page_bytes)) = std::byte{0};
      pages_[p] = mapped::writable;
    }
    return injected == status::ok ? woken(range) : injected;
  }

  status allow_write(byte_range range) override {
    return change(calls_allow, range, mapped::read_only, mapped::writable, true);
  }
  status deny_write(byte_range range) override {
    return change(calls_deny, range, mapped::writable, mapped::read_only, false);
  }

  status drop(byte_range range) override {
    const std::scoped_lock guard(lock_);
    std::uint64_t last = 0;
    const status injected = begin(calls_drop, range, last);
    for (std::uint64_t p = first_of(range); p < last; ++p) pages_[p] = mapped::absent;
    return injected;
  }

  void wake(byte_range range) override {
    const std::scoped_lock guard(lock_);
    wakes_.push_back(range);
  }

  bool poison(std::uint64_t offset) override {
    if (at_poison) at_poison();
    const std::scoped_lock guard(lock_);
    poisoned_.push_back(offset);
    return can_poison;
  }

  // The n-th call from now fails, once, after doing `partly` OS pages of its range.
  void fail_nth(call which, unsigned n, std::uint64_t partly = 0) {
    left_[which] = n;
    partly_ = partly;
  }

  mapped at(std::uint64_t offset) {
    const std::scoped_lock guard(lock_);
    look_at_memfd();
    return pages_[offset / os_page_bytes];
  }
  // All OS pages of the page alike? Then what they are.
  mapped page_at(page_index page) {
    const std::scoped_lock guard(lock_);
    look_at_memfd();
    const mapped* const first = &pages_[offset_of(page) / os_page_bytes];
    for (const mapped* p = first; p != first + page_bytes / os_page_bytes; ++p)
      EXPECT_EQ(*p, *first) << "page " << page.value << " is mapped in part";
    return *first;
  }
  bool woke(std::uint64_t offset) {
    const std::scoped_lock guard(lock_);
    for (const byte_range& r : wakes_)
      if (r.begin <= offset && offset < r.end) return true;
    return false;
  }
  void forget_wakes() {
    const std::scoped_lock guard(lock_);
    wakes_.clear();
  }
  std::vector<std::uint64_t> poisoned() {
    const std::scoped_lock guard(lock_);
    return poisoned_;
  }
  unsigned calls(call which) const { return counts_[which]; }

  // The kernel may let the CPU do less than the table says, never more.
  void expect_no_more_than(const vm_object& vm) {
    const std::scoped_lock guard(lock_);
    look_at_memfd();
    for (std::size_t p = 0; p < pages_.size(); ++p) {
      if (pages_[p] == mapped::absent) continue;
      const page_index page = page_of(p * os_page_bytes);
      const block& b = vm.table.at(block_of(page));
      const page_mask bit = one_page(page_in_block(page));
      EXPECT_NE(b.readable & bit, 0U) << "page " << page.value << " is mapped and the table does not know";
      if (pages_[p] == mapped::writable) EXPECT_NE(b.host().writable & bit, 0U) << "page " << page.value;
    }
  }

  bool can_poison = true;
  std::function<void()> at_poison;  // what happens meanwhile

 private:
  static std::uint64_t first_of(byte_range range) { return range.begin / os_page_bytes; }

  // Counts the call and looks at the memfd. last: how far the call gets, in OS pages.
  status begin(call which, byte_range range, std::uint64_t& last) {
    EXPECT_EQ(range.begin % os_page_bytes, 0U);
    EXPECT_EQ(range.end % os_page_bytes, 0U);
    EXPECT_LT(range.begin, range.end) << "an empty range is EINVAL in the kernel";
    EXPECT_LE(range.end, memory_.bytes());
    look_at_memfd();
    ++counts_[which];
    last = range.end / os_page_bytes;
    if (left_[which] == 0 || --left_[which] != 0) return status::ok;
    last = std::min(last, first_of(range) + partly_);
    return fail(status::system, "the kernel refuses (fake)");
  }

  status change(call which, byte_range range, mapped from, mapped to, bool wakes) {
    const std::scoped_lock guard(lock_);
    std::uint64_t last = 0;
    const status injected = begin(which, range, last);
    for (std::uint64_t p = first_of(range); p < last; ++p)
      if (pages_[p] == from) pages_[p] = to;
    if (injected == status::ok && wakes) wakes_.push_back(range);
    return injected;
  }

  status woken(byte_range range) {
    wakes_.push_back(range);
    return status::ok;
  }

  void look_at_memfd() {
    in_core_.resize(pages_.size());
    mincore(memory_.alias(0), memory_.bytes(), in_core_.data());
    for (std::size_t p = 0; p < pages_.size(); ++p) {
      in_core_[p] &= 1;
      if (!in_core_[p]) pages_[p] = mapped::absent;
    }
  }

  const arena& memory_;
  std::mutex lock_;
  std::vector<mapped> pages_;
  std::vector<unsigned char> in_core_;
  std::vector<byte_range> wakes_;
  std::vector<std::uint64_t> poisoned_;
  std::array<unsigned, calls_> left_{};
  std::array<unsigned, calls_> counts_{};
  std::uint64_t partly_ = 0;
};

}  // namespace gm::test
