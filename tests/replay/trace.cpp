// SPDX-License-Identifier: Apache-2.0
#include "replay/trace.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace gm::test {
namespace {

bool is_inside(const trace& t, std::uint64_t page) {
  return std::any_of(t.allocations.begin(), t.allocations.end(),
                     [&](const trace_allocation& a) { return a.first <= page && page < a.last; });
}

// "" when the line was taken.
std::string take_line(const std::string& line, trace& t) {
  std::istringstream words(line);
  std::string rest;
  if (line.starts_with("# ")) {
    t.comments.push_back(line.substr(2));
    return "";
  }
  if (line.starts_with("allocation ")) {
    trace_allocation a;
    std::string keyword;
    if (!(words >> keyword >> a.first >> a.last) || words >> rest || a.first >= a.last) return "no range of pages";
    if (!t.touches.empty()) return "an allocation behind touches";
    for (const trace_allocation& other : t.allocations)
      if (a.first < other.last && other.first < a.last) return "allocations overlap";
    t.allocations.push_back(a);
    return "";
  }
  trace_touch touch;
  std::string access;
  if (!(words >> touch.time_ns >> touch.node >> touch.page >> access) || words >> rest) return "not TIME NODE PAGE r|w";
  if (access != "r" && access != "w") return "neither r nor w";
  if (!is_inside(t, touch.page)) return "a page of no allocation";
  if (!t.touches.empty() && touch.time_ns < t.touches.back().time_ns) return "earlier than the touch before";
  touch.write = access == "w";
  t.touches.push_back(touch);
  return "";
}

}  // namespace

const trace_allocation& trace::allocation_of(std::uint64_t page) const {
  return *std::find_if(allocations.begin(), allocations.end(),
                       [&](const trace_allocation& a) { return a.first <= page && page < a.last; });
}

std::string text_of(const trace& t) {
  std::ostringstream out;
  for (const std::string& comment : t.comments) out << "# " << comment << '\n';
  for (const trace_allocation& a : t.allocations) out << "allocation " << a.first << ' ' << a.last << '\n';
  for (const trace_touch& touch : t.touches)
    out << touch.time_ns << ' ' << touch.node << ' ' << touch.page << ' ' << (touch.write ? 'w' : 'r') << '\n';
  return out.str();
}

bool read_trace(const std::string& text, trace& result, std::string& why) {
  std::istringstream in(text);
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    const std::string wrong = take_line(line, result);
    if (wrong.empty()) continue;
    why = "line " + std::to_string(number) + ": " + wrong;
    return false;
  }
  return true;
}

std::string path_of_recording(const std::string& name) {
  std::string path = GM_TRACES;
  path += '/';
  path += name;
  path += ".trace";
  return path;
}

std::string contents_of(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

}  // namespace gm::test
