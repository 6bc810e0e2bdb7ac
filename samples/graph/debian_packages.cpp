// SPDX-License-Identifier: Apache-2.0
//
// Stanzas of fields, an empty line between two. A field is `Name: text`; a line that begins with a blank goes on with
// it. A dependency is `name:arch (>= version) [arch] <profile>`; | stands between alternatives, a comma between what
// is all needed.
#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "edge_list.h"

namespace sample {

namespace {

using alternatives = std::vector<std::string>;

struct field {
  std::uint64_t line = 0;
  std::string text;
};

struct stanza {
  std::uint64_t line = 0;  // its first
  field package, status, provides;
  std::array<field, 3> needs;  // Pre-Depends, Depends, Recommends
};

field* wanted_field(stanza& s, std::string_view name) {
  if (name == "Package") return &s.package;
  if (name == "Status") return &s.status;
  if (name == "Provides") return &s.provides;
  if (name == "Pre-Depends") return &s.needs[0];
  if (name == "Depends") return &s.needs[1];
  if (name == "Recommends") return &s.needs[2];
  return nullptr;
}

// False at the end of the file.
bool next_stanza(text_lines& lines, stanza& s) {
  s = {};
  field* open = nullptr;
  std::string_view line;
  while (lines.next(line)) {
    const bool is_empty = line.find_first_not_of(" \t") == line.npos;
    if (is_empty && s.line == 0) continue;
    if (is_empty) return true;
    const bool goes_on = line.front() == ' ' || line.front() == '\t';
    const std::size_t colon = line.find(':');
    if (goes_on ? s.line == 0 : colon == line.npos || colon == 0 || line.find_first_of(" \t") < colon) {
      lines.fail("a field, `Name: text`", line);
    }
    if (s.line == 0) s.line = lines.number();
    if (!goes_on) {
      open = wanted_field(s, line.substr(0, colon));
      if (open != nullptr) *open = {lines.number(), std::string(line.substr(colon + 1))};
    } else if (open != nullptr) {
      open->text += line;
    }
  }
  return s.line != 0;
}

// Reads the text of one field.
class relation_reader {
 public:
  relation_reader(const text_lines& lines, const field& of) : lines_(lines), line_(of.line), rest_(of.text) {}

  std::vector<alternatives> read() {
    std::vector<alternatives> all;
    for (skip_blanks(); !rest_.empty(); skip_blanks()) {
      if (took(',')) continue;  // an empty place between commas is allowed
      alternatives one;
      do one.push_back(read_name());
      while (took('|'));
      all.push_back(std::move(one));
      if (!rest_.empty() && !took(',')) fail("a comma or |");
    }
    return all;
  }

 private:
  [[noreturn]] void fail(const char* expected) const { lines_.fail(line_, expected, rest_); }

  void skip_blanks() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t"), rest_.size())); }

  bool took(char c) {
    skip_blanks();
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  std::string_view take_until(std::string_view ends) {
    const std::string_view taken = rest_.substr(0, rest_.find_first_of(ends));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  // The name; what may follow it is read and forgotten.
  std::string read_name() {
    skip_blanks();
    const std::string name(take_until(" \t,|:([<"));
    if (name.empty()) fail("a package's name");
    if (rest_.starts_with(':')) {
      rest_.remove_prefix(1);
      if (take_until(" \t,|([<").empty()) fail("an architecture behind the colon");
    }
    if (took('(')) read_version();
    if (took('[')) read_until(']', "the ] of an architecture list");
    while (took('<')) read_until('>', "the > of a build profile");
    skip_blanks();
    return name;
  }

  void read_version() {
    skip_blanks();
    constexpr std::array<std::string_view, 7> relations = {"<<", "<=", ">>", ">=", "=", "<", ">"};
    const auto* const found =
        std::find_if(relations.begin(), relations.end(), [&](std::string_view r) { return rest_.starts_with(r); });
    if (found == relations.end()) fail("<<, <=, =, >= or >> of a version");
    rest_.remove_prefix(found->size());
    skip_blanks();
    if (take_until(" \t)").empty()) fail("a version");
    if (!took(')')) fail("the ) behind a version");
  }

  void read_until(char end, const char* expected) {
    take_until(std::string_view(&end, 1));
    if (!took(end)) fail(expected);
  }

  const text_lines& lines_;
  std::uint64_t line_;
  std::string_view rest_;
};

bool is_installed(const field& status) {
  std::string_view rest = status.text;
  take_word(rest);
  take_word(rest);
  return status.line == 0 || take_word(rest) == "installed";  // lists have no such field
}

class package_graph {
 public:
  void read(text_lines& lines) {
    stanza s;
    while (next_stanza(lines, s)) {
      std::string_view rest = s.package.text;
      const std::string name(take_word(rest));
      if (name.empty()) lines.fail(s.line, "the field Package in the stanza that begins here", s.package.text);
      if (!is_installed(s.status) || numbers_.contains(name)) continue;
      if (names_.size() == nodes_max) lines.fail("at most " + std::to_string(nodes_max) + " packages", name);
      const auto number = static_cast<std::uint32_t>(names_.size());
      numbers_.emplace(name, number);
      names_.push_back(name);
      needs_.emplace_back();
      for (const field& f : s.needs) {
        for (alternatives& a : relation_reader(lines, f).read()) needs_.back().push_back(std::move(a));
      }
      for (const alternatives& a : relation_reader(lines, s.provides).read()) providers_.try_emplace(a[0], number);
    }
  }

  // origin: for people, and for the error when there is no edge.
  edge_list take(std::string origin) {
    edge_list list;
    std::unordered_set<std::uint32_t> targets;
    for (std::uint32_t from = 0; from < names_.size(); ++from) {
      targets.clear();
      for (const alternatives& a : needs_[from]) {
        const std::optional<std::uint32_t> to = resolved(a);
        if (to && targets.insert(*to).second) list.edges.push_back({from, *to});
      }
    }
    list.rows = list.columns = static_cast<std::uint32_t>(names_.size());
    list.names = std::move(names_);
    list.origin = std::move(origin);
    if (list.edges.empty()) throw bad_input(list.origin + ": expected at least one package that depends on another");
    return list;
  }

 private:
  std::optional<std::uint32_t> resolved(const alternatives& names) const {
    for (const auto* known : {&numbers_, &providers_}) {
      for (const std::string& name : names) {
        if (const auto found = known->find(name); found != known->end()) return found->second;
      }
    }
    return {};
  }

  std::vector<std::string> names_;
  std::vector<std::vector<alternatives>> needs_;  // of each package
  std::unordered_map<std::string, std::uint32_t> numbers_, providers_;
};

}  // namespace

edge_list read_debian_packages(text_lines& lines) {
  package_graph graph;
  graph.read(lines);
  return graph.take("Debian packages of " + lines.path());
}

edge_list read_debian_packages(const std::vector<std::string>& paths) {
  package_graph graph;
  for (const std::string& path : paths) {
    text_lines lines(path);
    graph.read(lines);
  }
  std::string origin = "Debian packages of " + (paths.empty() ? "no file" : paths[0]);
  if (paths.size() > 1) origin += " and " + std::to_string(paths.size() - 1) + " more";
  return graph.take(std::move(origin));
}

std::vector<std::string> debian_package_files() {
  std::vector<std::string> lists;
  std::error_code none;
  for (const auto& file : std::filesystem::directory_iterator("/var/lib/apt/lists", none)) {
    if (file.path().filename().string().ends_with("_Packages")) lists.push_back(file.path().string());
  }
  std::sort(lists.begin(), lists.end());
  const std::string status = "/var/lib/dpkg/status";
  if (std::filesystem::exists(status, none)) lists.insert(lists.begin(), status);
  return lists;
}

}  // namespace sample
