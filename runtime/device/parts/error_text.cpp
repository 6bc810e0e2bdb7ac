// SPDX-License-Identifier: Apache-2.0
#include "device/parts/error_text.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "device/parts/static_tls.h"

namespace gm::device {
namespace {

// Constant-initialised and without a destructor: usable from the first instruction of a thread to its last.
GM_STATIC_TLS thread_local constinit char text[error_text_bytes] = {};

}  // namespace

gm_status fail(gm_status status, const char* format, ...) noexcept {
  // The arguments may point into the old sentence, so the new one is made beside it.
  char made[error_text_bytes];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(made, sizeof made, format, arguments);
  va_end(arguments);
  std::memcpy(text, made, sizeof text);
  return status;
}

gm_status fail_errno(gm_status status, const char* format, ...) noexcept {
  const int error = errno;
  char made[error_text_bytes];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(made, sizeof made, format, arguments);
  va_end(arguments);
  char words[96];
  return fail(status, "%s: %s", made, strerror_r(error, words, sizeof words));
}

const char* error_text() noexcept { return text; }

}  // namespace gm::device
