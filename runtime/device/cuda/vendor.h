// SPDX-License-Identifier: Apache-2.0
// cuda/vendor.h - CUDA behind the seam of device/gpu/vendor.h: the runtime API, linked statically, so that its last
// errors are not the program's, and the driver's functions looked up at run time, so that the object loads anywhere.
//
// The driver's and the runtime's errors share their numbers. A context is the device's primary one, which the program's
// own CUDA code uses too; it is pushed and popped, so the program finds its own current again.
// Kernels are the program's: nothing here is device code, and a host compiler builds it.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "device/backend.h"
#include "device/gpu/error_class.h"

namespace gm::device::gpu::vendor {

inline constexpr const char* name = "cuda";

// ---- Errors --------------------------------------------------------------------------------------------------------

using error = cudaError_t;
inline constexpr error success = cudaSuccess;
inline constexpr error host_out_of_memory = cudaErrorMemoryAllocation;

inline error from_driver(CUresult result) noexcept { return static_cast<error>(result); }

inline error_class classify(error which) noexcept {
  switch (which) {
    case cudaSuccess:
      return error_class::none;
    case cudaErrorNotReady:
      return error_class::not_ready;
    case cudaErrorMemoryAllocation:
    case cudaErrorLaunchOutOfResources:
      return error_class::no_memory;
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorStubLibrary:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorSystemNotReady:
      return error_class::no_device;
    case cudaErrorNotSupported:
    case cudaErrorCallRequiresNewerDriver:
      return error_class::lacking;
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorDevicesUnavailable:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
    case cudaErrorUnknown:
      return error_class::lost;
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureMerge:
    case cudaErrorStreamCaptureUnmatched:
    case cudaErrorStreamCaptureUnjoined:
    case cudaErrorStreamCaptureIsolation:
    case cudaErrorStreamCaptureImplicit:
    case cudaErrorCapturedEvent:
    case cudaErrorStreamCaptureWrongThread:
      return error_class::captured;
    default:
      return error_class::other;
  }
}

inline const char* describe(error which) noexcept {
  int driver_version = 0;
  if (which == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver_version) == cudaSuccess &&
      driver_version == 0) {
    return "there is no NVIDIA driver here";
  }
  return cudaGetErrorString(which);
}

inline void forget_error(error) noexcept { static_cast<void>(cudaGetLastError()); }

// ---- The driver's functions ----------------------------------------------------------------------------------------

struct driver_functions {
  decltype(&cuDevicePrimaryCtxRetain) primary_context_retain = nullptr;
  decltype(&cuDevicePrimaryCtxRelease) primary_context_release = nullptr;
  decltype(&cuCtxPushCurrent) context_push = nullptr;
  decltype(&cuCtxPopCurrent) context_pop = nullptr;
  decltype(&cuDeviceGetAttribute) device_attribute = nullptr;
  decltype(&cuMemAddressReserve) address_reserve = nullptr;
  decltype(&cuMemAddressFree) address_free = nullptr;
  decltype(&cuMemCreate) memory_create = nullptr;
  decltype(&cuMemRelease) memory_release = nullptr;
  decltype(&cuMemMap) memory_map = nullptr;
  decltype(&cuMemUnmap) memory_unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
  decltype(&cuStreamWaitValue64) wait_value = nullptr;
  decltype(&cuStreamBatchMemOp) batch_of_values = nullptr;
};

inline driver_functions driver;

template <class Function>
error look_up(const char* symbol, Function* function) noexcept {
  cudaDriverEntryPointQueryResult found{};
  void* entry = nullptr;
#if CUDART_VERSION >= 12050
  constexpr unsigned oldest_driver = 12040;
  const error result = cudaGetDriverEntryPointByVersion(symbol, &entry, oldest_driver, cudaEnableDefault, &found);
#else
  const error result = cudaGetDriverEntryPoint(symbol, &entry, cudaEnableDefault, &found);
#endif
  if (result != success) return result;
  if (found != cudaDriverEntryPointSuccess || entry == nullptr) return cudaErrorCallRequiresNewerDriver;
  *function = reinterpret_cast<Function>(entry);
  return success;
}

inline error look_up_all() noexcept {
  error result = success;
  const auto add = [&](const char* symbol, auto* function) {
    if (result == success) result = look_up(symbol, function);
  };
  add("cuDevicePrimaryCtxRetain", &driver.primary_context_retain);
  add("cuDevicePrimaryCtxRelease", &driver.primary_context_release);
  add("cuCtxPushCurrent", &driver.context_push);
  add("cuCtxPopCurrent", &driver.context_pop);
  add("cuDeviceGetAttribute", &driver.device_attribute);
  add("cuMemAddressReserve", &driver.address_reserve);
  add("cuMemAddressFree", &driver.address_free);
  add("cuMemCreate", &driver.memory_create);
  add("cuMemRelease", &driver.memory_release);
  add("cuMemMap", &driver.memory_map);
  add("cuMemUnmap", &driver.memory_unmap);
  add("cuMemSetAccess", &driver.set_access);
  add("cuStreamWaitValue64", &driver.wait_value);
  add("cuStreamBatchMemOp", &driver.batch_of_values);
  return result;
}

// ---- Devices -------------------------------------------------------------------------------------------------------

struct context {
  CUcontext handle = nullptr;
  int index = 0;
};

struct device_facts {
  char name[64];
  bool maps_memory;
  bool waits_for_values;
  bool writes_values;
  bool copies_in_batches;
};

inline error start(int* count) noexcept {
  error result = cudaGetDeviceCount(count);
  if (result == success && *count > 0) result = look_up_all();
  return result;
}

inline error ask_device(int index, device_facts* facts) noexcept {
  cudaDeviceProp properties;
  if (const error result = cudaGetDeviceProperties(&properties, index); result != success) return result;
  std::snprintf(facts->name, sizeof facts->name, "%.63s", properties.name);
  int maps_memory = 0;
  if (const CUresult result =
          driver.device_attribute(&maps_memory, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, index);
      result != CUDA_SUCCESS) {
    return from_driver(result);
  }
  int waits_for_values = 0;
  if (const CUresult result =
          driver.device_attribute(&waits_for_values, CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS, index);
      result != CUDA_SUCCESS) {
    return from_driver(result);
  }
  int driver_version = 0;
  if (const error result = cudaDriverGetVersion(&driver_version); result != success) return result;
  facts->maps_memory = maps_memory != 0;
  facts->waits_for_values = facts->writes_values = waits_for_values != 0;
  // By the toolkit that this is built with and by the driver that runs it.
  facts->copies_in_batches = CUDART_VERSION >= 12080 && driver_version >= 12080;
  return success;
}

inline error open_context(int index, context* result) noexcept {
  result->index = index;
  return from_driver(driver.primary_context_retain(&result->handle, index));
}

inline error close_context(const context& which) noexcept {
  return from_driver(driver.primary_context_release(which.index));
}

struct outside {
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeRelaxed;
  bool is_mode_changed = false;
  bool is_pushed = false;
};

inline error enter(const context& which, outside* before) noexcept {
  if (const CUresult result = driver.context_push(which.handle); result != CUDA_SUCCESS) return from_driver(result);
  before->is_pushed = true;
  const error result = cudaThreadExchangeStreamCaptureMode(&before->capture_mode);
  before->is_mode_changed = result == success;
  return result;
}

inline error leave(outside* before) noexcept {
  if (before->is_mode_changed) {
    cudaStreamCaptureMode mode = before->capture_mode;
    if (const error result = cudaThreadExchangeStreamCaptureMode(&mode); result != success) return result;
    before->is_mode_changed = false;
  }
  if (before->is_pushed) {
    CUcontext popped = nullptr;
    if (const CUresult result = driver.context_pop(&popped); result != CUDA_SUCCESS) return from_driver(result);
    before->is_pushed = false;
  }
  return success;
}

inline error memory_of(const context&, std::uint64_t* free_bytes, std::uint64_t* total_bytes) noexcept {
  std::size_t free = 0;
  std::size_t total = 0;
  const error result = cudaMemGetInfo(&free, &total);
  *free_bytes = free;
  *total_bytes = total;
  return result;
}

inline error reaches(int from, int to, bool* can) noexcept {
  int answer = 0;
  const error result = cudaDeviceCanAccessPeer(&answer, from, to);
  *can = answer != 0;
  return result;
}

// ---- Streams and events --------------------------------------------------------------------------------------------

using stream = cudaStream_t;
using event = cudaEvent_t;
inline constexpr stream no_stream = nullptr;
inline constexpr event no_event = nullptr;

inline error create_stream(stream* result, bool independent) noexcept {
  int least = 0;
  int greatest = 0;
  if (const error asked = cudaDeviceGetStreamPriorityRange(&least, &greatest); asked != success) return asked;
  // Streams of one priority may share a hardware queue, in which one that waits holds up the others.
  return cudaStreamCreateWithPriority(result, cudaStreamNonBlocking, independent ? greatest : least);
}

inline error destroy_stream(stream which) noexcept { return cudaStreamDestroy(which); }
inline error synchronize_stream(stream which) noexcept { return cudaStreamSynchronize(which); }

inline error stream_is_whole(stream which) noexcept {
  if (which == cudaStreamPerThread) return cudaErrorNotSupported;  // another one in each thread that uses it
  const error result = cudaStreamQuery(which);
  return result == cudaErrorNotReady ? success : result;
}

// Blocking: a thread that waits for long sleeps.
inline error create_event(event* result) noexcept {
  return cudaEventCreateWithFlags(result, cudaEventDisableTiming | cudaEventBlockingSync);
}

inline error destroy_event(event which) noexcept { return cudaEventDestroy(which); }
inline error record_event(event which, stream on) noexcept { return cudaEventRecord(which, on); }
inline error query_event(event which) noexcept { return cudaEventQuery(which); }
inline error synchronize_event(event which) noexcept { return cudaEventSynchronize(which); }
inline error wait_for_event(stream on, event which) noexcept { return cudaStreamWaitEvent(on, which, 0); }

// ---- Work ----------------------------------------------------------------------------------------------------------

inline void* pointer(std::uint64_t address) noexcept { return reinterpret_cast<void*>(address); }

inline error copy(const copy_run& run, stream on) noexcept {
  cudaMemcpyKind kind = cudaMemcpyDeviceToDevice;
  if (run.direction == direction::host_to_device) kind = cudaMemcpyHostToDevice;
  if (run.direction == direction::device_to_host) kind = cudaMemcpyDeviceToHost;
  return cudaMemcpyAsync(pointer(run.destination), pointer(run.source), run.bytes, kind, on);
}

// Runs of one direction, at most 64, whose host sides are registered.
inline error copy_each(const copy_run* runs, std::size_t count, stream on) noexcept {
  error result = success;
  for (std::size_t i = 0; i < count && result == success; ++i) result = copy(runs[i], on);
  return result;
}

inline error copy_batch(const copy_run* runs, std::size_t count, stream on) noexcept {
  // Not for the default stream, which has no batches.
  const bool is_legacy = on == nullptr || on == cudaStreamLegacy;
  if (is_legacy) return copy_each(runs, count, on);
#if CUDART_VERSION >= 12080
  constexpr std::size_t most = 64;
  void* destinations[most];
  void* sources[most];
  std::size_t sizes[most];
  for (std::size_t i = 0; i < count; ++i) {
    destinations[i] = pointer(runs[i].destination);
    sources[i] = pointer(runs[i].source);
    sizes[i] = runs[i].bytes;
  }
  cudaMemcpyAttributes attributes{};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  std::size_t first = 0;
#if CUDART_VERSION >= 13000
  return cudaMemcpyBatchAsync(destinations, const_cast<const void**>(sources), sizes, count, &attributes, &first, 1,
                              on);
#else
  std::size_t failed = 0;
  return cudaMemcpyBatchAsync(destinations, sources, sizes, count, &attributes, &first, 1, &failed, on);
#endif
#else
  return copy_each(runs, count, on);
#endif
}

inline error copy_between_devices(const copy_run& run, int to, int from, stream on) noexcept {
  return cudaMemcpyPeerAsync(pointer(run.destination), to, pointer(run.source), from, run.bytes, on);
}

inline error fill(std::uint64_t destination, std::uint8_t value, std::uint64_t bytes, stream on) noexcept {
  return cudaMemsetAsync(pointer(destination), value, bytes, on);
}

inline error allocate_shared(std::uint64_t bytes, void** host, std::uint64_t* device_address) noexcept {
  void* made = nullptr;
  if (const error result = cudaHostAlloc(&made, bytes, cudaHostAllocMapped | cudaHostAllocPortable);
      result != success) {
    return result;
  }
  void* device = nullptr;
  if (const error result = cudaHostGetDevicePointer(&device, made, 0); result != success) {
    static_cast<void>(cudaFreeHost(made));
    return result;
  }
  *host = made;
  *device_address = reinterpret_cast<std::uint64_t>(device);
  return success;
}

struct flag {
  std::uint64_t* host = nullptr;
  std::uint64_t device_address = 0;
};

inline error create_flag(flag* result) noexcept {
  void* host = nullptr;
  const error made = allocate_shared(sizeof(std::uint64_t), &host, &result->device_address);
  if (made != success) return made;
  result->host = static_cast<std::uint64_t*>(host);
  *result->host = 0;
  return success;
}

inline error destroy_flag(const flag& which) noexcept { return cudaFreeHost(which.host); }

inline error wait_for_value(stream on, const flag& which, std::uint64_t least) noexcept {
  return from_driver(driver.wait_value(on, which.device_address, least, CU_STREAM_WAIT_VALUE_GEQ));
}

// The driver takes fewer than 256 at a time. Each write comes with a fence before it, and takes no processor of the
// device's: kernels that wait for it may hold them all.
inline error write_values(const word_write* words, std::size_t count, stream on) noexcept {
  constexpr std::size_t most = 128;
  CUstreamBatchMemOpParams operations[most];
  error result = success;
  for (std::size_t at = 0; at < count && result == success; at += most) {
    const std::size_t part = count - at < most ? count - at : most;
    for (std::size_t i = 0; i < part; ++i) {
      operations[i] = {};
      operations[i].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_64;
      operations[i].writeValue.address = words[at + i].destination;
      operations[i].writeValue.value64 = words[at + i].value;
      operations[i].writeValue.flags = CU_STREAM_WRITE_VALUE_DEFAULT;
    }
    result = from_driver(driver.batch_of_values(on, static_cast<unsigned>(part), operations, 0));
  }
  return result;
}

inline error call_host(stream on, void (*function)(void*) noexcept, void* argument) noexcept {
  return cudaLaunchHostFunc(on, function, argument);
}

// ---- Memory --------------------------------------------------------------------------------------------------------

inline error allocate(std::uint64_t bytes, std::uint64_t* address) noexcept {
  void* made = nullptr;
  const error result = cudaMalloc(&made, bytes);
  *address = reinterpret_cast<std::uint64_t>(made);
  return result;
}

inline error free_memory(std::uint64_t address) noexcept { return cudaFree(pointer(address)); }

inline error reserve(std::uint64_t bytes, std::uint64_t alignment, std::uint64_t* base) noexcept {
  CUdeviceptr reserved = 0;
  const CUresult result = driver.address_reserve(&reserved, bytes, alignment, 0, 0);
  *base = reserved;
  return from_driver(result);
}

inline error unreserve(std::uint64_t base, std::uint64_t bytes) noexcept {
  return from_driver(driver.address_free(base, bytes));
}

using memory = CUmemGenericAllocationHandle;
inline constexpr memory no_memory = 0;

inline error create_memory(const context& where, std::uint64_t bytes, memory* result) noexcept {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = where.index;
  return from_driver(driver.memory_create(result, bytes, &properties, 0));
}

inline error release_memory(memory which) noexcept { return from_driver(driver.memory_release(which)); }

inline error map(std::uint64_t address, std::uint64_t bytes, memory which) noexcept {
  return from_driver(driver.memory_map(address, bytes, 0, which, 0));
}

inline error unmap(std::uint64_t address, std::uint64_t bytes) noexcept {
  return from_driver(driver.memory_unmap(address, bytes));
}

// At most 32 devices.
inline error allow_access(std::uint64_t address, std::uint64_t bytes, const int* devices, std::size_t count) noexcept {
  CUmemAccessDesc access[32]{};
  for (std::size_t i = 0; i < count; ++i) {
    access[i].location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    access[i].location.id = devices[i];
    access[i].flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  }
  return from_driver(driver.set_access(address, bytes, access, count));
}

inline error lock_host(void* host, std::size_t bytes) noexcept {
  return cudaHostRegister(host, bytes, cudaHostRegisterPortable);
}

inline error unlock_host(void* host) noexcept { return cudaHostUnregister(host); }

inline error allocate_pinned(std::uint64_t bytes, void** result) noexcept {
  return cudaHostAlloc(result, bytes, cudaHostAllocPortable);
}

inline error free_pinned(void* host) noexcept { return cudaFreeHost(host); }

}  // namespace gm::device::gpu::vendor
