// SPDX-License-Identifier: Apache-2.0
// error_text.h - the sentence behind a failing status: what backend_table::error_text returns.
//
// Thread-local, cut at error_text_bytes - 1 bytes. Nothing here throws. Work that fails on a stream's thread leaves its
// sentence with the stream, and the thread that is told of the failure gets it from there.
#pragma once

#include <cstddef>

#include "gmem/gmem.h"

namespace gm::device {

inline constexpr std::size_t error_text_bytes = 384;

// Sets this thread's sentence (printf's format) and returns the status, so that a failing place is one line.
[[gnu::format(printf, 2, 3)]] gm_status fail(gm_status status, const char* format, ...) noexcept;

// As fail(), with errno's own words added.
[[gnu::format(printf, 2, 3)]] gm_status fail_errno(gm_status status, const char* format, ...) noexcept;

// This thread's sentence; "" before any failure.
const char* error_text() noexcept;

}  // namespace gm::device
