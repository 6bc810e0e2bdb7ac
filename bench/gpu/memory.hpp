// SPDX-License-Identifier: Apache-2.0
// memory.hpp - data in one of the ways of way.hpp, behind one interface, so that every row of the comparison is the
// same program in every way. A way that a machine does not have is left out of the table: make_memory() gives null.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "gmem/gmem.h"
#include "gmem/view.hpp"
#include "vendor_runtime.hpp"
#include "way.hpp"

namespace gm::bench {

inline constexpr std::size_t KiB = 1024;
inline constexpr std::size_t MiB = 1024 * KiB;
inline constexpr int device_node = 1;

// Throws bench_error with gmem's own sentence.
void check(gm_status, const char* what);

// One native stream, and gmem's view of it: kernels of all ways are launched on the same queue.
class shared_stream {
 public:
  shared_stream();
  shared_stream(const shared_stream&) = delete;
  shared_stream& operator=(const shared_stream&) = delete;
  ~shared_stream();
  gm_stream get() const { return stream_; }
  vendor::stream native() const { return native_; }
  void synchronize() const;

 private:
  vendor::stream native_{};
  gm_stream stream_ = nullptr;
};

class memory {
 public:
  memory() = default;
  memory(const memory&) = delete;
  memory& operator=(const memory&) = delete;
  virtual ~memory() = default;

  // What the program does before a kernel that uses the bytes, and behind its launch. The kernel's address.
  virtual std::uint64_t* begin_kernel(std::size_t first, std::size_t bytes, gm_mode) = 0;
  virtual void end_kernel() {}
  // Between the two, where kernels use no address but fetch what they touch: the same bytes.
  virtual const gm::view<std::uint64_t>* view() const { return nullptr; }
  // Before the CPU uses the bytes; waits for the kernels.
  virtual void begin_cpu(std::size_t first, std::size_t bytes, gm_mode) = 0;
  // Both sides are going to read all of it, for long.
  virtual void only_read(bool) {}

  std::uint64_t* words() const { return words_; }

 protected:
  std::byte* at(std::size_t offset) const { return reinterpret_cast<std::byte*>(words_) + offset; }
  std::uint64_t* words_ = nullptr;
};

std::unique_ptr<memory> make_memory(way, std::size_t bytes, const shared_stream&);

}  // namespace gm::bench
