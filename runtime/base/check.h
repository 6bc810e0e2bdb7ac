// SPDX-License-Identifier: Apache-2.0
// check.h - asserts. GM_CHECK is always on: for what would corrupt data if the program went on. GM_DCHECK is for the
// rest and is on where GMEM_DEBUG_CHECKS is defined (debug and sanitizer builds). Both print and abort.
#pragma once

namespace gm {
[[noreturn, gnu::cold, gnu::format(printf, 3, 4)]] void die(const char* file, int line, const char* format, ...);
// A program's error for which malloc's contract has no status, in the manner of glibc: "gmem: <message>", then abort.
[[noreturn, gnu::cold, gnu::format(printf, 1, 2)]] void abort_with(const char* format, ...);
}  // namespace gm

#define GM_CHECK(condition)                            \
  do {                                                 \
    if (!(condition)) [[unlikely]]                     \
      ::gm::die(__FILE__, __LINE__, "%s", #condition); \
  } while (0)

#ifdef GMEM_DEBUG_CHECKS
#define GM_DCHECK(condition) GM_CHECK(condition)
#else
#define GM_DCHECK(condition) \
  do {                       \
  } while (0)
#endif
