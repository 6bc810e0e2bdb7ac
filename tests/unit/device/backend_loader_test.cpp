// SPDX-License-Identifier: Apache-2.0
#include "device/backend_loader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <climits>
#include <filesystem>
#include <fstream>
#include <string>

namespace gm::device {
namespace {

namespace fs = std::filesystem;

fs::path own_folder() { return fs::read_symlink("/proc/self/exe").parent_path(); }

// A file that passes for a backend's, in the folder where backends are looked for; its name is this process's own.
class planted_backend {
 public:
  explicit planted_backend(const std::string& what)
      : name_(what + std::to_string(getpid())), path_(own_folder() / ("libgmem-" + name_ + ".so")) {}
  planted_backend(const planted_backend&) = delete;
  planted_backend& operator=(const planted_backend&) = delete;
  ~planted_backend() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  const char* name() const { return name_.c_str(); }
  const fs::path& path() const { return path_; }

 private:
  std::string name_;
  fs::path path_;
};

const backend_table* const untouched = reinterpret_cast<const backend_table*>(1);

void expect_in_error(const std::string& words) {
  EXPECT_NE(std::string(last_error()).find(words), std::string::npos) << last_error();
}

TEST(backend_loader, loads_the_one_beside_the_program) {
  const backend_table* table = nullptr;
  ASSERT_EQ(load_backend("sim", &table), status::ok) << last_error();
  ASSERT_NE(table, nullptr);
  EXPECT_EQ(table->abi, backend_abi);
  EXPECT_STREQ(table->name, "sim");
  const backend_table* again = nullptr;
  ASSERT_EQ(load_backend("sim", &again), status::ok);
  EXPECT_EQ(again, table) << "it stays loaded";
}

TEST(backend_loader, one_that_is_not_there_is_named_with_its_place) {
  const backend_table* table = untouched;
  EXPECT_EQ(load_backend("none-such", &table), status::unsupported);
  EXPECT_EQ(table, untouched);
  expect_in_error("there is no none-such backend");
  expect_in_error((own_folder() / "libgmem-none-such.so").string());
}

TEST(backend_loader, a_file_that_is_no_shared_object_does_not_load) {
  const planted_backend broken("broken");
  std::ofstream(broken.path()) << "not an object";
  const backend_table* table = untouched;
  EXPECT_EQ(load_backend(broken.name(), &table), status::unsupported);
  EXPECT_EQ(table, untouched);
  expect_in_error("does not load");
  expect_in_error(broken.path().string());
}

TEST(backend_loader, an_object_that_is_no_backend_is_refused) {
  const planted_backend other("other");
  // Some shared object that is surely there: the C library, as this process has it.
  std::ifstream maps("/proc/self/maps");
  std::string found;
  for (std::string line; std::getline(maps, line);)
    if (const auto at = line.find('/'); at != std::string::npos && line.find("/libc.so.6") != std::string::npos)
      found = line.substr(at);
  if (found.empty()) GTEST_SKIP() << "no libc.so.6 is mapped here";
  fs::create_symlink(found, other.path());
  const backend_table* table = untouched;
  EXPECT_EQ(load_backend(other.name(), &table), status::unsupported);
  EXPECT_EQ(table, untouched);
  expect_in_error("is no backend of this version of gmem");
}

backend_table table_with(const char* (*error_text)()) {
  backend_table table{};
  table.abi = backend_abi;
  table.name = "fake";
  table.error_text = error_text;
  return table;
}

TEST(check_device, passes_success_and_leaves_the_sentence) {
  (void)fail(status::busy, "before");
  EXPECT_EQ(check_device(table_with(nullptr), GM_OK, "copying"), status::ok) << "and does not ask for words";
  EXPECT_STREQ(last_error(), "before");
}

TEST(check_device, adds_the_devices_own_words) {
  EXPECT_EQ(check_device(table_with([] { return "link down"; }), GM_ERROR_DEVICE, "copying pages"), status::device);
  EXPECT_STREQ(last_error(), "fake: copying pages: link down");
  EXPECT_EQ(check_device(table_with([]() -> const char* { return nullptr; }), GM_ERROR_NO_MEMORY, "x"),
            status::no_memory);
  EXPECT_STREQ(last_error(), "fake: x: no reason given");
}

}  // namespace
}  // namespace gm::device
