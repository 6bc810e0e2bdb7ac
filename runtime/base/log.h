// SPDX-License-Identifier: Apache-2.0
// log.h - one line to standard error, at or below the level of GM_LOG. Any thread, also in signal handlers.
#pragma once

namespace gm {

enum class log_level : int { error = 0, warn = 1, info = 2, debug = 3 };

void set_log_level(log_level);
[[gnu::format(printf, 2, 3)]] void log_line(log_level, const char* format, ...);

}  // namespace gm
