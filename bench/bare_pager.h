// SPDX-License-Identifier: Apache-2.0
// bare_pager.h - what the floors are made of: the kernel's own calls and nothing around them.
//
// A bare_pager is one memfd mapped twice, as gmem maps its arena: the user mapping is registered with userfaultfd
// (MISSING | MINOR | WP), the alias is not and is populated from the start, so that a floor never pays for a first
// touch. Handlers are as gmem's by default: one a CPU, at most 8, each pinned, each in a blocking read of the one
// userfaultfd. A handler answers a fault with a single UFFDIO_CONTINUE of one granule, and knows nothing else.
//
// Errors: constructors throw bench_error. Faults that cannot be answered end the process: no figure would be true.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/units.h"

namespace gm::bench {

inline constexpr std::size_t KiB = 1024;
inline constexpr std::size_t MiB = 1024 * KiB;
inline constexpr std::size_t GiB = 1024 * MiB;

// Shared memory that is mapped and populated, as the memory of a simulated device is; 2 MiB aligned.
class plain_memory {
 public:
  explicit plain_memory(std::size_t bytes);
  plain_memory(const plain_memory&) = delete;
  plain_memory& operator=(const plain_memory&) = delete;
  ~plain_memory();

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
  std::byte* data_;
};

enum class access { read_only, read_write };

class bare_pager {
 public:
  explicit bare_pager(std::size_t bytes);
  bare_pager(const bare_pager&) = delete;
  bare_pager& operator=(const bare_pager&) = delete;
  ~bare_pager();

  std::byte* user() const { return user_; }
  std::byte* alias() const { return alias_; }
  std::size_t bytes() const { return bytes_; }
  std::uint64_t faults() const { return faults_.load(std::memory_order_relaxed); }

  // From now on faults are answered, each with granule_bytes. Once a pager.
  void start_handlers(std::size_t granule_bytes, access granted);

  // UFFDIO_CONTINUE and MADV_DONTNEED on the user mapping.
  void map(std::size_t offset, std::size_t bytes, access granted);
  void drop(std::size_t offset, std::size_t bytes);

 private:
  void serve(std::size_t granule_bytes, access granted);

  std::size_t bytes_;
  std::size_t mapped_bytes_;  // bytes_ and one page more, whose faults stop handlers
  int memfd_ = -1;
  int uffd_ = -1;
  std::byte* user_ = nullptr;
  std::byte* alias_ = nullptr;
  std::atomic<std::uint64_t> faults_{0};
  std::vector<std::thread> handlers_;
};

}  // namespace gm::bench
