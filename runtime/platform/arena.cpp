// SPDX-License-Identifier: Apache-2.0
#include "platform/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "base/check.h"
#include "base/inject.h"
#include "platform/userfault_abi.h"

namespace gm {
namespace {

void unmap(std::uintptr_t base, std::uint64_t bytes) {
  if (base != 0) munmap(reinterpret_cast<void*>(base), bytes);
}

// Maps the whole memfd shared at an address aligned to a block; 0 on failure.
std::uintptr_t map_aligned(int fd, std::uint64_t bytes) {
  void* reserved = mmap(nullptr, bytes + block_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return 0;
  const auto start = reinterpret_cast<std::uintptr_t>(reserved);
  const std::uintptr_t base = round_up(start, block_bytes);
  void* mapped =
      mmap(reinterpret_cast<void*>(base), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);
  if (mapped == MAP_FAILED) {
    unmap(start, bytes + block_bytes);
    return 0;
  }
  if (base > start) unmap(start, base - start);
  const std::uintptr_t end = start + bytes + block_bytes;
  if (end > base + bytes) unmap(base + bytes, end - base - bytes);
  return base;
}

// Over what stands at these addresses, and back to addresses that are only reserved.
std::uintptr_t map_over(std::uintptr_t base, int fd, std::uint64_t bytes) {
  const int over = MAP_FIXED | MAP_NORESERVE;
  void* mapped = mmap(reinterpret_cast<void*>(base), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | over, fd, 0);
  return mapped == MAP_FAILED ? 0 : base;
}

void give_back_over(std::uintptr_t base, std::uint64_t bytes) {
  mmap(reinterpret_cast<void*>(base), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

}  // namespace

status arena::create(std::uint64_t bytes, std::uintptr_t user_base) {
  const status s = map_all(bytes, user_base);
  if (s != status::ok) destroy();
  return s;
}

status arena::map_all(std::uint64_t bytes, std::uintptr_t user_base) {
  GM_CHECK(fd_ < 0 && bytes % block_bytes == 0 && user_base % block_bytes == 0);
  fd_ = memfd_create("gmem", MFD_CLOEXEC);
  if (fd_ < 0) return fail_errno("memfd_create for the arena");
  if (ftruncate(fd_, static_cast<off_t>(bytes)) != 0)
    return fail_errno("sizing the arena to %llu bytes", static_cast<unsigned long long>(bytes));
  bytes_ = bytes;
  user_ = user_base != 0 ? map_over(user_base, fd_, bytes) : map_aligned(fd_, bytes);
  user_is_lent_ = user_base != 0 && user_ != 0;
  if (user_ == 0)
    return fail_errno("mapping an arena of %llu bytes (a smaller GM_ARENA_SIZE or a larger `ulimit -v` helps)",
                      static_cast<unsigned long long>(bytes));
  alias_ = map_aligned(fd_, bytes);
  if (alias_ == 0) return fail_errno("mapping the arena's alias");
  for (const std::uintptr_t base : {user_, alias_})
    if (madvise(reinterpret_cast<void*>(base), bytes, MADV_DONTFORK) != 0) return fail_errno("MADV_DONTFORK");
  // Core dumps of a sparse arena of many GiB serve nobody; the kernel would also fault on absent pages for them.
  madvise(reinterpret_cast<void*>(alias_), bytes, MADV_DONTDUMP);
  madvise(reinterpret_cast<void*>(user_), bytes, MADV_DONTDUMP);
  return status::ok;
}

arena::~arena() { destroy(); }

void arena::destroy() {
  if (user_is_lent_) {
    give_back_over(user_, bytes_);
  } else {
    unmap(user_, bytes_);
  }
  unmap(alias_, bytes_);
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
  bytes_ = 0;
  user_ = alias_ = 0;
  user_is_lent_ = false;
}

status arena::populate(byte_range range) const {
  if (range.bytes() == 0) return status::ok;
  if (inject::fails(inject::point::host_memory)) {
    errno = ENOMEM;
    return fail_errno("populating host pages (injected)");
  }
  while (madvise(alias(range.begin), range.bytes(), MADV_POPULATE_WRITE) != 0) {
    if (errno == EINTR || errno == EAGAIN) continue;
    if (errno == EFAULT || errno == ENOMEM) errno = ENOMEM;
    return fail_errno("populating %llu bytes of host memory", static_cast<unsigned long long>(range.bytes()));
  }
  return status::ok;
}

status arena::punch(byte_range range) const {
  if (range.bytes() == 0) return status::ok;
  if (inject::fails(inject::point::punch_pages)) {
    errno = EIO;
    return fail_errno("giving host pages back (injected)");
  }
  while (fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(range.begin),
                   static_cast<off_t>(range.bytes())) != 0) {
    if (errno == EINTR) continue;
    return fail_errno("giving %llu bytes of host memory back", static_cast<unsigned long long>(range.bytes()));
  }
  return status::ok;
}

}  // namespace gm
