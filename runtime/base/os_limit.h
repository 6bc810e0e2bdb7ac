// SPDX-License-Identifier: Apache-2.0
// os_limit.h - which limit of the process a system call has run into, and what helps, in words for an error's sentence.
#pragma once

#include <cerrno>

namespace gm {

// To stand behind what failed, in brackets of its own: "" where the error is no limit's.
inline const char* os_limit_words(int error) {
  switch (error) {
    case EMFILE:
      return " (too many open files: raise `ulimit -n`, RLIMIT_NOFILE)";
    case ENFILE:
      return " (too many open files in the whole system: raise fs.file-max)";
    case EFBIG:
      return " (no file may be so large, and gmem's memory is one: raise `ulimit -f`, RLIMIT_FSIZE)";
    case EAGAIN:
      return " (mlockall(MCL_FUTURE) is in force, and no more memory may be locked: raise `ulimit -l`, "
             "RLIMIT_MEMLOCK, or start gmem before mlockall)";
    default:
      return "";
  }
}

}  // namespace gm
