// SPDX-License-Identifier: Apache-2.0
//
// result_table.h - what a sample over a graph did, measured and printed.
#ifndef GMEM_SAMPLES_GRAPH_RESULT_TABLE_H
#define GMEM_SAMPLES_GRAPH_RESULT_TABLE_H

#include <chrono>
#include <cstddef>
#include <gmem/gmem.hpp>
#include <string>

#include "edge_list.h"

namespace sample {

// From its construction to stop(): the time, and the bytes that came to the stream's device and left it.
class measurement {
 public:
  measurement();

  // Waits for the stream first. Throws gm::error as gm::stream::synchronize does.
  void stop(gm::stream& stream);

  double seconds() const { return seconds_; }
  const gm_node_stats& moved() const { return moved_; }

 private:
  std::chrono::steady_clock::time_point started_;
  double seconds_ = 0;
  gm_node_stats moved_{};
};

// tiles: 0 where kernels fetched what they touched. work: what is counted in passes over all of it, with its number.
// Prints to stdout.
void print_table(const edge_list& list, std::size_t tiles, const std::string& work, std::size_t passes,
                 const measurement& measured, bool equals_the_cpu);

}  // namespace sample

#endif  // GMEM_SAMPLES_GRAPH_RESULT_TABLE_H
