// SPDX-License-Identifier: Apache-2.0
// thrash.h - blocks that bounce between nodes, and what to do about one.
//
// A block bounces when it moves to another node within a short time of its last move. After a few bounces in a row:
//   only read since it began to bounce -> duplicate: copies for readers, which no reader takes from another
//   written                            -> pin where it is for a while; each time it goes on bouncing after that, for
//                                         twice as long, up to a bound; or map it remotely, where the node could
// A block that is left alone for a while is forgiven all of it.
// A pure function of the table and the movement; the table is the caller's, of fixed size, all zero at first. It is
// hashed by block; a block whose place is taken by one that is still bouncing is not watched.
// Locking: the caller's; a handful of instructions a call. Units: ns of any clock that does not go backwards.
#pragma once

#include <cstdint>

#include "base/units.h"

namespace gm {

inline constexpr std::uint64_t bounce_within_ns = 2'000'000;
inline constexpr unsigned bounces_that_thrash = 3;
inline constexpr std::uint64_t shortest_pin_ns = 250'000;
inline constexpr std::uint64_t longest_pin_ns = 4'000'000;

enum class treatment : std::uint8_t {
  normal,
  duplicate,  // a reader gets a copy, and nobody loses his
  pin,        // leave it where it is until then
  remote,     // as pin, and the others may reach it where it is
};

struct movement {
  block_index block;
  unsigned to = host_node;
  bool write = false;            // the page is wanted to be written
  bool remote_possible = false;  // the node could reach it where it is
  std::uint64_t now_ns = 0;
};

struct thrash_record {
  std::uint64_t block_plus_one = 0;  // 0: unused
  std::uint64_t moved_ns = 0;
  std::uint64_t pinned_until_ns = 0;
  std::uint16_t node = 0;     // where it is
  std::uint16_t bounces = 0;  // in a row, up to those that thrash
  std::uint16_t pins = 0;     // in a row
  bool written = false;       // since it began to bounce
};

struct thrash_table {
  static constexpr unsigned count = 256;
  thrash_record records[count] = {};
};

struct thrash_answer {
  treatment how = treatment::normal;
  unsigned node = host_node;  // pin, remote: where it stays
  std::uint64_t until_ns = 0;
};

// A node wants pages of the block that are not there. Anything but pin and remote: the block is taken to have moved.
thrash_answer next_treatment(thrash_table&, const movement&);

}  // namespace gm
