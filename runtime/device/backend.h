// SPDX-License-Identifier: Apache-2.0
// backend.h - the contract between the runtime and one vendor's devices.
//
// A backend is a shared object, libgmem-<name>.so, that exports gm_backend_entry and fills one table of functions. It
// knows devices, device memory, streams and copies. It knows nothing of pages, validity, faults or policy.
//
//   open -> device_open (each device) -> piece_create / stream_create / work ... -> device_close -> close
//
// Pieces.   Device memory comes in pieces of whole 2 MiB frames. With a window (has_window), a piece stands at
//           window_base + offset, where offset is the arena offset of the block it will hold. Without one, a piece is
//           one contiguous range wherever the device puts it. Contents are undefined: the runtime fills what must be
//           zero.
// Streams.  A stream is a queue of work done in order. Enqueueing never waits for queued work unless the queue is full,
//           and a queue that holds no call() always drains by itself. Any number of threads may enqueue on one stream;
//           work of one call stays together, so copy() with a callback is one unit. Host memory is read and written in
//           the stream's order, pageable or not.
// Fences.   A fence is a value: a stream and a position in it. It stays valid for ever, also after the stream is
//           destroyed (then it is complete). The null fence {nullptr, 0} is complete.
// Failure.  Enqueueing returns a status; when it is not ok nothing was enqueued. Work that fails later gives its status
//           to the callback of its unit and fails the stream: work behind it is skipped (callbacks and finish functions
//           still run, with the failure), until stream_synchronize reports the failure and clears it.
//           A stream created with stream_independent is for the runtime's own copies: a unit that fails does not fail
//           the units behind it.
//           What a GPU has in its queue already cannot be taken back: where a stream fails by stream_fail, or by a unit
//           that fails while it runs, units queued before that moment may run, and are told of the failure all the
//           same. Their destinations are undefined then. sim skips them; device/gpu/gpu_stream.h has the details.
// Demand.   Kernels that fetch their own pages (has_access_maps) read and write tables in device memory: table_reserve
//           gives addresses, table_extend memory behind them. The host changes tables by writing words, in stream
//           order: a kernel that runs meanwhile sees each word before or after, never half of it. Frames have a second,
//           lasting address, good for reading until device_close: a kernel that reads a frame which has been given
//           back reads something, and finds out. mailbox memory is host memory that kernels and the host both reach.
// Callbacks run on a thread of the backend, after the work before them and before any fence recorded behind them
//           completes; behind a stream_wait also after the callbacks of what was waited for. They may enqueue, and may
//           take the runtime's locks; they never wait for queued work. Device work behind a fence may start before the
//           callbacks that the fence covers have run, but not before functions given to call() have returned.
// Threads.  All functions may be called from any thread, except that opening and closing are alone.
// Words.    Functions return gm_status values. After a failure error_text() (thread-local) says why, in the device
//           API's own words.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gmem/gmem.h"

namespace gm::device {

inline constexpr std::uint32_t backend_abi = 5;

struct backend;  // opaque, the backend's own
struct device;
struct stream;

enum capability : std::uint32_t {
  has_window = 1u << 0,       // set: pieces stand at window_base + offset.   clear: anywhere, contiguous
  has_host_launch = 1u << 1,  // set: kernels are host code, launch() works.  clear: launch is null
  has_peer_copies = 1u << 2,  // set: copies between devices of this backend. clear: the runtime goes through the host
  has_native_streams = 1u << 3,   // set: stream_from_native and stream_native work. clear: both are null
  may_share_addresses = 1u << 4,  // set: the window is the device's alone, and the host may map memory of its own over
                                  //      the same numbers, until device_close. clear: the host keeps away from it
  // set: host_register and host_unregister work, and wait for no work of the device. clear: they are not called
  registers_host_memory = 1u << 5,
  // set: lasting_address, table_*, mailbox_* and transfer_and_write work. clear: they are null, or not to be called
  has_access_maps = 1u << 6,
};

struct backend_options {
  std::uint64_t arena_bytes;  // how large a window must be
  std::uint32_t sim_devices;
  std::uint64_t sim_memory_bytes;
  std::uint64_t sim_bandwidth_bytes_per_second;  // 0: unlimited
  std::uint64_t sim_latency_ns;
  bool sim_window;
};

struct device_info {
  char name[64];
  std::uint64_t total_bytes;
  std::uint64_t free_bytes;
  std::uint32_t capabilities;
  std::uint64_t window_base;  // device address of arena offset 0; 0 without a window
  std::uint64_t pool_base;    // all lasting addresses are above it, less than 2^48 bytes away; 0 without access maps
};

// A stream as the vendor's own API knows it.
struct native_stream {
  void* handle;     // a cudaStream_t or hipStream_t
  int device;       // its device's number in that API
  bool has_failed;  // stream_synchronize has a failure to report: what is launched on the handle now would not be
                    // skipped
};

struct fence {
  ::gm::device::stream* stream = nullptr;
  std::uint64_t position = 0;
  bool operator==(const fence&) const = default;
};

// One contiguous transfer. Either side is a host address (the alias mapping, or ordinary memory) or a device address.
enum class direction : std::uint8_t { host_to_device, device_to_host, device_to_device };
struct copy_run {
  std::uint64_t destination;
  std::uint64_t source;
  std::uint64_t bytes;
  ::gm::device::direction direction;
};

struct fill_run {
  std::uint64_t destination;  // a device address
  std::uint64_t bytes;
  std::uint8_t value;
};

// One word of a table, written whole.
struct word_write {
  std::uint64_t destination;  // a device address, a multiple of 8
  std::uint64_t value;
};

// Called once when a unit is done. result is GM_OK, or why the unit failed or was skipped.
using callback = void (*)(void* argument, gm_status result);

// Asked on a thread of the backend once everything before the unit is done, before its first byte moves.
using readiness = gm_status (*)(void* argument);

enum stream_flags : std::uint32_t { stream_ordinary = 0, stream_independent = 1 };

// Operations that tests can make fail, by number: fail_nth(op, n) makes the n-th call or unit from now fail, once.
enum class operation : std::uint8_t {
  piece_create,   // refused with GM_ERROR_NO_MEMORY
  stream_create,  // refused with GM_ERROR_DEVICE
  copy_submit,    // refused with GM_ERROR_DEVICE, nothing enqueued
  copy_run,       // enqueued, fails when it runs; the destination is left untouched
  fill_submit,
  fill_run,
  launch_submit,
  launch_run,
  wait_submit,
  fence_record,
  call_submit,
  word_submit,  // of a transfer_and_write with words
  count_
};

struct backend_table {
  std::uint32_t abi;  // backend_abi
  const char* name;   // "sim", "cuda", "hip"

  // GM_ERROR_UNSUPPORTED when there is no such device or driver here: not an error for GM_BACKEND=auto.
  gm_status (*open)(const backend_options*, backend** result, std::uint32_t* device_count);
  void (*close)(backend*);
  gm_status (*device_open)(backend*, std::uint32_t index, device** result);
  void (*device_close)(device*);  // all its streams are destroyed and its pieces given back by then
  gm_status (*device_info_get)(device*, device_info* result);

  // GM_ERROR_NO_MEMORY when the device has no such piece free now. frames is 1 wherever there is a window.
  gm_status (*piece_create)(device*, std::uint64_t offset, std::uint32_t frames, std::uint64_t* address);
  // No queued work uses the piece any more. Never fails.
  void (*piece_destroy)(device*, std::uint64_t offset, std::uint32_t frames, std::uint64_t address);

  gm_status (*stream_create)(device*, std::uint32_t flags, stream** result);
  // The native stream stays its owner's, who keeps it until stream_destroy.
  gm_status (*stream_from_native)(device*, void* native, stream** result);
  void (*stream_destroy)(stream*);  // waits for its work, also for what was launched on its native handle
  // What is launched on the handle is work of the stream: fences recorded later cover it.
  gm_status (*stream_native)(stream*, native_stream* result);
  gm_status (*stream_synchronize)(stream*);
  // GM_OK, or why the stream has failed; it goes on having failed.
  gm_status (*stream_failure)(stream*);
  // Fails the stream as if work had failed at the point it has reached. For a callback whose unit others waited for.
  void (*stream_fail)(stream*, gm_status why);

  // One unit: fills, then copies, then the callback (may be null). The fence (may be null) completes behind it.
  gm_status (*transfer)(stream*, const fill_run* fills, std::size_t fill_count, const copy_run* copies,
                        std::size_t copy_count, callback done, void* argument, fence* completion);
  // The same, for copies from memory that work ahead of them may have failed to write: ready(argument) decides whether
  // the unit moves anything. What is not GM_OK the unit fails with, and the stream. Where there is nothing to move,
  // work queued behind it may have started by then, as when a stream fails otherwise (see Failure).
  gm_status (*transfer_if)(stream*, readiness ready, const fill_run* fills, std::size_t fill_count,
                           const copy_run* copies, std::size_t copy_count, callback done, void* argument,
                           fence* completion);
  // Work queued on the stream from now on runs after the fence, which may belong to another device of this backend.
  gm_status (*stream_wait)(stream*, fence);
  // Completes when all work queued so far is done or skipped. done may be null.
  gm_status (*fence_record)(stream*, callback done, void* argument, fence* completion);
  bool (*fence_done)(fence);
  void (*fence_wait)(fence);
  // function may block and may touch managed memory. Skipped when the stream has failed.
  gm_status (*call)(stream*, void (*function)(void*), void* argument);
  // body over disjoint pieces of [0, count), in parallel; then finish(argument), also when skipped. finish may be null.
  gm_status (*launch)(stream*, std::size_t count, void (*body)(void*, std::size_t, std::size_t), void (*finish)(void*),
                      void* argument);

  // The unit whose function (of call, or launch's body and finish) that thread is running, else the null fence. Asked
  // by fault handlers while the thread sleeps: waits for nothing, allocates nothing, and may answer the null fence
  // where it cannot tell. A fence recorded behind the unit has at least its position. Null where stream work never runs
  // on the host.
  fence (*running_unit)(std::int32_t thread);

  // Where all devices of the backend have registers_host_memory; else null, or not to be called. Makes host memory one
  // that all devices of the backend copy from and to directly, at full speed. Whole OS pages, which exist and stay;
  // ranges do not overlap. GM_ERROR_NO_MEMORY, GM_ERROR_PERMISSION: too much is locked already; copies work as before.
  gm_status (*host_register)(backend*, void* memory, std::size_t bytes);
  // The range that begins there, if one is registered, and which no queued work uses: work queued from now on does not
  // use it directly. Waits for nothing and allocates nothing. Null where host_register is.
  void (*host_retire)(backend*, void* memory);
  // A range that was registered (of another, nothing) and that no queued work uses any more. Never fails.
  void (*host_unregister)(backend*, void* memory, std::size_t bytes);

  // Of a piece that exists, and with it of each of its frames, at the same distances. Stays until device_close, and
  // belongs to whoever has the frame. May make mappings: GM_ERROR_NO_MEMORY.
  gm_status (*lasting_address)(device*, std::uint64_t address, std::uint64_t* lasting);
  // Addresses for a table, of a page of the device's or more; no memory yet. They stay until device_close.
  gm_status (*table_reserve)(device*, std::uint64_t bytes, std::uint64_t* address);
  // Makes that part of a table exist, zeroed where it did not before. Waits for no queued work of kernels. May be
  // called for what exists already. GM_ERROR_NO_MEMORY.
  gm_status (*table_extend)(device*, std::uint64_t address, std::uint64_t bytes);
  // Zeroed host memory that kernels reach too, at *device_address, and that copy engines use at full speed.
  gm_status (*mailbox_create)(device*, std::uint64_t bytes, void** host, std::uint64_t* device_address);
  void (*mailbox_destroy)(device*, void* host);  // no queued work and no kernel uses it any more
  // As transfer; and behind the copies, when none has failed, the words are written, in any order.
  gm_status (*transfer_and_write)(stream*, const fill_run* fills, std::size_t fill_count, const copy_run* copies,
                                  std::size_t copy_count, const word_write* words, std::size_t word_count,
                                  callback done, void* argument, fence* completion);

  // For tests; null where a backend cannot. n = 0 turns it off.
  void (*fail_nth)(backend*, operation, std::uint64_t n);
  const char* (*error_text)();
};

using backend_entry = const backend_table* (*)();
inline constexpr const char* backend_entry_name = "gm_backend_entry";

}  // namespace gm::device
