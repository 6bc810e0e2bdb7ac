// SPDX-License-Identifier: Apache-2.0
//
// error.hpp - a gm_status as an exception. Part of gmem.hpp.
//
// The C++ forms throw where the C functions return a status: gm::error, which carries that status, or gm::bad_alloc
// from what allocates. Both say the sentence of gm_last_error(), which names what failed and what to do. A call that
// threw has left managed memory exactly as it was.
#ifndef GMEM_ERROR_HPP
#define GMEM_ERROR_HPP

#include <gmem/gmem.h>

#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

namespace gm {
inline namespace v0 {

// What every C++ form throws when the runtime says no. what() is "GM_ERROR_BUSY: " and the sentence.
class error : public std::runtime_error {
 public:
  // With the sentence of this thread's last failing call: make it before any other call of gmem.
  explicit error(gm_status status) : error(status, gm_last_error()) {}

  error(gm_status status, const std::string& sentence)
      : std::runtime_error(std::string(gm_status_string(status)) + ": " + sentence), status_(status) {}

  gm_status status() const noexcept { return status_; }

 private:
  gm_status status_;
};

// Throws gm::error unless the status is GM_OK. For the C functions: gm::check(gm_pin(p, bytes, GM_HOST)).
inline void check(gm_status status) {
  if (status != GM_OK) throw error(status);
}

// What the allocators throw: a std::bad_alloc, so that containers and their users need not know gmem, whose what() is
// the sentence of this thread's last failing call (cut at 239 bytes; making one allocates nothing).
class bad_alloc : public std::bad_alloc {
 public:
  bad_alloc() noexcept { std::strncpy(sentence_, gm_last_error(), sizeof sentence_ - 1); }
  const char* what() const noexcept override { return sentence_; }

 private:
  char sentence_[240] = {};
};

}  // namespace v0
}  // namespace gm

#endif  // GMEM_ERROR_HPP
