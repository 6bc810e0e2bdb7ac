// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>

namespace gm {
namespace {
std::atomic<log_level> level{log_level::warn};
constexpr const char* names[] = {"error", "warning", "info", "debug"};
}  // namespace

void set_log_level(log_level value) { level.store(value, std::memory_order_relaxed); }

void log_line(log_level value, const char* format, ...) {
  if (value > level.load(std::memory_order_relaxed)) return;
  char text[640];
  int used = std::snprintf(text, sizeof text, "gmem: %s: ", names[static_cast<int>(value)]);
  va_list arguments;
  va_start(arguments, format);
  used += std::vsnprintf(text + used, sizeof text - static_cast<unsigned>(used), format, arguments);
  va_end(arguments);
  if (used > static_cast<int>(sizeof text) - 2) used = static_cast<int>(sizeof text) - 2;
  text[used++] = '\n';
  // One write(2): lines of several threads do not mix, and no lock is taken.
  if (write(STDERR_FILENO, text, static_cast<unsigned>(used)) < 0) return;
}

}  // namespace gm
