// SPDX-License-Identifier: Apache-2.0
#include "platform/userfault.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/inject.h"
#include "base/log.h"
#include "base/os_limit.h"
#include "platform/userfault_abi.h"

namespace gm {
namespace {

constexpr __u64 needed_features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM |
                                  UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_THREAD_ID;

int open_descriptor(bool& user_mode_only) {
  user_mode_only = false;
  const int device = ::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (device >= 0) {
    const int fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC);
    close(device);
    if (fd >= 0) return fd;
  }
  int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC));
  if (fd >= 0) return fd;
  const int error = errno;
  fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
  user_mode_only = fd >= 0;
  if (fd < 0) errno = error;  // a kernel that does not know the flag says nothing of use
  return fd;
}

// Why open_descriptor() has failed.
status not_opened() {
  switch (errno) {
    case EPERM:
    case EACCES:
      return fail(status::permission,
                  "userfaultfd refused (%s): run as root or with CAP_SYS_PTRACE, or give access to /dev/userfaultfd "
                  "(chmod 0666 /dev/userfaultfd), or set vm.unprivileged_userfaultfd=1; in a container, allow it in "
                  "the seccomp profile",
                  std::strerror(errno));
    case ENOSYS:
      return fail(status::unsupported,
                  "there is no userfaultfd: the kernel was built without CONFIG_USERFAULTFD, or a container's seccomp "
                  "profile hides it");
    default:
      return fail_errno("opening userfaultfd%s", os_limit_words(errno));
  }
}

// MADV_DONTNEED refuses locked pages, and kernels before 5.18 do not know the other.
int advice_to_unmap(const arena& memory) {
  const bool known = madvise(memory.user(0), os_page_bytes, MADV_DONTNEED_LOCKED) == 0 || errno != EINVAL;
  return known ? MADV_DONTNEED_LOCKED : MADV_DONTNEED;
}

// Runs one userfaultfd request over a range, going on where the kernel stopped half-way. Pages for which the kernel
// says "exists" are stepped over, an OS page at a time.
template <typename Request, typename Done>
status for_whole_range(int fd, unsigned long code, Request request, Done done, const char* what) {
  __u64 start = request.range.start;
  const __u64 end = start + request.range.len;
  while (start < end) {
    request.range = {start, end - start};
    if (ioctl(fd, code, &request) == 0) return status::ok;
    const __s64 part = done(request);
    if (part > 0) {
      start += static_cast<__u64>(part);
    } else if (errno == EEXIST) {
      uffdio_range skipped{start, os_page_bytes};
      ioctl(fd, UFFDIO_WAKE, &skipped);
      start += os_page_bytes;
    } else if (errno != EAGAIN && errno != EINTR) {
      return fail_errno("%s", what);
    }
  }
  return status::ok;
}

status injected(const char* what) {
  errno = ENOMEM;
  return fail_errno("%s (injected)", what);
}

}  // namespace

userfault::~userfault() {
  if (fd_ >= 0) close(fd_);
}

status userfault::handshake(fault_mode mode) {
  // The kernel refuses unknown features and accepts one handshake a descriptor: ask on a first, use a second.
  uffdio_api api{};
  api.api = UFFD_API;
  {
    bool ignored = false;
    const int probe = open_descriptor(ignored);
    if (probe < 0) return not_opened();
    const int result = ioctl(probe, UFFDIO_API, &api);
    close(probe);
    if (result != 0) return fail_errno("asking what userfaultfd can do");
  }
  if ((api.features & needed_features) != needed_features)
    return fail(
        status::unsupported,
        "this kernel's userfaultfd lacks features 0x%llx of those needed (MINOR and WP faults on shared memory): "
        "Linux 5.19 or later has them",
        static_cast<unsigned long long>(needed_features & ~api.features));
  can_poison_ = (api.features & UFFD_FEATURE_POISON) != 0;
  fd_ = open_descriptor(user_mode_only_);
  if (fd_ < 0) return not_opened();
  uffdio_api chosen{};
  chosen.api = UFFD_API;
  chosen.features = needed_features;
  if (can_poison_) chosen.features |= UFFD_FEATURE_POISON;
  if (mode == fault_mode::in_line) chosen.features |= UFFD_FEATURE_SIGBUS;
  if (ioctl(fd_, UFFDIO_API, &chosen) != 0) return fail_errno("setting up userfaultfd");
  return status::ok;
}

status userfault::open(const arena& memory, fault_mode mode) {
  GM_CHECK(fd_ < 0);
  arena_ = &memory;
  if (const status s = handshake(mode); s != status::ok) return s;
  uffdio_register request{};
  request.range = {memory.user_base(), memory.bytes()};
  request.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP;
  if (ioctl(fd_, UFFDIO_REGISTER, &request) != 0) return fail_errno("registering the arena with userfaultfd");
  // Whoever mapped a page until now (mlockall in another thread, a look at the arena) did it unseen.
  unmap_advice_ = advice_to_unmap(memory);
  if (const status s = unmap({0, memory.bytes()}); s != status::ok) return s;
  if (user_mode_only_ && mode == fault_mode::thread)
    log_line(
        log_level::warn,
        "userfaultfd serves user-mode faults only here: read(2), write(2) and other system calls on managed memory "
        "that is not on the host fail with EFAULT. Access to /dev/userfaultfd or CAP_SYS_PTRACE mends it");
  return status::ok;
}

status userfault::map(byte_range range, cpu_access access) {
  if (inject::fails(inject::point::map_pages)) return injected("mapping host pages");
  uffdio_continue request{};
  request.range = {arena_->user_base() + range.begin, range.bytes()};
  request.mode = access == cpu_access::read ? UFFDIO_CONTINUE_MODE_WP : 0;
  return for_whole_range(
      fd_, UFFDIO_CONTINUE, request, [](const uffdio_continue& r) { return r.mapped; },
      "mapping host pages (UFFDIO_CONTINUE)");
}

status userfault::map_zero(byte_range range) {
  if (inject::fails(inject::point::zero_pages)) return injected("making zero pages");
  uffdio_zeropage request{};
  request.range = {arena_->user_base() + range.begin, range.bytes()};
  return for_whole_range(
      fd_, UFFDIO_ZEROPAGE, request, [](const uffdio_zeropage& r) { return r.zeropage; },
      "making zero pages (UFFDIO_ZEROPAGE)");
}

status userfault::protect(byte_range range, bool deny) {
  if (inject::fails(inject::point::protect_pages)) return injected("changing write protection");
  uffdio_writeprotect request{};
  request.range = {arena_->user_base() + range.begin, range.bytes()};
  request.mode = deny ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
  while (ioctl(fd_, UFFDIO_WRITEPROTECT, &request) != 0)
    if (errno != EAGAIN && errno != EINTR) return fail_errno("changing write protection (UFFDIO_WRITEPROTECT)");
  return status::ok;
}

status userfault::allow_write(byte_range range) { return protect(range, false); }
status userfault::deny_write(byte_range range) { return protect(range, true); }

status userfault::drop(byte_range range) {
  if (inject::fails(inject::point::drop_pages)) return injected("unmapping host pages");
  return unmap(range);
}

status userfault::unmap(byte_range range) {
  while (madvise(arena_->user(range.begin), range.bytes(), unmap_advice_) != 0) {
    if (errno == EAGAIN || errno == EINTR) continue;
    const bool may_be_locked = errno == EINVAL && unmap_advice_ == MADV_DONTNEED;
    return fail_errno("unmapping host pages%s",
                      may_be_locked ? " (locked by mlock or mlockall? Then munlock them, or use Linux 5.18)" : "");
  }
  return status::ok;
}

void userfault::wake(byte_range range) {
  uffdio_range request{arena_->user_base() + range.begin, range.bytes()};
  ioctl(fd_, UFFDIO_WAKE, &request);
}

bool userfault::poison(std::uint64_t offset) {
  if (!can_poison_) return false;
  const byte_range page{offset, offset + os_page_bytes};
  // The mark that write protection leaves behind would be in the way. The page goes first: nobody may write meanwhile.
  if (drop(page) != status::ok || protect(page, false) != status::ok) return false;
  uffdio_poison request{};
  request.range = {arena_->user_base() + offset, os_page_bytes};
  while (ioctl(fd_, UFFDIO_POISON, &request) != 0) {
    if (errno == EEXIST) break;  // somebody else's
    if (errno != EAGAIN && errno != EINTR) return false;
  }
  wake(page);
  return true;
}

bool userfault::read_fault(cpu_fault& fault) {
  uffd_msg message;
  if (read(fd_, &message, sizeof message) != sizeof message || message.event != UFFD_EVENT_PAGEFAULT) return false;
  const bool write = (message.arg.pagefault.flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) != 0;
  fault = {round_down(message.arg.pagefault.address - arena_->user_base(), os_page_bytes),
           write ? cpu_access::write : cpu_access::read, static_cast<std::int32_t>(message.arg.pagefault.feat.ptid)};
  return true;
}

}  // namespace gm
