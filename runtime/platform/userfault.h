// SPDX-License-Identifier: Apache-2.0
// userfault.h - the user mapping through userfaultfd, registered for MISSING, MINOR and WP faults.
//
// Modes.   thread   faults are messages that handler threads read; a system call on an absent page waits like a load.
//          inline   faults are SIGBUS in the thread that touched; a system call on an absent page gives EFAULT.
// Opened through /dev/userfaultfd, else the system call, else for user-mode faults only: then, in thread mode too, a
// system call on an absent page gives EFAULT, and a warning says so.
// Opening leaves every page absent: one that was mapped before would never fault. Pages that the program locks (mlock,
// mlockall) are served, revoked and dropped like others; a lock does not keep them where they are.
// Threads: all functions from any thread. Handlers sleep in read_fault() until a fault comes.
#pragma once

#include <cstddef>

#include "platform/arena.h"
#include "platform/user_mapping.h"

namespace gm {

enum class fault_mode : std::uint8_t { thread, in_line };

class userfault final : public user_mapping {
 public:
  userfault() = default;
  userfault(const userfault&) = delete;
  userfault& operator=(const userfault&) = delete;
  ~userfault() override;

  // Registers the arena's user mapping. permission: refused, with the remedy in the message.
  status open(const arena&, fault_mode);

  status map(byte_range, cpu_access) override;
  status map_zero(byte_range) override;
  status allow_write(byte_range) override;
  status deny_write(byte_range) override;
  status drop(byte_range) override;
  void wake(byte_range) override;
  bool poison(std::uint64_t offset) override;

  // Blocks until there is a fault. False when interrupted, or when the kernel reported something else.
  bool read_fault(cpu_fault&);
  bool user_mode_only() const { return user_mode_only_; }

 private:
  status handshake(fault_mode);
  status protect(byte_range, bool deny);
  status unmap(byte_range);

  const arena* arena_ = nullptr;
  int fd_ = -1;
  bool user_mode_only_ = false;
  bool can_poison_ = false;
  int unmap_advice_ = 0;  // what makes a page absent on this kernel, locked or not
};

}  // namespace gm
