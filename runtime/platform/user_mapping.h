// SPDX-License-Identifier: Apache-2.0
// user_mapping.h - the kernel's page tables of the arena's user mapping: what the CPU may touch without a fault.
//
// An interface, so that tests can put a model of the kernel in its place; userfault.h is the real one.
// An OS page is absent, mapped read-only, or mapped writable. All ranges are arena offsets, whole OS pages.
// map, map_zero and allow_write wake whoever sleeps in a fault on the range.
// No locks: the caller holds the lock of the block, which orders what is done to one page.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/units.h"

namespace gm {

enum class cpu_access : std::uint8_t { read, write };

struct cpu_fault {
  std::uint64_t offset;  // of the touched OS page in the arena
  cpu_access access;
  std::int32_t thread;  // who touched it
};

class user_mapping {
 public:
  virtual ~user_mapping() = default;

  // Maps pages whose memfd pages exist. Pages that are mapped already stay as they are.
  virtual status map(byte_range, cpu_access) = 0;
  // Makes zero pages where the memfd has none, and maps them writable.
  virtual status map_zero(byte_range) = 0;
  virtual status allow_write(byte_range) = 0;
  virtual status deny_write(byte_range) = 0;
  // Makes pages absent. Their memfd pages stay.
  virtual status drop(byte_range) = 0;
  // Whoever sleeps in a fault on the range tries again.
  virtual void wake(byte_range) = 0;
  // The next touch of this OS page is SIGBUS (EFAULT in a system call), until it is dropped or mapped; who sleeps on it
  // is woken. False where the kernel cannot: nobody is woken then.
  virtual bool poison(std::uint64_t offset) = 0;
};

}  // namespace gm
