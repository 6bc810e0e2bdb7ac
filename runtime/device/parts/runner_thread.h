// SPDX-License-Identifier: Apache-2.0
// runner_thread.h - starts the thread that runs one stream.
//
// It takes only the signals that its own instructions raise, so a program's handlers for SIGSEGV and SIGBUS work in
// callbacks and calls, and no other signal lands there. Whoever creates a stream may be bound to one CPU; the stream is
// not. Threads: any.
#pragma once

#include <thread>

#include "gmem/gmem.h"

namespace gm::device {

// main(argument) on a thread of that name. GM_ERROR_NO_MEMORY, in words, when there is no thread to be had.
gm_status start_runner_thread(const char* name, void (*main)(void*), void* argument, std::thread& result) noexcept;

// True on threads started so: they make room in queues, so they must not wait for it.
bool is_runner_thread() noexcept;

}  // namespace gm::device
