// SPDX-License-Identifier: Apache-2.0
// stress_flavours.h - the flavours that the stress tests run in.
#pragma once

#include <string>

#include "model/live_runtime.h"

namespace gm::test {

// sanitized: how this executable was built; what the sanitizers cannot do is left out.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool under_tsan = true;
#else
inline constexpr bool under_tsan = false;
#endif

inline flavour stress_flavour(const char* name, bool window, const char* fault_mode, std::uint64_t budget_bytes) {
  flavour f;
  f.name = name;
  f.window = window;
  f.fault_mode = fault_mode;
  f.arena_bytes = 512 * mebibyte;
  f.sim_memory_bytes = budget_bytes;
  f.device_budget_bytes = budget_bytes;
  return f;
}

inline std::string flavour_name(const testing::TestParamInfo<flavour>& info) { return info.param.name; }

}  // namespace gm::test
