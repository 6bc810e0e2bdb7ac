// SPDX-License-Identifier: Apache-2.0
// oracle_kernel.h - device work that checks what it reads against what it must be, and writes what is known beforehand.
//
// The expected contents are taken when the work is queued: whatever the program does later comes after it. Every piece
// is a byte range of one mode: GM_READ checks, GM_READ_WRITE checks and changes, GM_WRITE overwrites without looking.
// Locking: none; the fields are final when launch() is called, `wrong` is atomic, and done is set by finish.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "gmem/gmem.h"

namespace gm::test {

// The byte that a write with this seed leaves at a place.
inline std::uint8_t written_byte(std::uint64_t seed, std::size_t at) {
  const std::uint64_t mixed = (seed + at / 64 * 64) * 0x9e3779b97f4a7c15u;
  return static_cast<std::uint8_t>((mixed >> 56) + at);
}

inline void fill_with(std::uint8_t* bytes, std::size_t count, std::uint64_t seed) {
  for (std::size_t i = 0; i < count; ++i) bytes[i] = written_byte(seed, i);
}

class oracle_kernel {
 public:
  struct piece {
    std::uint8_t* device = nullptr;
    std::size_t bytes = 0;
    gm_mode mode = GM_READ;
    std::uint64_t seed = 0;
    std::vector<std::uint8_t> expected;  // empty for GM_WRITE
  };
  static constexpr std::size_t chunk = 8192;

  std::vector<piece> pieces;
  std::atomic<std::size_t> wrong{0};  // bytes that were not what they must be
  std::atomic<bool> ran{false};
  std::atomic<bool> finished{false};

  // What was wrong, once finished.
  std::string message() const {
    return std::to_string(wrong.load()) + " bytes were wrong in a kernel: " + std::string(first_wrong_);
  }

  // The kernel must stay until it is finished.
  gm_status launch(gm_stream stream) {
    std::size_t chunks = 0;
    for (const piece& p : pieces) chunks += chunks_of(p);
    return gm_stream_launch(stream, chunks, body, finish, this);
  }

 private:
  static std::size_t chunks_of(const piece& p) { return (p.bytes + chunk - 1) / chunk; }

  void run_chunk(std::size_t index) {
    for (piece& p : pieces) {
      if (index >= chunks_of(p)) {
        index -= chunks_of(p);
        continue;
      }
      const std::size_t first = index * chunk;
      const std::size_t last = std::min(p.bytes, first + chunk);
      if (p.mode != GM_WRITE && std::memcmp(p.device + first, p.expected.data() + first, last - first) != 0)
        for (std::size_t i = first; i < last; ++i)
          if (p.device[i] != p.expected[i] && wrong.fetch_add(1) == 0) note(p, i);
      if (p.mode != GM_READ)
        for (std::size_t i = first; i < last; ++i) p.device[i] = written_byte(p.seed, i);
      return;
    }
  }
  // The first wrong byte, for the message.
  void note(const piece& p, std::size_t at) {
    std::snprintf(first_wrong_, sizeof first_wrong_, "byte %zu of %zu, mode %d, is 0x%02x and should be 0x%02x", at,
                  p.bytes, p.mode, p.device[at], p.expected[at]);
  }
  static void body(void* self, std::size_t first, std::size_t last) {
    auto* k = static_cast<oracle_kernel*>(self);
    k->ran.store(true);
    for (std::size_t i = first; i < last; ++i) k->run_chunk(i);
  }
  static void finish(void* self) { static_cast<oracle_kernel*>(self)->finished.store(true); }

  char first_wrong_[128] = "";
};

}  // namespace gm::test
