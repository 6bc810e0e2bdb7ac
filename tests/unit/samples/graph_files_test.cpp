// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "samples/graph/edge_list.h"
#include "unit/samples/written_file.h"

namespace {

using gm::test::written_file;
using pairs = std::vector<std::pair<unsigned, unsigned>>;

sample::edge_list read(std::string_view text) { return sample::read_graph(written_file(text).path()); }

pairs edges_of(const sample::edge_list& list) {
  pairs made;
  for (const sample::edge& e : list.edges) made.emplace_back(e.from, e.to);
  return made;
}

// What reading the text is refused with, without the file's name.
std::string refusal(std::string_view text) {
  const written_file file(text);
  try {
    sample::read_graph(file.path());
  } catch (const sample::bad_input& refused) {
    const std::string words = refused.what();
    EXPECT_TRUE(words.find(file.path()) != words.npos) << words;
    const std::size_t at = words.find(file.path() + ":");
    return at == 0 ? words.substr(file.path().size() + 1) : words;
  }
  return "read";
}

void expect_refusal(std::string_view text, std::string_view words) {
  const std::string said = refusal(text);
  EXPECT_TRUE(said.find(words) != said.npos) << "said: " << said << "\nexpected in it: " << words;
}

TEST(snap, ids_are_numbered_as_they_come) {
  const auto list = read("# Directed graph\n# FromNodeId\tToNodeId\n30\t1412\n\n30 3352\r\n  1412   30 \n5 5");
  EXPECT_EQ(list.rows, 4u);
  EXPECT_EQ(list.columns, 4u);
  EXPECT_EQ(edges_of(list), (pairs{{0, 1}, {0, 2}, {1, 0}, {3, 3}}));
  EXPECT_EQ(list.name(2), "3352");
  EXPECT_EQ(list.find("5"), 3u);
  EXPECT_EQ(list.find("6"), list.rows);
  EXPECT_TRUE(list.values.empty());
}

TEST(snap, ids_have_64_bits) {
  const auto list = read("18446744073709551615 0\n");
  EXPECT_EQ(list.name(0), "18446744073709551615");
  expect_refusal("1 2\n18446744073709551616 0\n",
                 "2: expected a node id, a whole number from 0 to 18446744073709551615");
  expect_refusal("1 -2\n", "1: expected a node id");
  expect_refusal("1 2.5\n", "found `2.5`");
}

TEST(snap, other_lines_are_refused) {
  expect_refusal("1 2\n3\n", "2: expected two node ids and nothing else, or a line that begins with #, found `3`");
  expect_refusal("1 2 3\n", "1: expected two node ids");
  expect_refusal("from to\n", "1: expected a node id");
  expect_refusal("", "0: expected at least one edge");
  expect_refusal("# nothing else\n", "1: expected at least one edge");
  expect_refusal("\x1f\x8b\x08 packed", "gunzip");
  expect_refusal(std::string_view("\x7f\x45LF\0\0\1\2\n", 10), "found `?ELF????`");
}

TEST(snap, a_line_without_end_is_refused) {
  expect_refusal("1 2\n" + std::string(3 << 20, '7'), "2: expected a line of at most 1048576 bytes, found `777");
  expect_refusal(std::string(2 << 20, '\0'), "1: expected a line of at most");
}

TEST(snap, lines_across_the_ends_of_buffers) {
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += std::to_string(i) + " " + std::to_string(i + 1) + "\n";
  const auto list = read(text);
  ASSERT_EQ(list.edges.size(), 300'000u);
  EXPECT_EQ(list.rows, 300'001u);
  bool right = true;
  for (unsigned i = 0; i < 300'000; ++i) right = right && list.edges[i].from == i && list.edges[i].to == i + 1;
  EXPECT_TRUE(right);
}

TEST(files, may_be_pipes) {
  for (const std::string_view text : {"\n\n7 8\n", "Package: a\nDepends: b\n\nPackage: b\n",
                                      "%%MatrixMarket matrix coordinate pattern general\n2 2 1\n1 2\n"}) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    ASSERT_EQ(write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
    close(ends[1]);
    EXPECT_EQ(edges_of(sample::read_graph("/dev/fd/" + std::to_string(ends[0]))), (pairs{{0, 1}})) << text;
    close(ends[0]);
  }
}

TEST(files, that_are_none_are_refused) {
  EXPECT_THROW(sample::read_graph("/nowhere/at/all"), sample::bad_input);
  EXPECT_THROW(sample::read_graph("/"), sample::bad_input);
}

TEST(matrix_market, general_real) {
  const auto list =
      read("%%MatrixMarket matrix coordinate real general\n% a comment\n\n2 3 3\n1 1 1.5\n2 3 -2e3\n1 2 +7\n");
  EXPECT_EQ(list.rows, 2u);
  EXPECT_EQ(list.columns, 3u);
  EXPECT_EQ(edges_of(list), (pairs{{0, 0}, {1, 2}, {0, 1}}));
  EXPECT_EQ(list.values, (std::vector<double>{1.5, -2000, 7}));
  EXPECT_THROW(sample::require_graph(list), sample::bad_input);
}

TEST(matrix_market, symmetric_entries_are_mirrored) {
  const auto list = read("%%matrixmarket MATRIX Coordinate Integer Symmetric\n3 3 2\n2 1 5\n3 3 6\n");
  EXPECT_EQ(edges_of(list), (pairs{{1, 0}, {0, 1}, {2, 2}}));
  EXPECT_EQ(list.values, (std::vector<double>{5, 5, 6}));
}

TEST(matrix_market, patterns_have_no_values) {
  const auto list = read("%%MatrixMarket matrix coordinate pattern general\n3 3 1\n3 1\n");
  EXPECT_EQ(edges_of(list), (pairs{{2, 0}}));
  EXPECT_TRUE(list.values.empty());
  EXPECT_EQ(list.name(2), "3");
}

TEST(matrix_market, other_headers_are_refused) {
  for (const char* header :
       {"%%MatrixMarket", "%%MatrixMarket matrix array real general",
        "%%MatrixMarket matrix coordinate complex general", "%%MatrixMarket matrix coordinate real skew-symmetric",
        "%%MatrixMarket matrix coordinate real general please", "%%Matrix matrix coordinate real general"}) {
    expect_refusal(std::string(header) + "\n1 1 1\n1 1 1\n", "1: expected %%MatrixMarket matrix coordinate");
  }
}

TEST(matrix_market, other_sizes_are_refused) {
  const std::string head = "%%MatrixMarket matrix coordinate real general\n";
  expect_refusal(head, "1: expected the size");
  expect_refusal(head + "2 2\n", "2: expected the size");
  expect_refusal(head + "2 2 1 1\n", "2: expected the size");
  expect_refusal(head + "0 2 1\n", "2: expected a number of rows");
  expect_refusal(head + "4294967296 2 1\n", "2: expected a number of rows");
  expect_refusal(head + "2 99999999999999999999999 1\n", "2: expected a number of columns");
  expect_refusal(head + "2 2 99999999999999999999999\n", "2: expected a number of entries");
  expect_refusal(head + "4294967294 1 1\n1 1 1\n", "2: expected at most 1048640 rows and columns for 1 entries");
  expect_refusal("%%MatrixMarket matrix coordinate real symmetric\n2 3 1\n1 1 1\n", "as many columns as rows");
}

TEST(matrix_market, other_entries_are_refused) {
  const std::string head = "%%MatrixMarket matrix coordinate real general\n2 2 2\n";
  expect_refusal(head + "1 1 1\n", "3: expected 2 entries, of which 1 came, found the end of the file");
  expect_refusal(head + "1 1 1\n2 2 2\n1 2 3\n", "5: expected no more than the 2 entries");
  expect_refusal(head + "0 1 1\n", "3: expected a row, a whole number from 1 to 2");
  expect_refusal(head + "1 3 1\n", "3: expected a column");
  expect_refusal(head + "1 1\n", "3: expected a row, a column and a value");
  expect_refusal(head + "1 1 1 1\n", "3: expected a row, a column and a value");
  expect_refusal(head + "1 1 one\n", "3: expected a value");
  expect_refusal(head + "1 1 1e999\n", "3: expected a value");
  expect_refusal(head + "1 1 nan\n", "3: expected a value");
}

constexpr const char* packages =
    "Package: app\nStatus: install ok installed\nDepends: libone (>= 1.0), missing | libtwo:any (<< 3~) [amd64],\n"
    " mailer, app\nRecommends: libone, tool <!nocheck>\nDescription: about\n two lines | of (text\n .\n\n"
    "Package: libone\nStatus: install ok installed\nPre-Depends: libtwo\n\n\n"
    "Package: libtwo\nStatus: install ok installed\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nDepends: libone\n\n"
    "Package: postman\nStatus: install ok installed\nProvides: other, mailer (= 2)\nDepends: nowhere\n\n"
    "Package: tool\nStatus: hold ok installed\nDepends: gone | libtwo\n";

TEST(debian_packages, dependencies_are_edges) {
  const auto list = read(packages);
  EXPECT_EQ(list.names, (std::vector<std::string>{"app", "libone", "libtwo", "postman", "tool"}));
  EXPECT_EQ(edges_of(list), (pairs{{0, 1}, {0, 2}, {0, 3}, {0, 0}, {0, 4}, {1, 2}, {4, 2}}));
  EXPECT_EQ(list.find("postman"), 3u);
  EXPECT_EQ(list.name(1), "libone");
}

TEST(debian_packages, the_first_file_with_a_package_counts) {
  const written_file first("Package: a\nDepends: b\n"), second("Package: a\nDepends: c\n\nPackage: b\n\nPackage: c\n");
  const auto list = sample::read_debian_packages({first.path(), second.path()});
  EXPECT_EQ(list.names, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(edges_of(list), (pairs{{0, 1}}));
}

TEST(debian_packages, other_text_is_refused) {
  expect_refusal("Package: a\nnonsense\n", "2: expected a field, `Name: text`, found `nonsense`");
  expect_refusal("Package: a\nDepends: b (>= 1\n", "2: expected the ) behind a version");
  expect_refusal("Package: a\nSection: x\nDepends: b (1)\n", "3: expected <<, <=, =, >= or >> of a version");
  expect_refusal("Package: a\nDepends: b (>= )\n", "2: expected a version");
  expect_refusal("Package: a\nDepends: b [amd64\n", "2: expected the ] of an architecture list, found nothing");
  expect_refusal("Package: a\nDepends: b |\n", "2: expected a package's name, found nothing");
  expect_refusal("Package: a\nDepends: b c\n", "2: expected a comma or |, found `c`");
  expect_refusal("Package: a\nDepends: b:\n", "2: expected an architecture");
  expect_refusal("Package: a\nDepends: b\n\nVersion: 1\n", "4: expected the field Package in the stanza");
  expect_refusal("Package: a\nDepends: b\n", "expected at least one package that depends on another");
  expect_refusal("Package:\n", "1: expected the field Package");
}

TEST(debian_packages, of_this_machine_are_read_where_there_are_any) {
  const auto files = sample::debian_package_files();
  if (files.empty()) GTEST_SKIP() << "this machine has none";
  const auto once = sample::read_debian_packages(files), again = sample::read_debian_packages(files);
  EXPECT_GT(once.edges.size(), 0u);
  EXPECT_EQ(once.names, again.names);
  EXPECT_EQ(edges_of(once), edges_of(again));
}

TEST(generated_graph, is_always_the_same) {
  for (const std::size_t nodes : {std::size_t{1}, std::size_t{1000}}) {
    const auto list = sample::generated_graph(nodes);
    EXPECT_EQ(list.edges.size(), nodes * sample::edges_a_generated_node);
    EXPECT_EQ(edges_of(list), edges_of(sample::generated_graph(nodes)));
    for (const sample::edge& e : list.edges) ASSERT_TRUE(e.from < nodes && e.to < nodes);
  }
}

// Every file cut short, and with any byte replaced: read, or refused with words, and nothing else.
TEST(files, that_are_damaged_are_read_or_refused) {
  const std::string texts[] = {"# g\n1 2\n2 3\n", packages,
                               "%%MatrixMarket matrix coordinate real symmetric\n% c\n2 2 2\n1 1 1.5\n2 1 2\n"};
  for (const std::string& text : texts) {
    for (std::size_t at = 0; at < text.size(); ++at) {
      EXPECT_NE(refusal(text.substr(0, at)), "");
      for (const char byte : {'\0', '\n', '9', ' ', '\xff', ':', '|', '('}) {
        std::string damaged = text;
        damaged[at] = byte;
        EXPECT_NE(refusal(damaged), "");
      }
    }
  }
}

}  // namespace
