// SPDX-License-Identifier: Apache-2.0
// trace.h - recorded touches of pages, as plain text.
//
//   # comment
//   allocation FIRST LAST      pages [FIRST, LAST)
//   TIME NODE PAGE r|w         ns since the start; r: read, w: written
// Allocations first; touches in the order of time, each of a page of an allocation. Nothing else is accepted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gm::test {

struct trace_touch {
  std::uint64_t time_ns = 0;
  unsigned node = 1;
  std::uint64_t page = 0;
  bool write = false;
  bool operator==(const trace_touch&) const = default;
};

struct trace_allocation {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  bool operator==(const trace_allocation&) const = default;
};

struct trace {
  std::vector<std::string> comments;
  std::vector<trace_allocation> allocations;
  std::vector<trace_touch> touches;

  // The allocation of a page that is in one.
  const trace_allocation& allocation_of(std::uint64_t page) const;
};

std::string text_of(const trace&);
// False: why says the line and what is wrong with it.
bool read_trace(const std::string& text, trace& result, std::string& why);
// Where the recording of this name lies in the repository.
std::string path_of_recording(const std::string& name);
// "" where there is no such file.
std::string contents_of(const std::string& path);

}  // namespace gm::test
