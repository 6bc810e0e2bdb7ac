// SPDX-License-Identifier: Apache-2.0
// debug.h - what the project's own tests and benches may look at. Not installed, not exported by libgmem.so.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/backend.h"

namespace gm {

// Checks invariants I1 to I6, F1, F2 and every count kept in two places, over the whole logical page table, block by
// block under its lock. Other threads may go on meanwhile. True when all hold; else why says what does not.
bool debug_validate(char* why, std::size_t why_bytes);

// As debug_validate, and also compares the table with the kernel's page tables (/proc/self/pagemap) and requires that
// nothing is in transition: for moments when no other thread uses gmem.
bool debug_validate_at_rest(char* why, std::size_t why_bytes);

// Waits until every move, scope and free whose work is done has been recorded. False after the time is over.
bool debug_settle(std::uint64_t timeout_ns);

// Makes the n-th operation from now of every sim device fail (see device::operation). n = 0 turns it off.
void debug_fail_device(device::operation, std::uint64_t n);

}  // namespace gm
