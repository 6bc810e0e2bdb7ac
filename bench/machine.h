// SPDX-License-Identifier: Apache-2.0
// machine.h - what the figures were taken on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gm::bench {

struct machine {
  std::string cpu;
  std::size_t cpus;  // that this process may use
  std::uint64_t memory_bytes;
  std::string kernel;
};

machine describe_machine();
std::vector<int> allowed_cpus();

}  // namespace gm::bench
