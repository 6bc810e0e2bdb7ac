// SPDX-License-Identifier: Apache-2.0
#include "bare_pager.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "machine.h"
#include "measure.h"
#include "platform/userfault_abi.h"

namespace gm::bench {
namespace {

constexpr std::size_t max_handlers = 8;

[[noreturn]] void give_up(const char* what) { throw bench_error(std::string(what) + ": " + std::strerror(errno)); }

int open_memfd(std::size_t bytes) {
  const int fd = memfd_create("gmem-bench", MFD_CLOEXEC);
  if (fd < 0) give_up("memfd_create");
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) give_up("ftruncate of a memfd");
  return fd;
}

// The file at a 2 MiB aligned address. What the alignment leaves over stays reserved and costs nothing.
std::byte* map_file(int fd, std::size_t bytes) {
  void* range = mmap(nullptr, bytes + block_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) give_up("mmap of a reservation");
  const std::uintptr_t aligned = (reinterpret_cast<std::uintptr_t>(range) + block_bytes - 1) & ~(block_bytes - 1);
  void* mapped = mmap(reinterpret_cast<void*>(aligned), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
  if (mapped == MAP_FAILED) give_up("mmap of a memfd");
  return static_cast<std::byte*>(mapped);
}

void populate(std::byte* memory, std::size_t bytes) {
  if (madvise(memory, bytes, MADV_POPULATE_WRITE) != 0) give_up("MADV_POPULATE_WRITE");
}

int open_userfaultfd() {
  int fd = -1;
  const int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (device >= 0) {
    fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC);
    close(device);
  }
  if (fd < 0) fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC));
  if (fd < 0) give_up("userfaultfd (needs /dev/userfaultfd or CAP_SYS_PTRACE)");
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM |
                 UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  if (ioctl(fd, UFFDIO_API, &api) != 0) give_up("UFFDIO_API");
  return fd;
}

int continue_range(int uffd, const std::byte* address, std::size_t bytes, access granted) {
  uffdio_continue request{};
  request.range.start = reinterpret_cast<std::uint64_t>(address);
  request.range.len = bytes;
  request.mode = granted == access::read_only ? UFFDIO_CONTINUE_MODE_WP : 0;
  return ioctl(uffd, UFFDIO_CONTINUE, &request);
}

}  // namespace

plain_memory::plain_memory(std::size_t bytes) : bytes_(bytes) {
  const int fd = open_memfd(bytes);
  data_ = map_file(fd, bytes);
  close(fd);
  populate(data_, bytes);
}

plain_memory::~plain_memory() { munmap(data_, bytes_); }

bare_pager::bare_pager(std::size_t bytes) : bytes_(bytes), mapped_bytes_(bytes + page_bytes) {
  memfd_ = open_memfd(mapped_bytes_);
  user_ = map_file(memfd_, mapped_bytes_);
  alias_ = map_file(memfd_, mapped_bytes_);
  populate(alias_, mapped_bytes_);
  uffd_ = open_userfaultfd();
  uffdio_register range{};
  range.range.start = reinterpret_cast<std::uint64_t>(user_);
  range.range.len = mapped_bytes_;
  range.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR;
  if (ioctl(uffd_, UFFDIO_REGISTER, &range) != 0) give_up("UFFDIO_REGISTER");
}

bare_pager::~bare_pager() {
  // A fault on the last page tells whoever reads it to stop: one for each handler.
  for (std::size_t i = 0; i < handlers_.size(); ++i) {
    madvise(user_ + bytes_, page_bytes, MADV_DONTNEED);
    static_cast<void>(*static_cast<volatile std::byte*>(user_ + bytes_));
  }
  for (std::thread& handler : handlers_) handler.join();
  munmap(user_, mapped_bytes_);
  munmap(alias_, mapped_bytes_);
  close(uffd_);
  close(memfd_);
}

void bare_pager::start_handlers(std::size_t granule_bytes, access granted) {
  const std::vector<int> cpus = allowed_cpus();
  const std::size_t count = std::min(cpus.size(), max_handlers);
  for (std::size_t i = 0; i < count; ++i) {
    handlers_.emplace_back([this, granule_bytes, granted, cpu = cpus[i]] {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(static_cast<std::size_t>(cpu), &one);
      sched_setaffinity(0, sizeof one, &one);
      serve(granule_bytes, granted);
    });
  }
}

void bare_pager::serve(std::size_t granule_bytes, access granted) {
  for (;;) {
    uffd_msg message;
    if (read(uffd_, &message, sizeof message) != static_cast<ssize_t>(sizeof message)) continue;
    const std::uint64_t offset = message.arg.pagefault.address - reinterpret_cast<std::uint64_t>(user_);
    const bool last = offset >= bytes_;
    const std::size_t granule = last ? page_bytes : granule_bytes;
    if (!last) faults_.fetch_add(1, std::memory_order_relaxed);  // before the CONTINUE, which lets the reader go on
    if (continue_range(uffd_, user_ + (offset & ~(granule - 1)), granule, granted) != 0 && errno != EEXIST) {
      std::perror("bench: UFFDIO_CONTINUE in a bare handler");
      std::abort();
    }
    if (last) return;
  }
}

void bare_pager::map(std::size_t offset, std::size_t bytes, access granted) {
  if (continue_range(uffd_, user_ + offset, bytes, granted) != 0) give_up("UFFDIO_CONTINUE");
}

void bare_pager::drop(std::size_t offset, std::size_t bytes) {
  if (madvise(user_ + offset, bytes, MADV_DONTNEED) != 0) give_up("MADV_DONTNEED");
}

}  // namespace gm::bench
