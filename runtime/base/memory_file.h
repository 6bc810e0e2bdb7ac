// SPDX-License-Identifier: Apache-2.0
// memory_file.h - memfds as memory, in processes with limits and habits of their own.
//
// Under mlockall(MCL_FUTURE) the kernel fills and locks what is mapped, as it is mapped: an arena would take all memory
// there is, and pages would stand in page tables that userfaultfd has not been told of. What has no access is not
// filled. So mappings are made without access, unlocked, and opened then.
// All functions fail as system calls do, with errno; os_limit.h has the words for the limits among the reasons.
#pragma once

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace gm {

// Beyond RLIMIT_FSIZE the kernel says EFBIG and sends SIGXFSZ, which ends the program: here it is EFBIG alone.
inline bool size_memory_file(int fd, std::uint64_t bytes) {
  rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && bytes > limit.rlim_cur) {
    errno = EFBIG;
    return false;
  }
  return ftruncate(fd, static_cast<off_t>(bytes)) == 0;
}

// Addresses without access, which take no memory; 0 on failure. Not locked either: they would count twice against
// RLIMIT_MEMLOCK while a file is mapped over them.
inline std::uintptr_t reserve_addresses(std::uint64_t bytes) {
  void* reserved = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return 0;
  munlock(reserved, bytes);
  return reinterpret_cast<std::uintptr_t>(reserved);
}

// Makes what stands at the addresses a reservation again.
inline void reserve_again(std::uintptr_t address, std::uint64_t bytes) {
  void* at = reinterpret_cast<void*>(address);
  if (mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == at)
    munlock(at, bytes);
}

// Maps the file's first bytes over a reservation: shared, readable and writable, with no page present and none locked.
// False leaves a reservation.
inline bool map_memory_file(std::uintptr_t address, int fd, std::uint64_t bytes) {
  void* at = reinterpret_cast<void*>(address);
  if (mmap(at, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) != at) return false;
  if (munlock(at, bytes) == 0 && mprotect(at, bytes, PROT_READ | PROT_WRITE) == 0) return true;
  const int error = errno;
  reserve_again(address, bytes);
  errno = error;
  return false;
}

}  // namespace gm
