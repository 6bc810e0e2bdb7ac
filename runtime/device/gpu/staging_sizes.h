// SPDX-License-Identifier: Apache-2.0
// staging_sizes.h - the figures of copies through pinned memory (staged_copies.h), and where they come from: a link of
// 55 GB/s to a device, cores that copy 6 to 12 GB/s, and threads that take 20 to 40 us to wake. None is measured here
// on a GPU yet.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gm::device::gpu {

// The link takes 5 us for a chunk, some more than a driver needs to start it: so the copy engine stays busy. And a
// block of 2 MiB is eight chunks, which several threads can copy at once.
inline constexpr std::uint64_t chunk_bytes = std::uint64_t{256} << 10;

// Of one host step. Half of them with the engine are 40 us of its work: more than it takes to hear of the end of one.
// The other half are for the five threads that copy.
inline constexpr std::size_t chunks_held_max = 16;

// Of a backend, 16 MiB: four steps at full speed (two devices, to and from each).
inline constexpr std::size_t chunks_count = 4 * chunks_held_max;

// What one thread copies in the time that it takes to wake another. So a page is nobody else's business.
inline constexpr std::uint64_t alone_bytes_max = chunk_bytes;

// With the stream's own thread five cores come near what the link takes. On a small machine half of the CPUs stay the
// program's.
inline constexpr unsigned copiers_max = 4;

}  // namespace gm::device::gpu
