// SPDX-License-Identifier: Apache-2.0
// options.h - gm_options and the environment, checked and with every default filled in.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "device/backend.h"
#include "platform/userfault.h"

namespace gm {

struct options {
  bool automatic = true;              // take the first backends that have devices
  std::vector<std::string> backends;  // in the order to try
  std::uint64_t arena_bytes = 0;
  std::uint64_t host_budget_bytes = 0;
  std::uint64_t registered_budget_bytes = 0;
  std::uint64_t device_budget_bytes = 0;  // 0: each device's memory less a tenth
  gm::fault_mode fault_mode = fault_mode::thread;
  unsigned fault_threads = 0;
  device::backend_options device{};
  log_level log = log_level::warn;
};

// given may be null. The environment wins. invalid_argument names the variable, the value and what is accepted.
status read_options(const gm_options* given, options& result);

}  // namespace gm
