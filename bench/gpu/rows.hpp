// SPDX-License-Identifier: Apache-2.0
// rows.hpp - the rows of the comparison: one measurement each, which does its work once in every way, in turning order.
//
// A way's time is the counter NAME_ns (way.hpp). ours_ns is gmem declared, floor_ns explicit copies, so that `ratio` is
// what explicit copies leave to be won. A way that this machine does not have, or that is not asked for in a row (the
// vendor's managed memory must never exceed what the card has free), has no counter.
#pragma once

#include "measure.h"

namespace gm::bench {

void add_gpu_rows(case_list&);

// In the order of the table, with what is said of it.
struct gpu_row {
  const char* name;
  const char* work;
};
inline constexpr gpu_row gpu_rows[] = {
    {"gpu/to_device", "256 MiB written by the CPU: to the device, and one kernel reads them"},
    {"gpu/read_back", "256 MiB written by the device: the CPU reads them all"},
    {"gpu/read_sparse", "256 MiB written by the device: the CPU reads one word in 2 MiB"},
    {"gpu/ping_pong", "64 KiB written by device and CPU by turns, 100 rounds"},
    {"gpu/resident", "100 kernels change 256 MiB that stay on the device"},
    {"gpu/read_both", "64 MiB that both sides only read, 20 rounds"},
    {"gpu/stream_2x", "a kernel over each 32 MiB of 1 GiB, budget 512 MiB; the CPU reads it back"},
    {"gpu/stream_4x", "the same of 2 GiB"},
};

}  // namespace gm::bench
