// SPDX-License-Identifier: Apache-2.0
// arena.h - the one range of addresses that managed memory comes from: a sparse memfd, mapped twice.
//
//   user mapping    the addresses the program uses. Registered with userfaultfd; only user_mapping.h maps pages here.
//   alias mapping   the same bytes elsewhere. The runtime and the copy engines use host pages only through it, so that
//                   a transfer never faults on its own memory.
// A host page exists in the memfd once it is populated (or first written through the alias) and until it is punched.
// The user mapping may be laid over addresses that a device has reserved as its window, so that a pointer is the same
// on both sides: the device's page tables and the CPU's are apart. The reservation is the device's, and gets them back.
// mlockall(MCL_FUTURE) does not reach either mapping: they are made unlocked, and empty (base/memory_file.h).
// Both mappings are MADV_DONTFORK and the memfd is close-on-exec: a child that touches the arena gets SIGSEGV.
// No locks: offsets are the caller's, whose block locks order what is done to one page.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "base/units.h"

namespace gm {

class arena {
 public:
  arena() = default;
  arena(const arena&) = delete;
  arena& operator=(const arena&) = delete;
  ~arena();

  // bytes: a multiple of block_bytes. user_base: where a device has reserved so many addresses, aligned to a block; 0:
  // anywhere. On failure nothing is mapped.
  status create(std::uint64_t bytes, std::uintptr_t user_base = 0);
  // As before create(). A device that lent its addresses has them back then: before it closes.
  void destroy();

  std::uint64_t bytes() const { return bytes_; }
  std::uintptr_t user_base() const { return user_; }
  std::uintptr_t alias_base() const { return alias_; }
  std::byte* user(std::uint64_t offset) const { return reinterpret_cast<std::byte*>(user_ + offset); }
  std::byte* alias(std::uint64_t offset) const { return reinterpret_cast<std::byte*>(alias_ + offset); }
  bool contains(const void* pointer) const { return reinterpret_cast<std::uintptr_t>(pointer) - user_ < bytes_; }
  std::uint64_t offset_of(const void* pointer) const { return reinterpret_cast<std::uintptr_t>(pointer) - user_; }

  // Makes the pages exist, zero where they did not. no_memory leaves some of them populated.
  status populate(byte_range) const;
  // Gives the pages back to the system and drops them from both mappings; the next touch reads zero.
  status punch(byte_range) const;

 private:
  status map_all(std::uint64_t bytes, std::uintptr_t user_base);

  int fd_ = -1;
  std::uint64_t bytes_ = 0;
  std::uintptr_t user_ = 0;
  std::uintptr_t alias_ = 0;
  bool user_is_lent_ = false;
};

// Addresses that nobody has are nobody's for good: what still knows them never meets other memory there.
bool reserve_for_good(std::uintptr_t base, std::uint64_t bytes);

}  // namespace gm
