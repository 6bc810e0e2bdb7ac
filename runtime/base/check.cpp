// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace gm {
namespace {
// write(2), not stdio: this also runs in signal handlers and while stdio's locks may be held.
[[noreturn]] void print_and_abort(const char* prefix, const char* format, va_list arguments) {
  char text[640];
  int used = std::snprintf(text, sizeof text, "%s", prefix);
  used += std::vsnprintf(text + used, sizeof text - static_cast<std::size_t>(used) - 1, format, arguments);
  if (used > static_cast<int>(sizeof text) - 2) used = static_cast<int>(sizeof text) - 2;
  text[used++] = '\n';
  if (write(STDERR_FILENO, text, static_cast<std::size_t>(used)) < 0) {
    // Nowhere left to complain to.
  }
  std::abort();
}
}  // namespace

void die(const char* file, int line, const char* format, ...) {
  char prefix[256];
  std::snprintf(prefix, sizeof prefix, "gmem: check failed at %s:%d: ", file, line);
  va_list arguments;
  va_start(arguments, format);
  print_and_abort(prefix, format, arguments);
}

void abort_with(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  print_and_abort("gmem: ", format, arguments);
}

}  // namespace gm
