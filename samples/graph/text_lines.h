// SPDX-License-Identifier: Apache-2.0
//
// text_lines.h - a text file line by line, with errors that name the file and the line.
//
// A line ends with \n or \r\n, the last one also with the file. A file that is read for longer than a second shows how
// far it has come on stderr, once a second.
#ifndef GMEM_SAMPLES_GRAPH_TEXT_LINES_H
#define GMEM_SAMPLES_GRAPH_TEXT_LINES_H

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace sample {

// What is wrong with a file: "FILE:LINE: expected WHAT, found `TEXT`".
class bad_input : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class text_lines {
 public:
  static constexpr std::size_t line_bytes_max = std::size_t{1} << 20;

  // Throws bad_input when the file cannot be opened.
  explicit text_lines(const std::string& path);

  // The next line without its end, good until the next call. False at the end of the file.
  // Throws bad_input for a line longer than line_bytes_max, and when reading fails.
  bool next(std::string_view& line);

  // The line that next() gave last will be given again.
  void put_back();

  // Of the line that next() gave last; 0 before the first.
  std::uint64_t number() const { return number_; }
  const std::string& path() const { return path_; }

  // Throw bad_input about the line, another line, or the end of the file.
  [[noreturn]] void fail(const std::string& expected, std::string_view found) const;
  [[noreturn]] void fail(std::uint64_t line, const std::string& expected, std::string_view found) const;
  [[noreturn]] void fail_at_end(const std::string& expected) const;

  // The word as a number. Throw bad_input, which says what was expected, unless it is one from end to end.
  std::uint64_t whole(std::string_view word, std::uint64_t least, std::uint64_t most, const char* what) const;
  double real(std::string_view word, const char* what) const;

 private:
  struct close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  void read_more();
  void show_progress();

  std::string path_;
  std::unique_ptr<std::FILE, close> file_;
  std::unique_ptr<char[]> buffer_;  // line_bytes_max
  std::size_t begin_ = 0, end_ = 0;
  std::size_t line_begin_ = 0;  // of the line given last
  bool at_end_ = false;
  std::uint64_t number_ = 0;
  std::uint64_t bytes_read_ = 0, bytes_whole_ = 0;
  std::chrono::steady_clock::time_point next_progress_;
};

// Takes the next word off the front of the rest: what lies between blanks. Empty when there is none.
std::string_view take_word(std::string_view& rest);

}  // namespace sample

#endif  // GMEM_SAMPLES_GRAPH_TEXT_LINES_H
