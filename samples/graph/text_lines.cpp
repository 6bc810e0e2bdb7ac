// SPDX-License-Identifier: Apache-2.0
#include "text_lines.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <system_error>

namespace sample {

namespace {

constexpr std::string_view blanks = " \t\v\f\r";
constexpr auto progress_period = std::chrono::seconds(1);
constexpr std::size_t shown_max = 40;

// Some of the text, fit for a terminal.
std::string shown(std::string_view text) {
  std::string made(text.substr(0, shown_max));
  std::replace_if(
      made.begin(), made.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text.size() > shown_max ? made + "..." : made;
}

std::string words_of_errno() { return std::generic_category().message(errno); }

}  // namespace

text_lines::text_lines(const std::string& path)
    : path_(path),
      file_(std::fopen(path.c_str(), "rb")),
      buffer_(std::make_unique_for_overwrite<char[]>(line_bytes_max)),
      next_progress_(std::chrono::steady_clock::now() + progress_period) {
  if (file_ == nullptr) throw bad_input(path + ": cannot be opened: " + words_of_errno());
  struct stat facts {};
  if (fstat(fileno(file_.get()), &facts) == 0 && S_ISREG(facts.st_mode)) {
    bytes_whole_ = static_cast<std::uint64_t>(facts.st_size);
  }
}

bool text_lines::next(std::string_view& line) {
  std::size_t searched = 0;
  for (;;) {
    char* const first = buffer_.get() + begin_;
    const void* const found = std::memchr(first + searched, '\n', end_ - begin_ - searched);
    if (found != nullptr || (at_end_ && begin_ != end_)) {
      const auto length =
          found != nullptr ? static_cast<std::size_t>(static_cast<const char*>(found) - first) : end_ - begin_;
      line = std::string_view(first, length);
      if (line.ends_with('\r')) line.remove_suffix(1);
      line_begin_ = begin_;
      begin_ += length + (found != nullptr ? 1 : 0);
      ++number_;
      return true;
    }
    if (at_end_) return false;
    searched = end_ - begin_;
    read_more();
  }
}

void text_lines::put_back() {
  begin_ = line_begin_;
  --number_;
}

// Moves the piece of a line to the front, and fills the buffer behind it.
void text_lines::read_more() {
  std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (end_ == line_bytes_max) {
    ++number_;
    fail("a line of at most " + std::to_string(line_bytes_max) + " bytes", {buffer_.get(), end_});
  }
  const std::size_t got = std::fread(buffer_.get() + end_, 1, line_bytes_max - end_, file_.get());
  if (got == 0) {
    if (std::ferror(file_.get()) != 0) throw bad_input(path_ + ": cannot be read: " + words_of_errno());
    at_end_ = true;
  }
  end_ += got;
  bytes_read_ += got;
  show_progress();
}

void text_lines::show_progress() {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_progress_) return;
  next_progress_ = now + progress_period;
  std::string text = "reading " + path_ + ": " + std::to_string(number_) + " lines";
  if (bytes_whole_ != 0) text += ", " + std::to_string(100 * bytes_read_ / std::max(bytes_read_, bytes_whole_)) + " %";
  std::fprintf(stderr, "%s\n", text.c_str());
}

void text_lines::fail(const std::string& expected, std::string_view found) const { fail(number_, expected, found); }

void text_lines::fail(std::uint64_t line, const std::string& expected, std::string_view found) const {
  const std::string text = found.empty() ? "nothing" : "`" + shown(found) + "`";
  throw bad_input(path_ + ":" + std::to_string(line) + ": expected " + expected + ", found " + text);
}

void text_lines::fail_at_end(const std::string& expected) const {
  throw bad_input(path_ + ":" + std::to_string(number_) + ": expected " + expected + ", found the end of the file");
}

std::uint64_t text_lines::whole(std::string_view word, std::uint64_t least, std::uint64_t most,
                                const char* what) const {
  std::uint64_t value = 0;
  const auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (failure != std::errc{} || end != word.data() + word.size() || value < least || value > most) {
    fail(std::string(what) + ", a whole number from " + std::to_string(least) + " to " + std::to_string(most), word);
  }
  return value;
}

double text_lines::real(std::string_view word, const char* what) const {
  std::string_view digits = word;
  if (digits.starts_with('+')) digits.remove_prefix(1);
  double value = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (failure != std::errc{} || end != digits.data() + digits.size() || !std::isfinite(value)) {
    fail(std::string(what) + ", a number that a double holds", word);
  }
  return value;
}

std::string_view take_word(std::string_view& rest) {
  const std::size_t first = std::min(rest.find_first_not_of(blanks), rest.size());
  rest.remove_prefix(first);
  const std::string_view word = rest.substr(0, rest.find_first_of(blanks));
  rest.remove_prefix(word.size());
  return word;
}

}  // namespace sample
