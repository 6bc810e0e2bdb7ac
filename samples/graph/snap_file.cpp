// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <unordered_map>

#include "edge_list.h"

namespace sample {

namespace {

// Ids in the order of their first appearance.
class numbering {
 public:
  std::uint32_t of(std::uint64_t id, const text_lines& lines) {
    if (id == last_id_ && !ids_.empty()) return last_;  // files are mostly sorted by the first of the two
    const auto [found, is_new] = numbers_.try_emplace(id, static_cast<std::uint32_t>(ids_.size()));
    if (is_new) {
      if (ids_.size() == nodes_max) lines.fail("at most " + std::to_string(nodes_max) + " nodes", std::to_string(id));
      ids_.push_back(id);
    }
    last_id_ = id;
    return last_ = found->second;
  }

  std::vector<std::uint64_t> ids() && { return std::move(ids_); }

 private:
  std::unordered_map<std::uint64_t, std::uint32_t> numbers_;
  std::vector<std::uint64_t> ids_;
  std::uint64_t last_id_ = 0;
  std::uint32_t last_ = 0;
};

constexpr const char* an_edge = "two node ids and nothing else, or a line that begins with #";
constexpr std::uint64_t id_max = std::numeric_limits<std::uint64_t>::max();

}  // namespace

edge_list read_snap(text_lines& lines) {
  edge_list list;
  numbering numbers;
  std::string_view line;
  while (lines.next(line)) {
    if (line.starts_with("\x1f\x8b")) lines.fail("text; this is compressed: gunzip it first", line);
    if (line.starts_with('#')) continue;
    std::string_view rest = line;
    const std::string_view from = take_word(rest);
    if (from.empty()) continue;
    const std::string_view to = take_word(rest);
    if (to.empty() || !take_word(rest).empty()) lines.fail(an_edge, line);
    const std::uint32_t source = numbers.of(lines.whole(from, 0, id_max, "a node id"), lines);
    list.edges.push_back({source, numbers.of(lines.whole(to, 0, id_max, "a node id"), lines)});
  }
  if (list.edges.empty()) lines.fail_at_end("at least one edge, " + std::string(an_edge));
  list.ids = std::move(numbers).ids();
  list.rows = list.columns = static_cast<std::uint32_t>(list.ids.size());
  list.origin = lines.path();
  return list;
}

}  // namespace sample
