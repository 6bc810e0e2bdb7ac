// SPDX-License-Identifier: Apache-2.0
// gpu_memory.h - the memory of one GPU as pieces of 2 MiB frames.
//
// With a window: device addresses as large as the arena are reserved, and a piece is one frame of physical memory
// mapped at window_base + offset. Without one: a piece is one allocation of the API's.
//   frame: none --create--> mapped --piece_destroy--> returned --the thread--> idle (a few are kept) --piece_create-->
//   mapped
// Drivers may wait for all work of the device before they unmap or free (hipFree says so). Pieces are given back in
// callbacks of streams, whose own work would be among that: so a thread of this object makes those calls, and who makes
// a piece waits for it where it has to: for the same place, or when there is no memory left but what is on its way
// back. Whether a window works is tried, not believed: a frame is mapped, and has to pass window_trial.h. Where it does
// not, a line on stderr says why.
// A frame that the driver refuses to unmap stays where it is, for the next piece there. One that has a lasting address
// is kept for ever, and taken first.
// G1 a block of the window has at most one frame.   G2 idle_ holds at most idle_frames_max frames, of which none has a
// lasting address; idle_lasting_ those that have.
// G3 a piece is returned, in returned_ or in the thread's hand, until its memory is idle or the driver's.
// Locking: mutex_ over tables and lists, never held in the API: the driver's map calls take tens of microseconds, and
// those of different blocks may overlap. Threads: any, on a current context. Units: bytes; frames of 2 MiB.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "device/gpu/gpu_frame.h"
#include "device/gpu/lasting_addresses.h"
#include "device/gpu/vendor.h"
#include "gmem/gmem.h"

namespace gm::device::gpu {

class gpu_memory {
 public:
  gpu_memory() = default;
  gpu_memory(const gpu_memory&) = delete;
  gpu_memory& operator=(const gpu_memory&) = delete;

  // peers: the devices that copy from and to this one, this one first. No window is no failure: has_window() says so.
  gm_status open(const vendor::context& context, bool may_map, std::uint64_t window_bytes, std::vector<int> peers);
  // Gives everything back, also pieces that are still there.
  void close() noexcept;

  gm_status piece_create(std::uint64_t offset, std::uint32_t frames, std::uint64_t* address) noexcept;
  void piece_destroy(std::uint64_t offset, std::uint32_t frames, std::uint64_t address) noexcept;

  // Of a piece that its caller keeps meanwhile. Where there is a window and the driver maps frames twice.
  gm_status lasting_address(std::uint64_t address, std::uint64_t* lasting) noexcept;
  // Where copies and fills of those bytes go, of this device's or not: where they lie in one frame that has a lasting
  // address, there. It does not change while its owner keeps the piece.
  std::uint64_t where_kernels_look(std::uint64_t address, std::uint64_t bytes) const noexcept;
  bool has_lasting_addresses() const noexcept { return lasting_.exist(); }
  std::uint64_t lasting_base() const noexcept { return lasting_.base(); }

  // A frame for other purposes, mapped nowhere, which its taker gives back or releases before close().
  gm_status take_frame(gpu_frame* frame) noexcept;
  gm_status map_for_peers(std::uint64_t address, const gpu_frame& frame) const noexcept {
    return map_frame(address, frame, peers_);
  }
  void give_back_frame(const gpu_frame& frame) noexcept;

  bool has_window() const noexcept { return window_base_ != 0; }
  std::uint64_t window_base() const noexcept { return window_base_; }
  // Of the device: the driver's, and what is ours and not in use.
  vendor::error ask(std::uint64_t* free_bytes, std::uint64_t* total_bytes) noexcept;
  bool contains(std::uint64_t address) const noexcept;
  // Whether that device's streams may copy from and to this memory. Between allocations the driver sees to it; mapped
  // frames are for those who were given access.
  bool is_reached_by(int device) const noexcept;

 private:
  // What a block of the window holds. All zero is none; a frame in a block that is not taken could not be unmapped.
  struct block {
    gpu_frame frame;
    bool is_taken;     // also while its frame is being mapped or unmapped
    bool is_returned;  // and not there any more
  };
  struct free_deleter {
    void operator()(block* blocks) const noexcept { std::free(blocks); }
  };

  // A place in the window and its frame, or an allocation.
  struct piece {
    std::uint64_t address;
    std::uint64_t bytes;
    gpu_frame frame;
  };

  gm_status open_window(std::uint64_t window_bytes);
  void reserve_window(std::uint64_t window_bytes) noexcept;
  bool window_works() noexcept;
  void say_no_window(const char* why) const noexcept;
  gm_status piece_create_in_window(std::uint64_t offset, std::uint64_t* address) noexcept;
  void return_piece(const piece& gone) noexcept;
  void take_apart(const piece& gone) noexcept;
  void thread_main() noexcept;
  std::uint64_t taken_apart() const noexcept;
  bool wait_for_returned(std::uint64_t* seen) noexcept;
  bool take_idle(gpu_frame* frame) noexcept;
  gm_status make_lasting(gpu_frame* frame) noexcept;

  static constexpr std::size_t idle_frames_max = 32;

  vendor::context context_{};
  std::vector<int> peers_;
  std::mutex lasting_mutex_;  // held in the API, and outside mutex_: making addresses last is rare
  lasting_addresses lasting_;
  std::uint64_t with_lasting_ = 0;  // frames
  std::uint64_t window_base_ = 0;
  std::uint64_t window_bytes_ = 0;

  mutable std::mutex mutex_;
  std::unique_ptr<block[], free_deleter> blocks_;  // of the window; untouched ones cost nothing
  std::uint64_t occupied_ = 0;                     // blocks that are taken, or hold a frame
  std::vector<gpu_frame> idle_;                    // mapped nowhere; has room for all of them
  std::vector<gpu_frame> idle_lasting_;            // the same
  std::map<std::uint64_t, std::uint64_t> ranges_;  // without a window: address -> bytes of each piece
  std::vector<piece> returned_;
  std::uint64_t returned_bytes_ = 0;  // with what is in the thread's hand
  std::uint64_t taken_apart_ = 0;     // pieces so far
  bool is_in_hand_ = false;           // the thread has one
  bool is_ending_ = false;
  std::condition_variable has_returned_;
  std::condition_variable has_taken_apart_;
  std::thread thread_;
};

}  // namespace gm::device::gpu
