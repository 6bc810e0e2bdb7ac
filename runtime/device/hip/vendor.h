// SPDX-License-Identifier: Apache-2.0
// hip/vendor.h - HIP behind the seam of device/gpu/vendor.h, over libamdhip64.
//
// What a HIP has is tried when this is configured (cmake/gpu_toolkits.cmake sets the GMEM_HIP_... macros), and whether
// it works is asked of the device, or tried by the one who uses it. There are no contexts to push: the current device
// is the thread's, and is set back. The library, and so its memory of last errors, is the one that the program uses.
// Never run on hardware by this project: compiled, linked, and loaded on machines without a driver.
#pragma once

#include <hip/hip_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <new>

#include "device/backend.h"
#include "device/gpu/error_class.h"

namespace gm::device::gpu::vendor {

inline constexpr const char* name = "hip";

// ---- Errors --------------------------------------------------------------------------------------------------------

using error = hipError_t;
inline constexpr error success = hipSuccess;
inline constexpr error host_out_of_memory = hipErrorOutOfMemory;

inline error_class classify(error which) noexcept {
  switch (which) {
    case hipSuccess:
      return error_class::none;
    case hipErrorNotReady:
      return error_class::not_ready;
    case hipErrorOutOfMemory:
    case hipErrorRuntimeMemory:
      return error_class::no_memory;
    case hipErrorInsufficientDriver:
    case hipErrorNoDevice:
    case hipErrorNotInitialized:
      return error_class::no_device;
    case hipErrorNotSupported:
      return error_class::lacking;
    case hipErrorIllegalAddress:
    case hipErrorLaunchTimeOut:
    case hipErrorAssert:
    case hipErrorLaunchFailure:
    case hipErrorECCNotCorrectable:
    case hipErrorContextIsDestroyed:
    case hipErrorRuntimeOther:
    case hipErrorUnknown:
      return error_class::lost;
    case hipErrorStreamCaptureUnsupported:
    case hipErrorStreamCaptureInvalidated:
    case hipErrorStreamCaptureMerge:
    case hipErrorStreamCaptureUnmatched:
    case hipErrorStreamCaptureUnjoined:
    case hipErrorStreamCaptureIsolation:
    case hipErrorStreamCaptureImplicit:
    case hipErrorCapturedEvent:
    case hipErrorStreamCaptureWrongThread:
      return error_class::captured;
    default:
      return error_class::other;
  }
}

inline const char* describe(error which) noexcept {
  if (which == hipErrorNoDevice) return "there is no AMD driver with a device here";
  return hipGetErrorString(which);
}

inline void forget_error(error) noexcept { static_cast<void>(hipGetLastError()); }

// ---- Devices -------------------------------------------------------------------------------------------------------

struct context {
  int index = 0;
};

struct device_facts {
  char name[64];
  bool maps_memory;
  bool waits_for_values;
  bool writes_values;
  bool copies_in_batches;
};

inline error start(int* count) noexcept { return hipGetDeviceCount(count); }

// An attribute that a library declares and a driver does not know is a no.
inline error ask_whether(hipDeviceAttribute_t which, int index, bool* can) noexcept {
  int answer = 0;
  error result = hipDeviceGetAttribute(&answer, which, index);
  *can = result == success && answer != 0;
  if (result == hipErrorInvalidValue || result == hipErrorNotSupported) {
    forget_error(result);
    result = success;
  }
  return result;
}

inline error ask_device(int index, device_facts* facts) noexcept {
  if (const error result = hipDeviceGetName(facts->name, sizeof facts->name, index); result != success) return result;
  facts->maps_memory = facts->waits_for_values = facts->copies_in_batches = false;
  error result = success;
  // Releases in which a device cannot say so have the calls without doing anything in them.
#if GMEM_HIP_TELLS_WHETHER_IT_MAPS && GMEM_HIP_MAPS_MEMORY
  result = ask_whether(hipDeviceAttributeVirtualMemoryManagementSupported, index, &facts->maps_memory);
#endif
#if GMEM_HIP_WAITS_FOR_VALUES
  if (result == success) {
    result = ask_whether(hipDeviceAttributeCanUseStreamWaitValue, index, &facts->waits_for_values);
  }
#endif
  facts->writes_values = facts->waits_for_values;
  return result;
}

inline error open_context(int index, context* result) noexcept {
  result->index = index;
  return success;
}

inline error close_context(const context&) noexcept { return success; }

struct outside {
  int device = 0;
  bool is_device_changed = false;
  hipStreamCaptureMode capture_mode = hipStreamCaptureModeRelaxed;
  bool is_mode_changed = false;
};

// A HIP that has no captures has no modes of them.
inline error exchange_capture_mode(hipStreamCaptureMode* mode) noexcept {
#if GMEM_HIP_HAS_CAPTURE_MODES
  error result = hipThreadExchangeStreamCaptureMode(mode);
  if (result == hipErrorNotSupported) {
    forget_error(result);
    result = success;
  }
  return result;
#else
  static_cast<void>(mode);
  return success;
#endif
}

inline error enter(const context& which, outside* before) noexcept {
  if (const error result = hipGetDevice(&before->device); result != success) return result;
  if (before->device != which.index) {
    if (const error result = hipSetDevice(which.index); result != success) return result;
    before->is_device_changed = true;
  }
  const error result = exchange_capture_mode(&before->capture_mode);
  before->is_mode_changed = result == success;
  return result;
}

inline error leave(outside* before) noexcept {
  if (before->is_mode_changed) {
    hipStreamCaptureMode mode = before->capture_mode;
    if (const error result = exchange_capture_mode(&mode); result != success) return result;
    before->is_mode_changed = false;
  }
  if (before->is_device_changed) {
    if (const error result = hipSetDevice(before->device); result != success) return result;
    before->is_device_changed = false;
  }
  return success;
}

inline error memory_of(const context&, std::uint64_t* free_bytes, std::uint64_t* total_bytes) noexcept {
  std::size_t free = 0;
  std::size_t total = 0;
  const error result = hipMemGetInfo(&free, &total);
  *free_bytes = free;
  *total_bytes = total;
  return result;
}

inline error reaches(int from, int to, bool* can) noexcept {
  int answer = 0;
  const error result = hipDeviceCanAccessPeer(&answer, from, to);
  *can = answer != 0;
  return result;
}

// ---- Streams and events --------------------------------------------------------------------------------------------

using stream = hipStream_t;
using event = hipEvent_t;
inline constexpr stream no_stream = nullptr;
inline constexpr event no_event = nullptr;

inline error create_stream(stream* result, bool independent) noexcept {
  int least = 0;
  int greatest = 0;
  if (const error asked = hipDeviceGetStreamPriorityRange(&least, &greatest); asked != success) return asked;
  // Streams of one priority may share a hardware queue, in which one that waits holds up the others.
  return hipStreamCreateWithPriority(result, hipStreamNonBlocking, independent ? greatest : least);
}

inline error destroy_stream(stream which) noexcept { return hipStreamDestroy(which); }
inline error synchronize_stream(stream which) noexcept { return hipStreamSynchronize(which); }

inline error stream_is_whole(stream which) noexcept {
  const error result = hipStreamQuery(which);
  return result == hipErrorNotReady ? success : result;
}

// Blocking: a thread that waits for long sleeps.
inline error create_event(event* result) noexcept {
  return hipEventCreateWithFlags(result, hipEventDisableTiming | hipEventBlockingSync);
}

inline error destroy_event(event which) noexcept { return hipEventDestroy(which); }
inline error record_event(event which, stream on) noexcept { return hipEventRecord(which, on); }
inline error query_event(event which) noexcept { return hipEventQuery(which); }
inline error synchronize_event(event which) noexcept { return hipEventSynchronize(which); }
inline error wait_for_event(stream on, event which) noexcept { return hipStreamWaitEvent(on, which, 0); }

// ---- Work ----------------------------------------------------------------------------------------------------------

inline void* pointer(std::uint64_t address) noexcept { return reinterpret_cast<void*>(address); }

inline error copy(const copy_run& run, stream on) noexcept {
  hipMemcpyKind kind = hipMemcpyDeviceToDevice;
  if (run.direction == direction::host_to_device) kind = hipMemcpyHostToDevice;
  if (run.direction == direction::device_to_host) kind = hipMemcpyDeviceToHost;
  return hipMemcpyAsync(pointer(run.destination), pointer(run.source), run.bytes, kind, on);
}

// HIP takes no lists.
inline error copy_batch(const copy_run* runs, std::size_t count, stream on) noexcept {
  error result = success;
  for (std::size_t i = 0; i < count && result == success; ++i) result = copy(runs[i], on);
  return result;
}

inline error copy_between_devices(const copy_run& run, int to, int from, stream on) noexcept {
  return hipMemcpyPeerAsync(pointer(run.destination), to, pointer(run.source), from, run.bytes, on);
}

inline error fill(std::uint64_t destination, std::uint8_t value, std::uint64_t bytes, stream on) noexcept {
  return hipMemsetAsync(pointer(destination), value, bytes, on);
}

struct flag {
  std::uint64_t* host = nullptr;
};

// Waits for values are promised for signal memory only, which comes in words.
inline error create_flag(flag* result) noexcept {
  void* made = nullptr;
#if GMEM_HIP_WAITS_FOR_VALUES
  const error status = hipExtMallocWithFlags(&made, sizeof(std::uint64_t), hipMallocSignalMemory);
#else
  const error status = hipHostMalloc(&made, sizeof(std::uint64_t), hipHostMallocPortable);
#endif
  if (status != success) return status;
  result->host = static_cast<std::uint64_t*>(made);
  *result->host = 0;
  return success;
}

#if GMEM_HIP_WAITS_FOR_VALUES
inline error destroy_flag(const flag& which) noexcept { return hipFree(which.host); }

inline error wait_for_value(stream on, const flag& which, std::uint64_t least) noexcept {
  return hipStreamWaitValue64(on, which.host, least, hipStreamWaitValueGte, ~std::uint64_t{0});
}
#else
inline error destroy_flag(const flag& which) noexcept { return hipHostFree(which.host); }
inline error wait_for_value(stream, const flag&, std::uint64_t) noexcept { return hipErrorNotSupported; }
#endif

// A call for each: lists of them are of later releases. Whether a device writes them while kernels hold all of its
// processors is not known.
inline error write_values(const word_write* words, std::size_t count, stream on) noexcept {
#if GMEM_HIP_WAITS_FOR_VALUES
  error result = success;
  for (std::size_t i = 0; i < count && result == success; ++i) {
    result = hipStreamWriteValue64(on, pointer(words[i].destination), words[i].value, 0);
  }
  return result;
#else
  static_cast<void>(words);
  static_cast<void>(count);
  static_cast<void>(on);
  return hipErrorNotSupported;
#endif
}

// Some releases declare hipLaunchHostFunc and do not have it; its forerunner is everywhere.
inline error call_host(stream on, void (*function)(void*) noexcept, void* argument) noexcept {
  struct host_call {
    void (*function)(void*) noexcept;
    void* argument;
  };
  auto* const made = new (std::nothrow) host_call{function, argument};
  if (made == nullptr) return hipErrorOutOfMemory;
  const auto run = [](hipStream_t, hipError_t, void* call) {
    const host_call own = *static_cast<host_call*>(call);
    delete static_cast<host_call*>(call);
    own.function(own.argument);
  };
  const error result = hipStreamAddCallback(on, run, made, 0);
  if (result != success) delete made;
  return result;
}

// ---- Memory --------------------------------------------------------------------------------------------------------

inline error allocate(std::uint64_t bytes, std::uint64_t* address) noexcept {
  void* made = nullptr;
  const error result = hipMalloc(&made, bytes);
  *address = reinterpret_cast<std::uint64_t>(made);
  return result;
}

inline error free_memory(std::uint64_t address) noexcept { return hipFree(pointer(address)); }

#if GMEM_HIP_MAPS_MEMORY
using memory = hipMemGenericAllocationHandle_t;
inline constexpr memory no_memory = nullptr;

inline error reserve(std::uint64_t bytes, std::uint64_t alignment, std::uint64_t* base) noexcept {
  void* reserved = nullptr;
  const error result = hipMemAddressReserve(&reserved, bytes, alignment, nullptr, 0);
  *base = reinterpret_cast<std::uint64_t>(reserved);
  return result;
}

inline error unreserve(std::uint64_t base, std::uint64_t bytes) noexcept {
  return hipMemAddressFree(pointer(base), bytes);
}

inline error create_memory(const context& where, std::uint64_t bytes, memory* result) noexcept {
  hipMemAllocationProp properties{};
  properties.type = hipMemAllocationTypePinned;
  properties.location.type = hipMemLocationTypeDevice;
  properties.location.id = where.index;
  return hipMemCreate(result, bytes, &properties, 0);
}

inline error release_memory(memory which) noexcept { return hipMemRelease(which); }

inline error map(std::uint64_t address, std::uint64_t bytes, memory which) noexcept {
  return hipMemMap(pointer(address), bytes, 0, which, 0);
}

inline error unmap(std::uint64_t address, std::uint64_t bytes) noexcept { return hipMemUnmap(pointer(address), bytes); }

// At most 32 devices.
inline error allow_access(std::uint64_t address, std::uint64_t bytes, const int* devices, std::size_t count) noexcept {
  hipMemAccessDesc access[32]{};
  for (std::size_t i = 0; i < count; ++i) {
    access[i].location.type = hipMemLocationTypeDevice;
    access[i].location.id = devices[i];
    access[i].flags = hipMemAccessFlagsProtReadWrite;
  }
  return hipMemSetAccess(pointer(address), bytes, access, count);
}
#else
using memory = void*;
inline constexpr memory no_memory = nullptr;
inline error reserve(std::uint64_t, std::uint64_t, std::uint64_t*) noexcept { return hipErrorNotSupported; }
inline error unreserve(std::uint64_t, std::uint64_t) noexcept { return hipErrorNotSupported; }
inline error create_memory(const context&, std::uint64_t, memory*) noexcept { return hipErrorNotSupported; }
inline error release_memory(memory) noexcept { return hipErrorNotSupported; }
inline error map(std::uint64_t, std::uint64_t, memory) noexcept { return hipErrorNotSupported; }
inline error unmap(std::uint64_t, std::uint64_t) noexcept { return hipErrorNotSupported; }
inline error allow_access(std::uint64_t, std::uint64_t, const int*, std::size_t) noexcept {
  return hipErrorNotSupported;
}
#endif

inline error lock_host(void* host, std::size_t bytes) noexcept {
  return hipHostRegister(host, bytes, hipHostRegisterPortable);
}

inline error unlock_host(void* host) noexcept { return hipHostUnregister(host); }

inline error allocate_pinned(std::uint64_t bytes, void** result) noexcept {
  return hipHostMalloc(result, bytes, hipHostMallocPortable);
}

inline error free_pinned(void* host) noexcept { return hipHostFree(host); }

// Coherent: what a kernel writes there the host sees before the kernel ends.
inline error allocate_shared(std::uint64_t bytes, void** host, std::uint64_t* device_address) noexcept {
  void* made = nullptr;
  if (const error result =
          hipHostMalloc(&made, bytes, hipHostMallocPortable | hipHostMallocMapped | hipHostMallocCoherent);
      result != success) {
    return result;
  }
  void* device = nullptr;
  if (const error result = hipHostGetDevicePointer(&device, made, 0); result != success) {
    static_cast<void>(hipHostFree(made));
    return result;
  }
  *host = made;
  *device_address = reinterpret_cast<std::uint64_t>(device);
  return success;
}

}  // namespace gm::device::gpu::vendor
