// SPDX-License-Identifier: Apache-2.0
// sim_link.h - the model of one transfer direction of one device: a link that its streams share.
//
// A unit that moves bytes over the link occupies it for latency + bytes / bandwidth, from when the unit starts or when
// the link is free again, whichever is later. The stream books the time, copies, and waits for the end it was given:
// so a transfer is never faster than the model, and slower only by what the machine adds.
// Threads: any; one atomic word, the time at which the link is free again.
#pragma once

#include <atomic>
#include <cstdint>

namespace gm::device::sim {

class sim_link {
 public:
  // 0 bytes a second: unlimited.
  void set_model(std::uint64_t bandwidth_bytes_per_second, std::uint64_t latency_ns) noexcept {
    bandwidth_bytes_per_second_ = bandwidth_bytes_per_second;
    latency_ns_ = latency_ns;
    free_at_ns_.store(0, std::memory_order_relaxed);
  }

  bool is_modelled() const noexcept { return bandwidth_bytes_per_second_ != 0 || latency_ns_ != 0; }

  // When a unit of so many bytes that starts at now_ns is through.
  std::uint64_t book(std::uint64_t bytes, std::uint64_t now_ns) noexcept {
    const std::uint64_t takes_ns = duration_ns(bytes);
    std::uint64_t free_at_ns = free_at_ns_.load(std::memory_order_relaxed);
    std::uint64_t end_ns;
    do {
      end_ns = (free_at_ns > now_ns ? free_at_ns : now_ns) + takes_ns;
    } while (!free_at_ns_.compare_exchange_weak(free_at_ns, end_ns, std::memory_order_relaxed));
    return end_ns;
  }

 private:
  std::uint64_t duration_ns(std::uint64_t bytes) const noexcept {
    if (bandwidth_bytes_per_second_ == 0) return latency_ns_;
    const double transfer_ns = static_cast<double>(bytes) * 1e9 / static_cast<double>(bandwidth_bytes_per_second_);
    constexpr double century_ns = 3.2e18;  // keeps the sum inside 64 bits
    return latency_ns_ + static_cast<std::uint64_t>(transfer_ns < century_ns ? transfer_ns : century_ns);
  }

  std::uint64_t bandwidth_bytes_per_second_ = 0;
  std::uint64_t latency_ns_ = 0;
  std::atomic<std::uint64_t> free_at_ns_{0};
};

}  // namespace gm::device::sim
