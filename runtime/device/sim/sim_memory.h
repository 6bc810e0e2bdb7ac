// SPDX-License-Identifier: Apache-2.0
// sim_memory.h - the memory of one simulated device: a memfd of its own, apart from the host's.
//
// With a window: arena_bytes of addresses are reserved without access, and a piece is one frame of the memfd, mapped at
// window_base + offset. Everywhere else in the window is PROT_NONE: a kernel that uses an absent block dies by SIGSEGV.
// Without one: the whole memfd is mapped once, and a piece is a run of neighbouring frames in that mapping.
// Under mlockall(MCL_FUTURE) a frame is filled and locked when it is mapped; without a window nothing is.
// A frame's lasting address is in a mapping of the whole memfd of its own, filled in frame by frame when first asked
// for, or, without a window, its one address. Tables and mailboxes are plain private memory. Contents of a frame
// survive give-back and are seen by its next owner, as on a real device. W1 block_frame_[b] is set exactly when block b
// of the window is mapped to that frame. W2 no mapping is inherited by fork. Locking: one lock a device over bitmap and
// table, held across the mapping calls; innermost. Threads: any. Units: bytes; frames of 2 MiB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "device/sim/sim_frames.h"
#include "gmem/gmem.h"

namespace gm::device::sim {

inline constexpr std::uint64_t frame_bytes = std::uint64_t{2} << 20;

class sim_memory {
 public:
  // window_bytes 0: no window. Null on failure, with *status and the error text saying why.
  static std::unique_ptr<sim_memory> create(std::uint64_t memory_bytes, std::uint64_t window_bytes, gm_status* status);
  ~sim_memory();
  sim_memory(const sim_memory&) = delete;
  sim_memory& operator=(const sim_memory&) = delete;

  gm_status piece_create(std::uint64_t offset, std::uint32_t frames, std::uint64_t* address) noexcept;
  void piece_destroy(std::uint64_t offset, std::uint32_t frames, std::uint64_t address) noexcept;

  std::uint64_t pool_base() const noexcept { return pool_base_; }
  gm_status lasting_address(std::uint64_t address, std::uint64_t* lasting) noexcept;
  // Zeroed memory until the device is closed.
  gm_status table_reserve(std::uint64_t bytes, std::uint64_t* address) noexcept;

  bool has_window() const noexcept { return window_bytes_ != 0; }
  std::uint64_t window_base() const noexcept { return has_window() ? base_ : 0; }
  std::uint64_t total_bytes() const noexcept { return frames_.count() * frame_bytes; }
  std::uint64_t free_bytes() const noexcept;
  bool contains(std::uint64_t address) const noexcept { return address - base_ < mapped_bytes_; }
  // In a table that kernels change by atomic operations?
  bool is_in_table(std::uint64_t address) const noexcept;

 private:
  struct free_deleter {
    void operator()(std::uint32_t* pointer) const noexcept;
  };

  sim_memory(std::uint64_t memory_bytes, std::uint64_t window_bytes);
  gm_status reserve() noexcept;
  gm_status fail_to_map(const char* what, std::uint64_t bytes) const noexcept;  // by errno
  gm_status piece_create_in_window_locked(std::uint64_t offset, std::uint64_t* address) noexcept;
  void piece_destroy_in_window_locked(std::uint64_t offset) noexcept;
  gm_status map_frame(std::uint64_t address, std::uint32_t frame) noexcept;
  bool unmap_frame(std::uint64_t address) noexcept;
  gm_status no_such_piece(std::uint32_t frames) noexcept;

  const std::uint64_t window_bytes_;
  int memory_fd_ = -1;
  std::uint64_t base_ = 0;  // of the window, or of the one mapping
  std::uint64_t mapped_bytes_ = 0;
  std::uint64_t pool_base_ = 0;  // frame f at pool_base_ + f * frame_bytes

  mutable std::mutex mutex_;
  sim_frames frames_;
  std::vector<bool> in_pool_;                                    // window only: frames that are mapped there
  std::vector<std::pair<std::uint64_t, std::uint64_t>> tables_;  // address and bytes
  std::unique_ptr<std::uint32_t[], free_deleter> block_frame_;   // window only: 0 absent, else frame + 1 and flags
};

}  // namespace gm::device::sim
