// SPDX-License-Identifier: Apache-2.0
// written_file.h - a file with the given bytes, gone with the object.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>

namespace gm::test {

class written_file {
 public:
  explicit written_file(std::string_view bytes) {
    const int file = mkstemp(path_.data());
    EXPECT_GE(file, 0) << path_;
    EXPECT_EQ(write(file, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    close(file);
  }
  ~written_file() { unlink(path_.c_str()); }
  written_file(const written_file&) = delete;
  written_file& operator=(const written_file&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_ = ::testing::TempDir() + "gmem-written-XXXXXX";
};

}  // namespace gm::test
