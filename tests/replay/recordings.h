// SPDX-License-Identifier: Apache-2.0
// recordings.h - the traces of traces/, made anew from the kernels of kernels/: always the same.
#pragma once

#include "replay/trace.h"

namespace gm::test {

struct recording {
  const char* name;  // traces/NAME.trace
  trace (*make)();
};

trace record_stream();
trace record_strided();
trace record_gather();
trace record_stencil();
trace record_bfs();

inline constexpr recording recordings[] = {{"stream", record_stream},
                                           {"strided", record_strided},
                                           {"gather", record_gather},
                                           {"stencil", record_stencil},
                                           {"bfs", record_bfs}};

}  // namespace gm::test
