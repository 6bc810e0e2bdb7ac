// SPDX-License-Identifier: Apache-2.0
//
// whole_number.h - a number from the command line.
#ifndef GMEM_SAMPLES_WHOLE_NUMBER_H
#define GMEM_SAMPLES_WHOLE_NUMBER_H

#include <charconv>
#include <cstddef>
#include <optional>
#include <string_view>

namespace sample {

// The text as a number; nothing unless it is digits from end to end and the number lies within [least, most].
inline std::optional<std::size_t> whole_number(std::string_view text, std::size_t least, std::size_t most) {
  std::size_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc{} || end != text.data() + text.size() || number < least || number > most) return {};
  return number;
}

}  // namespace sample

#endif  // GMEM_SAMPLES_WHOLE_NUMBER_H
