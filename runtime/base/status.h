// SPDX-License-Identifier: Apache-2.0
// status.h - what an operation returns, and the sentence that goes with a failure.
//
// The sentence is thread-local. fail() writes it and returns the status, so that the place that knows what happened
// says so in one line. Nothing here throws or allocates.
#pragma once

#include "gmem/gmem.h"

namespace gm {

// clang-format off: version 14 does not know an attribute here
enum class [[nodiscard]] status : int{
    ok = GM_OK,
    invalid_argument = GM_ERROR_INVALID_ARGUMENT,
    not_managed = GM_ERROR_NOT_MANAGED,
    no_memory = GM_ERROR_NO_MEMORY,
    unsupported = GM_ERROR_UNSUPPORTED,
    busy = GM_ERROR_BUSY,
    permission = GM_ERROR_PERMISSION,
    device = GM_ERROR_DEVICE,
    system = GM_ERROR_SYSTEM,
};
// clang-format on

const char* status_name(status);

// Sets this thread's error sentence (printf's format; cut at 511 bytes) and returns the status.
[[gnu::format(printf, 2, 3)]] status fail(status, const char* format, ...);

// As fail(status::system, ...), with errno's own words added.
[[gnu::format(printf, 1, 2)]] status fail_errno(const char* format, ...);

const char* last_error();
void forget_error();

}  // namespace gm
