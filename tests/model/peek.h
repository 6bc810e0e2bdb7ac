// SPDX-License-Identifier: Apache-2.0
// peek.h - compares what managed memory contains with what it must, by looking at every copy that the table calls
// current. Looking changes nothing. For moments when nothing is in flight on the memory.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "model/live_runtime.h"

namespace gm::test {

// Empty when every current copy is right, and what nobody holds must read as zero; else what is wrong.
inline std::string peek(const std::uint8_t* base, const std::uint8_t* expected, std::size_t bytes) {
  const vm_object& vm = running()->vm;
  char text[160];
  for (std::size_t begin = 0; begin < bytes; begin += page_size) {
    const std::size_t count = std::min(page_size, bytes - begin);
    const std::uint8_t* wanted = expected + begin;
    gm_mapping m{};
    if (gm_query(base + begin, &m) != GM_OK) return std::string("gm_query: ") + gm_last_error();
    if (m.writer >= 0 && m.valid_nodes != 1u << m.writer) return "a writer is not alone";
    if (m.valid_nodes == 0 && std::any_of(wanted, wanted + count, [](std::uint8_t byte) { return byte != 0; })) {
      std::snprintf(text, sizeof text, "the contents of the page at 0x%zx are lost: it is NOMAP", begin);
      return text;
    }
    const std::uint64_t offset = vm.memory.offset_of(base + begin);
    for (unsigned n = 0; n < vm.nodes; ++n) {
      if ((m.valid_nodes >> n & 1) == 0) continue;
      const std::uint8_t* copy = n == host_node
                                     ? reinterpret_cast<const std::uint8_t*>(vm.memory.alias(offset))
                                     : reinterpret_cast<const std::uint8_t*>(
                                           vm.table.at(block_of(offset)).node(n).address + offset % block_bytes);
      if (std::memcmp(copy, wanted, count) == 0) continue;
      std::size_t at = 0;
      while (copy[at] == wanted[at]) ++at;
      std::snprintf(text, sizeof text, "node %u's copy: byte 0x%zx is 0x%02x and should be 0x%02x (valid on 0x%x)", n,
                    begin + at, copy[at], wanted[at], m.valid_nodes);
      return text;
    }
  }
  return "";
}

}  // namespace gm::test
