// SPDX-License-Identifier: Apache-2.0
#include "base/status.h"

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace gm {
namespace {
thread_local char message[512];
}

const char* status_name(status value) {
  switch (value) {
    case status::ok:
      return "GM_OK";
    case status::invalid_argument:
      return "GM_ERROR_INVALID_ARGUMENT";
    case status::not_managed:
      return "GM_ERROR_NOT_MANAGED";
    case status::no_memory:
      return "GM_ERROR_NO_MEMORY";
    case status::unsupported:
      return "GM_ERROR_UNSUPPORTED";
    case status::busy:
      return "GM_ERROR_BUSY";
    case status::permission:
      return "GM_ERROR_PERMISSION";
    case status::device:
      return "GM_ERROR_DEVICE";
    case status::system:
      return "GM_ERROR_SYSTEM";
  }
  return "unknown status";
}

status fail(status value, const char* format, ...) {
  // Formatted aside, since an argument may be the old message itself.
  char fresh[sizeof message];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(fresh, sizeof fresh, format, arguments);
  va_end(arguments);
  std::memcpy(message, fresh, sizeof message);
  return value;
}

// One buffer, and nothing formatted twice: this may run on a signal's stack.
status fail_errno(const char* format, ...) {
  constexpr std::size_t room_for_error = 128;
  const int error = errno;
  char fresh[sizeof message];
  va_list arguments;
  va_start(arguments, format);
  const int written = std::vsnprintf(fresh, sizeof fresh - room_for_error, format, arguments);
  va_end(arguments);
  const std::size_t used = std::min(static_cast<std::size_t>(std::max(written, 0)), sizeof fresh - room_for_error - 1);
  std::snprintf(fresh + used, sizeof fresh - used, ": %s (errno %d)", std::strerror(error), error);
  std::memcpy(message, fresh, sizeof message);
  return error == ENOMEM ? status::no_memory : status::system;
}

const char* last_error() { return message; }
void forget_error() { message[0] = 0; }

}  // namespace gm
