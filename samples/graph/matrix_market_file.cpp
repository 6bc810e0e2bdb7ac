// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>

#include "edge_list.h"

namespace sample {

namespace {

constexpr const char* a_header =
    "%%MatrixMarket matrix coordinate, then pattern, real or integer, then general or "
    "symmetric";
constexpr const char* a_size = "the size: rows, columns and entries";

struct header {
  bool has_values, is_symmetric;
};

std::string lower(std::string_view word) {
  std::string made(word);
  std::transform(made.begin(), made.end(), made.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return made;
}

header read_header(text_lines& lines) {
  std::string_view line;
  if (!lines.next(line)) lines.fail_at_end(a_header);
  std::string_view rest = line;
  const std::string banner = lower(take_word(rest)), object = lower(take_word(rest)), format = lower(take_word(rest)),
                    field = lower(take_word(rest)), symmetry = lower(take_word(rest));
  const bool is_known = banner == "%%matrixmarket" && object == "matrix" && format == "coordinate" &&
                        (field == "pattern" || field == "real" || field == "integer") &&
                        (symmetry == "general" || symmetry == "symmetric") && take_word(rest).empty();
  if (!is_known) lines.fail(a_header, line);
  return {field != "pattern", symmetry == "symmetric"};
}

// The next line that is neither a comment nor empty. False at the end of the file.
bool next_entry(text_lines& lines, std::string_view& line) {
  while (lines.next(line)) {
    std::string_view rest = line;
    if (!line.starts_with('%') && !take_word(rest).empty()) return true;
  }
  return false;
}

// Sets rows and columns; returns how many entries are to follow.
std::uint64_t read_size(text_lines& lines, bool is_symmetric, edge_list& list) {
  std::string_view line;
  if (!next_entry(lines, line)) lines.fail_at_end(a_size);
  std::string_view rest = line;
  const std::string_view rows = take_word(rest), columns = take_word(rest), entries = take_word(rest);
  if (entries.empty() || !take_word(rest).empty()) lines.fail(a_size, line);
  list.rows = static_cast<std::uint32_t>(lines.whole(rows, 1, nodes_max, "a number of rows"));
  list.columns = static_cast<std::uint32_t>(lines.whole(columns, 1, nodes_max, "a number of columns"));
  constexpr std::uint64_t entries_max = std::uint64_t{1} << 40;
  const std::uint64_t count = lines.whole(entries, 1, entries_max, "a number of entries");
  // Vectors as long as the sides are made later: a few bytes of text must not ask for more memory than there is.
  constexpr std::uint64_t sides_always = std::uint64_t{1} << 20, sides_an_entry = 64;
  if (std::max(list.rows, list.columns) > sides_always + sides_an_entry * count) {
    lines.fail("at most " + std::to_string(sides_always + sides_an_entry * count) + " rows and columns for " +
                   std::to_string(count) + " entries",
               line);
  }
  if (is_symmetric && list.rows != list.columns) lines.fail("as many columns as rows in a symmetric matrix", line);
  return count;
}

}  // namespace

edge_list read_matrix_market(text_lines& lines) {
  edge_list list;
  const header kind = read_header(lines);
  const std::uint64_t promised = read_size(lines, kind.is_symmetric, list);
  const char* const an_entry = kind.has_values ? "a row, a column and a value" : "a row and a column";
  std::string_view line;
  std::uint64_t count = 0;
  for (; next_entry(lines, line); ++count) {
    if (count == promised) lines.fail("no more than the " + std::to_string(promised) + " entries of the size", line);
    std::string_view rest = line;
    const std::string_view row = take_word(rest), column = take_word(rest);
    const std::string_view value = kind.has_values ? take_word(rest) : std::string_view();
    if (column.empty() || (kind.has_values && value.empty()) || !take_word(rest).empty()) lines.fail(an_entry, line);
    const edge read{static_cast<std::uint32_t>(lines.whole(row, 1, list.rows, "a row") - 1),
                    static_cast<std::uint32_t>(lines.whole(column, 1, list.columns, "a column") - 1)};
    const bool is_mirrored = kind.is_symmetric && read.from != read.to;
    list.edges.push_back(read);
    if (is_mirrored) list.edges.push_back({read.to, read.from});
    if (kind.has_values) list.values.insert(list.values.end(), is_mirrored ? 2 : 1, lines.real(value, "a value"));
  }
  if (count != promised) {
    lines.fail_at_end(std::to_string(promised) + " entries, of which " + std::to_string(count) + " came");
  }
  list.first_id = 1;
  list.origin = lines.path();
  return list;
}

}  // namespace sample
