// SPDX-License-Identifier: Apache-2.0
#include "platform/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "base/check.h"
#include "base/inject.h"
#include "base/memory_file.h"
#include "base/os_limit.h"
#include "platform/userfault_abi.h"

namespace gm {
namespace {

void unmap(std::uintptr_t base, std::uint64_t bytes) {
  if (base != 0) munmap(reinterpret_cast<void*>(base), bytes);
}

// Maps the whole memfd shared at an address aligned to a block; 0 on failure.
std::uintptr_t map_aligned(int fd, std::uint64_t bytes) {
  const std::uintptr_t start = reserve_addresses(bytes + block_bytes);
  if (start == 0) return 0;
  const std::uintptr_t base = round_up(start, block_bytes);
  if (!map_memory_file(base, fd, bytes)) {
    const int error = errno;
    unmap(start, bytes + block_bytes);
    errno = error;
    return 0;
  }
  if (base > start) unmap(start, base - start);
  const std::uintptr_t end = start + bytes + block_bytes;
  if (end > base + bytes) unmap(base + bytes, end - base - bytes);
  return base;
}

status fail_to_map(const char* what, std::uint64_t bytes) {
  const int error = errno;
  const auto size = static_cast<unsigned long long>(bytes);
  if (error == EAGAIN) return fail(status::permission, "%s of %llu bytes%s", what, size, os_limit_words(error));
  return fail_errno("%s of %llu bytes (a smaller GM_ARENA_SIZE or a larger `ulimit -v` helps)", what, size);
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
  if (fd_ < 0) return fail_errno("memfd_create for the arena%s", os_limit_words(errno));
  if (!size_memory_file(fd_, bytes))
    return fail_errno("sizing the arena to %llu bytes%s", static_cast<unsigned long long>(bytes),
                      os_limit_words(errno));
  bytes_ = bytes;
  if (user_base == 0)
    user_ = map_aligned(fd_, bytes);
  else if (map_memory_file(user_base, fd_, bytes))
    user_ = user_base;
  user_is_lent_ = user_base != 0 && user_ != 0;
  if (user_ == 0) return fail_to_map("mapping an arena", bytes);
  alias_ = map_aligned(fd_, bytes);
  if (alias_ == 0) return fail_to_map("mapping an arena a second time, for the runtime,", bytes);
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
    reserve_again(user_, bytes_);
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

bool reserve_for_good(std::uintptr_t base, std::uint64_t bytes) {
  void* wanted = reinterpret_cast<void*>(base);
  return mmap(wanted, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) ==
         wanted;
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
