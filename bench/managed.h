// SPDX-License-Identifier: Apache-2.0
// managed.h - gmem's side of the measurements: a runtime of its own for each row, managed memory in a known state.
//
// Everything here throws bench_error, with gmem's own sentence, when gmem says no. Order of members matters: a session
// first, so that it ends behind the memory and the streams.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bare_pager.h"
#include "gmem/gmem.h"

namespace gm::bench {

inline constexpr int device_node = 1;

void check(gm_status, const char* what);

// Each direction of the link between host and device. All zero: as fast as the machine.
struct link_model {
  std::uint64_t bytes_per_second = 0;
  std::uint64_t latency_ns = 0;  // of each transfer, in which the link carries nothing else
};

// Slow enough for the link, and not the CPU, to be what a row waits for.
inline constexpr link_model slow_link{2'000'000'000, 10'000};

// gm_init .. gm_shutdown, on one simulated device of 2.5 GiB with 128 GiB of address space. No row sees what another
// has left in the table. The environment still wins, so GM_FAULT_MODE=inline and its like can be measured.
class session {
 public:
  // Budget 0: what the runtime takes by default.
  explicit session(link_model link = {}, std::uint64_t device_budget_bytes = 0);
  session(const session&) = delete;
  session& operator=(const session&) = delete;
  ~session();
};

class device_stream {
 public:
  device_stream();
  device_stream(const device_stream&) = delete;
  device_stream& operator=(const device_stream&) = delete;
  ~device_stream();

  gm_stream get() const { return stream_; }
  void synchronize() const;

 private:
  gm_stream stream_ = nullptr;
};

class managed_memory {
 public:
  explicit managed_memory(std::size_t bytes);
  managed_memory(const managed_memory&) = delete;
  managed_memory& operator=(const managed_memory&) = delete;
  ~managed_memory();

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  gm_access as(gm_mode mode) const { return {data_, bytes_, mode}; }

  void advise(gm_advice) const;
  void prefetch(int node) const;
  // Every byte becomes value, and that node alone holds it, with nothing mapped for the CPU when it is the device.
  void fill(int node, unsigned char value) const;
  // The nodes that hold the first, the middle and the last page must be exactly these (bit n: node n).
  void expect_valid(std::uint32_t nodes) const;

 private:
  std::size_t bytes_;
  std::byte* data_;
};

// begin .. end of one scope over one piece of memory.
class open_scope {
 public:
  open_scope(const device_stream&, const gm_access&);
  open_scope(const open_scope&) = delete;
  open_scope& operator=(const open_scope&) = delete;
  ~open_scope();

  void end();

 private:
  gm_scope scope_ = nullptr;
};

gm_stats stats_now();
std::uint64_t host_faults();
// As host_faults, but waits a little for count of them: handlers may count a fault after they have answered it.
std::uint64_t host_faults_settled(std::uint64_t count);
// Copied from anywhere to anywhere since the runtime began.
std::uint64_t bytes_moved();

// One word of each OS page of the range, in order, added up: by the CPU, and by the device within a scope.
std::uint64_t sum_words(const std::byte* data, std::size_t bytes);
std::uint64_t sum_words_on_device(const device_stream&, const managed_memory&);
// What both give when every byte is value.
std::uint64_t expected_sum(std::size_t bytes, unsigned char value);
// Writes one word of each OS page, so that expected_sum(bytes, value) holds of it afterwards.
void write_words(std::byte* data, std::size_t bytes, unsigned char value);

// A value other than 0 that changes with every call, so that stale bytes cannot pass for new ones.
unsigned char next_value();

}  // namespace gm::bench
