// SPDX-License-Identifier: Apache-2.0
// controls.h - what a test can do to the fake GPU that it has loaded, and ask it. Found by dlsym under controls_name.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gm::fake_gpu {

// What is alive in the driver; all zero after close.
struct census {
  int contexts;
  int streams;
  int events;
  int flags;
  int allocations;
  int reservations;
  int frames;
  int mappings;
  int locked_ranges;
  int pinned_allocations;
  bool operator==(const census&) const = default;
};

struct controls {
  census (*count)();
  void (*lose)(int device);                               // as if it fell off the bus
  void (*fail_call)(int which, std::uint64_t n);          // machine.h: api; the n-th call from now, once; 0: off
  void (*fail_call_finally)(int which, std::uint64_t n);  // the same, and the device is lost
  void (*fail_calls)(int which, std::uint64_t n);         // that one and all behind it, until it is turned off
  std::uint64_t (*calls_before_failure)(int which);       // as armed above; 0: off, or it has failed
  int (*current_device)();                                // this thread's; -1: none
  void (*set_current_device)(int index);
  void (*begin_capture)();             // of a graph, by a thread that lets nobody disturb it
  bool (*end_capture)();               // whether nobody has
  int (*last_error)();                 // this thread's; 0: none
  void* (*create_stream)(int device);  // the program's own
  void (*destroy_stream)(void* native);
  bool (*launch)(void* native, void (*kernel)(void*), void* argument);  // a kernel; false where the driver refuses
  bool (*read)(int device, std::uint64_t address, void* to, std::size_t bytes);  // as a kernel of that device
  bool (*write)(int device, std::uint64_t address, const void* from, std::size_t bytes);
  std::uint64_t (*direct_copies)();  // copies so far that used host memory which the program has locked
  std::uint64_t (*pinned_copies)();  // ... which the driver has allocated
  std::uint64_t (*blocked_calls)();  // copies so far that kept their caller, because host memory was not locked
};

using controls_entry = const controls* (*)();
inline constexpr const char* controls_name = "gm_fake_gpu_controls";

}  // namespace gm::fake_gpu
