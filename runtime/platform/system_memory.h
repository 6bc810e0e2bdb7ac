// SPDX-License-Identifier: Apache-2.0
// system_memory.h - how much memory this machine has for us: RAM, or the cgroup's limit where that is lower.
#pragma once

#include <cstdint>

namespace gm {
std::uint64_t system_memory_bytes();
}
