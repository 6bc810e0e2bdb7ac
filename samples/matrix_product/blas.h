// SPDX-License-Identifier: Apache-2.0
//
// blas.h - what cuBLAS and hipBLAS call the few things that are used of them. With SAMPLE_BLAS, for their compilers.
#ifndef GMEM_SAMPLES_MATRIX_PRODUCT_BLAS_H
#define GMEM_SAMPLES_MATRIX_PRODUCT_BLAS_H

#if defined(__HIPCC__)

#include <hipblas/hipblas.h>

struct blas {
  static constexpr const char* name = "hipBLAS";
  static constexpr auto success = HIPBLAS_STATUS_SUCCESS;
  static constexpr auto as_it_is = HIPBLAS_OP_N;
  using status = hipblasStatus_t;
  using handle = hipblasHandle_t;
  static const char* words(status s) { return hipblasStatusToString(s); }
  static status create(handle* made) { return hipblasCreate(made); }
  static status destroy(handle h) { return hipblasDestroy(h); }
  static status set_stream(handle h, void* stream) { return hipblasSetStream(h, static_cast<hipStream_t>(stream)); }
  static constexpr auto sgemm = &hipblasSgemm;
};

#else

#include <cublas_v2.h>

struct blas {
  static constexpr const char* name = "cuBLAS";
  static constexpr auto success = CUBLAS_STATUS_SUCCESS;
  static constexpr auto as_it_is = CUBLAS_OP_N;
  using status = cublasStatus_t;
  using handle = cublasHandle_t;
  static const char* words(status s) { return cublasGetStatusString(s); }
  static status create(handle* made) { return cublasCreate(made); }
  static status destroy(handle h) { return cublasDestroy(h); }
  static status set_stream(handle h, void* stream) { return cublasSetStream(h, static_cast<cudaStream_t>(stream)); }
  static constexpr auto sgemm = &cublasSgemm;
};

#endif

#endif  // GMEM_SAMPLES_MATRIX_PRODUCT_BLAS_H
