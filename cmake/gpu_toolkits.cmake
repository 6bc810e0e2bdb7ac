# SPDX-License-Identifier: Apache-2.0
# Finds what the GPU backends are built with: sets GMEM_WITH_CUDA and GMEM_WITH_HIP. The backends have no device code:
# a vendor's headers and one library are enough.

# gmem_wants(NAME FOUND WHAT RESULT): whether to build it, by the option and by what was found.
function(gmem_wants name found what result)
  set(choices AUTO ON OFF)
  if(NOT GMEM_${name} IN_LIST choices)
    message(FATAL_ERROR "GMEM_${name}=${GMEM_${name}}: accepted are AUTO, ON and OFF.")
  endif()
  if(GMEM_${name} STREQUAL "ON" AND NOT found)
    message(FATAL_ERROR "GMEM_${name}=ON, and ${what} was not found.")
  endif()
  if(GMEM_${name} STREQUAL "OFF" OR NOT found)
    set(${result} OFF PARENT_SCOPE)
  else()
    set(${result} ON PARENT_SCOPE)
  endif()
endfunction()

macro(gmem_find_cuda)
  if(NOT GMEM_CUDA STREQUAL "OFF")
    find_package(CUDAToolkit 12.4 QUIET)
  endif()
  set(gmem_cuda_found OFF)
  if(CUDAToolkit_FOUND AND TARGET CUDA::cudart_static)
    set(gmem_cuda_found ON)
  endif()
  gmem_wants(CUDA ${gmem_cuda_found} "a CUDA toolkit from 12.4 up (CUDAToolkit_ROOT says where)" GMEM_WITH_CUDA)
endmacro()

# HIP's own CMake package asks for more than a host program needs, and differs between distributions.
macro(gmem_find_hip)
  if(NOT GMEM_HIP STREQUAL "OFF")
    find_path(GMEM_HIP_INCLUDE_DIR hip/hip_runtime_api.h HINTS ENV ROCM_PATH /opt/rocm PATH_SUFFIXES include)
    find_library(GMEM_HIP_LIBRARY amdhip64 HINTS ENV ROCM_PATH /opt/rocm PATH_SUFFIXES lib)
  endif()
  set(gmem_hip_found OFF)
  if(GMEM_HIP_INCLUDE_DIR AND GMEM_HIP_LIBRARY)
    set(gmem_hip_found ON)
  endif()
  gmem_wants(HIP ${gmem_hip_found} "HIP (hip/hip_runtime_api.h and libamdhip64; Debian: libamdhip64-dev)"
             GMEM_WITH_HIP)
  if(GMEM_WITH_HIP)
    add_library(gmem_hip INTERFACE)
    target_include_directories(gmem_hip SYSTEM INTERFACE ${GMEM_HIP_INCLUDE_DIR})
    target_compile_definitions(gmem_hip INTERFACE __HIP_PLATFORM_AMD__=1 __HIP_PLATFORM_HCC__=1)
    target_link_libraries(gmem_hip INTERFACE ${GMEM_HIP_LIBRARY})
    gmem_hip_features()
  endif()
endmacro()

# What this HIP has, by compiling and linking and not by its version: headers declare functions that libraries lack.
# Whether it works is for the run to find out.
function(gmem_hip_features)
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_INCLUDES ${GMEM_HIP_INCLUDE_DIR})
  set(CMAKE_REQUIRED_DEFINITIONS -D__HIP_PLATFORM_AMD__=1 -D__HIP_PLATFORM_HCC__=1)
  set(CMAKE_REQUIRED_LIBRARIES ${GMEM_HIP_LIBRARY})
  set(CMAKE_REQUIRED_QUIET ON)
  check_cxx_source_compiles("
    #include <hip/hip_runtime_api.h>
    int main() {
      void* base = nullptr;
      hipMemGenericAllocationHandle_t memory{};
      hipMemAllocationProp properties{};
      hipMemAccessDesc access{};
      return hipMemAddressReserve(&base, 1, 1, nullptr, 0) + hipMemCreate(&memory, 1, &properties, 0) +
             hipMemMap(base, 1, 0, memory, 0) + hipMemSetAccess(base, 1, &access, 1) + hipMemUnmap(base, 1) +
             hipMemRelease(memory) + hipMemAddressFree(base, 1);
    }" GMEM_HIP_MAPS_MEMORY)
  check_cxx_source_compiles("
    #include <hip/hip_runtime_api.h>
    int main() {
      int value = 0;
      return hipDeviceGetAttribute(&value, hipDeviceAttributeVirtualMemoryManagementSupported, 0);
    }" GMEM_HIP_TELLS_WHETHER_IT_MAPS)
  check_cxx_source_compiles("
    #include <hip/hip_runtime_api.h>
    int main() {
      void* word = nullptr;
      int can = 0;
      return hipExtMallocWithFlags(&word, 8, hipMallocSignalMemory) +
             hipStreamWaitValue64(nullptr, word, 1, hipStreamWaitValueGte, ~uint64_t{0}) +
             hipStreamWriteValue64(nullptr, word, 1, 0) +
             hipDeviceGetAttribute(&can, hipDeviceAttributeCanUseStreamWaitValue, 0);
    }" GMEM_HIP_WAITS_FOR_VALUES)
  check_cxx_source_compiles("
    #include <hip/hip_runtime_api.h>
    int main() {
      hipStreamCaptureMode mode = hipStreamCaptureModeRelaxed;
      return hipThreadExchangeStreamCaptureMode(&mode);
    }" GMEM_HIP_HAS_CAPTURE_MODES)
  foreach(feature IN ITEMS MAPS_MEMORY TELLS_WHETHER_IT_MAPS WAITS_FOR_VALUES HAS_CAPTURE_MODES)
    target_compile_definitions(gmem_hip INTERFACE GMEM_HIP_${feature}=$<BOOL:${GMEM_HIP_${feature}}>)
  endforeach()
endfunction()
