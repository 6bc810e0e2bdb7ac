// SPDX-License-Identifier: Apache-2.0
// running_units.h - which thread is running the functions of which unit, kernels and calls, on whatever thread they
// run: what backend_table::running_unit answers.
//
// A table of a fixed size, looked up by thread; a mark that finds no place in it is none, and nobody is told wrong.
// Marks nest: a kernel's body may be given another kernel's by the scheduler meanwhile.
// Threads: any; no locks, no memory.
#pragma once

#include <cstdint>

#include "device/backend.h"

namespace gm::device {

// Marks this thread as long as it lives.
class running_mark {
 public:
  explicit running_mark(fence unit) noexcept;
  running_mark(const running_mark&) = delete;
  running_mark& operator=(const running_mark&) = delete;
  ~running_mark();

 private:
  std::size_t place_;
  fence outer_;
};

fence running_unit(std::int32_t thread) noexcept;

}  // namespace gm::device
