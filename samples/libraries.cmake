# SPDX-License-Identifier: Apache-2.0
# What samples need beyond gmem and may lack. For a sample NAME, and a PLATFORM of host, cuda and hip:
#   NAME_PLATFORM_lacks       not there: the sample is left out, and configuring says so
#   NAME_PLATFORM_includes    folders of headers that are not the project's
#   NAME_PLATFORM_options     for the compiler
#   NAME_PLATFORM_libraries   targets for the host compiler, names or paths for the others
# Nothing of it is fetched.

# Thrust: CUDA's toolkit has it (from version 13 in include/cccl), and nvcc finds it there. Its TBB system serves the
# simulated device in all three programs. rocThrust is told from the others by its own system.
find_path(GMEM_THRUST_INCLUDE_DIR thrust/system/tbb/execution_policy.h HINTS ${CUDAToolkit_INCLUDE_DIRS}
          PATH_SUFFIXES cccl)
if(GMEM_THRUST_INCLUDE_DIR)
  set(thrust_statistics_host_includes ${GMEM_THRUST_INCLUDE_DIR})
  set(thrust_statistics_host_options -DTHRUST_DEVICE_SYSTEM=THRUST_DEVICE_SYSTEM_TBB)
  set(thrust_statistics_host_libraries TBB::tbb)
else()
  set(thrust_statistics_host_lacks "Thrust (in CUDA's toolkit; Debian: libthrust-dev)")
endif()
set(thrust_statistics_cuda_libraries tbb)
if(GMEM_HIPCC)
  find_path(GMEM_ROCTHRUST_INCLUDE_DIR thrust/system/hip/execution_policy.h HINTS ENV ROCM_PATH /opt/rocm
            PATH_SUFFIXES include)
  if(GMEM_ROCTHRUST_INCLUDE_DIR)
    set(thrust_statistics_hip_includes ${GMEM_ROCTHRUST_INCLUDE_DIR})
    set(thrust_statistics_hip_libraries tbb)
  else()
    set(thrust_statistics_hip_lacks "rocThrust")
  endif()
endif()

# BLAS: without it the product is made by a kernel of the sample's own, as on the simulated device.
if(GMEM_NVCC)
  if(TARGET CUDA::cublas)
    set(matrix_product_cuda_options -DSAMPLE_BLAS=1)
    set(matrix_product_cuda_libraries ${CUDA_cublas_LIBRARY})
  else()
    message(STATUS "cuda_sample_matrix_product multiplies with a kernel of its own: cuBLAS was not found")
  endif()
endif()
if(GMEM_HIPCC)
  find_path(GMEM_HIPBLAS_INCLUDE_DIR hipblas/hipblas.h HINTS ENV ROCM_PATH /opt/rocm PATH_SUFFIXES include)
  find_library(GMEM_HIPBLAS_LIBRARY hipblas HINTS ENV ROCM_PATH /opt/rocm PATH_SUFFIXES lib)
  if(GMEM_HIPBLAS_INCLUDE_DIR AND GMEM_HIPBLAS_LIBRARY)
    set(matrix_product_hip_includes ${GMEM_HIPBLAS_INCLUDE_DIR})
    set(matrix_product_hip_options -DSAMPLE_BLAS=1)
    set(matrix_product_hip_libraries ${GMEM_HIPBLAS_LIBRARY})
  else()
    message(STATUS "hip_sample_matrix_product multiplies with a kernel of its own: hipBLAS was not found")
  endif()
endif()
