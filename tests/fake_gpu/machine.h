// SPDX-License-Identifier: Apache-2.0
// machine.h - a GPU driver made of plain memory and threads, for the tests of what the GPU backends share.
//
// It is as awkward as the real ones: streams are threads; a copy whose host side is not locked blocks its caller, or
// reads the source at once; device addresses are numbers that the host cannot use, reserved so that the host may map
// something of its own over them; access is given to devices one by one; an access that is not allowed loses the device
// for good; calls need a current device, and a failing call leaves its error with the thread.
// Where a real one would corrupt memory without a word, it ends the program: locked memory must exist, and stay locked
// while it is copied.
// GM_FAKE_GPU says what is in the machine, in words with commas: "devices=3,memory=32M,delay_us=50". See description.
// Locking: one lock over the tables, one a stream; none is held while work is done. Threads: any.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

namespace gm::fake_gpu {

enum class code : int {
  ok = 0,
  not_ready,
  out_of_memory,
  no_driver,
  not_supported,
  illegal_address,  // final
  device_lost,      // final
  invalid_value,
  invalid_handle,
  no_current_device,
  not_while_capturing
};
const char* describe(code);

struct description {
  bool driver = true;
  int devices = 1;
  std::uint64_t memory_bytes = std::uint64_t{64} << 20;  // of each
  std::uint64_t lockable_bytes = ~std::uint64_t{0};
  bool maps_memory = true;
  bool maps_for_real = true;    // off: the device says that it can map memory, and then refuses, as some drivers do
  bool maps_for_itself = true;  // off: only copies from and to the host find what is mapped
  bool maps_twice = true;       // off: a frame that is mapped already cannot be mapped at another address too
  bool aliases_agree = true;    // off: it can, and other memory is there
  bool aliases_lag = false;     // they agree once no kernel runs any more
  bool waits_for_values = true;
  bool writes_values = true;
  bool batches = true;
  bool peers = true;
  bool pins = true;    // off: there is no pinned memory to be allocated
  bool leaks = false;  // what goes to a device address also appears at the host's
  std::uint32_t delay_us_max = 0;
  bool kernels_take_all = false;  // while one runs, nothing is filled: that is a kernel too
  bool free_waits = false;        // freeing and unmapping device memory, for everything in all streams
  bool unlock_waits = false;      // for everything in all streams, as one of the real ones does
  std::uint32_t unlock_us = 0;    // how long it takes
};

// Functions that can be made to fail.
enum class api : int {
  ask_device,
  open_context,
  make_current,
  exchange_capture_mode,
  memory_of,
  reaches,
  create_stream,
  synchronize_stream,
  create_event,
  record_event,
  query_event,
  synchronize_event,
  wait_for_event,
  copy,
  fill,
  wait_for_value,
  write_value,
  call_host,
  create_flag,
  allocate,
  reserve,
  create_memory,
  map,
  unmap,
  allow_access,
  lock_host,
  allocate_pinned,
  allocate_shared,
  count_
};

// One recording of an event.
struct moment {
  std::mutex mutex;
  std::condition_variable changed;
  bool has_happened = false;
};

struct event {
  int device;
  std::shared_ptr<moment> last;  // null: never recorded, which counts as happened
};

struct stream {
  int device;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<code()>> work;
  std::uint64_t submitted = 0;
  std::uint64_t finished = 0;
  bool is_ending = false;
  std::minstd_rand random;
  std::thread thread;
};

struct physical;  // memory of a device that may be mapped

// ---- The driver ----------------------------------------------------------------------------------------------------

code start(int* count);
code ask_device(int device);
code open_context(int device);
const description& machine();
int current_device();  // -1: none
void set_current_device(int index);
code make_current(int device);  // the same, as a call of the driver's
// Whether this thread may make calls that spoil a graph which another one captures. Gives back what was.
code exchange_capture_mode(bool* may_spoil);
code reaches(bool* can);
code last_error();
void forget_error();
code memory_of(int device, std::uint64_t* free_bytes, std::uint64_t* total_bytes);

code create_stream(stream** result);
code destroy_stream(stream* which);
code synchronize_stream(stream* which);
code query_stream(stream* which);
code create_event(event** result);
void destroy_event(event* which);
code record_event(event* which, stream* on);
code query_event(event* which);
code synchronize_event(event* which);
code wait_for_event(stream* on, event* which);

enum class way : int { to_device, to_host, on_device };
code copy(std::uint64_t destination, std::uint64_t source, std::uint64_t bytes, way where, stream* on);
code fill(std::uint64_t destination, std::uint8_t value, std::uint64_t bytes, stream* on);
code wait_for_value(stream* on, const std::uint64_t* flag, std::uint64_t least);
code write_value(std::uint64_t destination, std::uint64_t value, stream* on);
code call_host(stream* on, void (*function)(void*), void* argument);
code create_flag(std::uint64_t** result);
code destroy_flag(std::uint64_t* flag);

code allocate(std::uint64_t bytes, std::uint64_t* address);
code free_memory(std::uint64_t address);
code reserve(std::uint64_t bytes, std::uint64_t alignment, std::uint64_t* base);
code unreserve(std::uint64_t base, std::uint64_t bytes);
code create_memory(int device, std::uint64_t bytes, physical** result);
code release_memory(physical* which);
code map(std::uint64_t address, std::uint64_t bytes, physical* which);
code unmap(std::uint64_t address, std::uint64_t bytes);
code allow_access(std::uint64_t address, std::uint64_t bytes, const int* devices, std::size_t count);
code lock_host(void* memory, std::size_t bytes);
code unlock_host(void* memory);
code allocate_pinned(std::uint64_t bytes, void** result);
code allocate_shared(std::uint64_t bytes, void** host, std::uint64_t* device_address);
code free_pinned(void* memory);

// ---- Among the files of the driver ---------------------------------------------------------------------------------

// Begins a call: what it is made to fail with, or the current device's loss.
code enter(api which);
code enter();
// The call's result, remembered by the thread when it is an error.
code leave(code result);
// Whether this call is the one that is to fail; for those that a lost device does not refuse.
code refused(api which, int device);
// Of a call that no graph can be captured beside: what it is refused with, where one is, which is then spoilt.
code spoil_captures();
bool is_lost(int device);
code loss_of(int device);
void lose(int device, code why);
void submit(stream* on, std::function<code()> work);
bool is_mapped(std::uint64_t address);  // and no allocation
void drain_all();
// Null when the memory is not locked. Else it is in use for as long as the result lives: unlocking it then, or having
// its pages taken away, ends the program.
std::shared_ptr<void> use_locked(std::uint64_t address, std::uint64_t bytes);
// By a device, or on its behalf: both ends of each are checked, and an access that is not allowed is illegal_address.
code read_device(int device, std::uint64_t source, void* destination, std::uint64_t bytes);
code write_device(int device, std::uint64_t destination, const void* source, std::uint64_t bytes);
void end_kernel();  // what was written meanwhile and could not be seen can be now
code write_word(int device, std::uint64_t destination, std::uint64_t value);  // whole

}  // namespace gm::fake_gpu
