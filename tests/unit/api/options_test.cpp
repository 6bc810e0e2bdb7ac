// SPDX-License-Identifier: Apache-2.0
#include "api/options.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/units.h"
#include "platform/system_memory.h"
#include "platform/thread.h"

namespace gm {
namespace {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t gib = 1024 * mib;

constexpr const char* variables[] = {"GM_BACKEND",       "GM_ARENA_SIZE",    "GM_HOST_BUDGET", "GM_DEVICE_BUDGET",
                                     "GM_FAULT_MODE",    "GM_FAULT_THREADS", "GM_SIM_DEVICES", "GM_SIM_MEMORY",
                                     "GM_SIM_BANDWIDTH", "GM_SIM_LATENCY",   "GM_SIM_WINDOW",  "GM_LOG"};

class option : public testing::Test {
 protected:
  option() {
    for (const char* v : variables) unsetenv(v);
    given.size = sizeof given;
  }
  ~option() override {
    for (const char* v : variables) unsetenv(v);
  }

  status read() {
    result = options{};
    return read_options(&given, result);
  }
  // With the variable set to that.
  status read_with(const char* variable, const char* value) {
    setenv(variable, value, 1);
    const status s = read();
    unsetenv(variable);
    return s;
  }
  // Each value is refused, and the message says so: what was given, and what is accepted.
  void expect_refused(const char* variable, const std::vector<const char*>& values,
                      const std::vector<const char*>& words) {
    for (const char* value : values) {
      EXPECT_EQ(read_with(variable, value), status::invalid_argument) << variable << "=" << value;
      const std::string said = last_error();
      EXPECT_NE(said.find(variable), std::string::npos) << said;
      for (const char* word : words) EXPECT_NE(said.find(word), std::string::npos) << said << " lacks " << word;
    }
  }

  gm_options given{};
  options result;
};

TEST_F(option, defaults) {
  ASSERT_EQ(read_options(nullptr, result), status::ok);
  const std::uint64_t ram = system_memory_bytes();
  EXPECT_TRUE(result.automatic);
  EXPECT_EQ(result.backends, (std::vector<std::string>{"cuda", "hip", "sim"}));
  EXPECT_GE(result.arena_bytes, 4 * ram);
  EXPECT_EQ(result.arena_bytes & (result.arena_bytes - 1), 0U) << "a power of two";
  EXPECT_LT(result.arena_bytes, 8 * ram);
  EXPECT_EQ(result.host_budget_bytes, ram - ram / 10);
  EXPECT_EQ(result.device_budget_bytes, 0U) << "each device's own";
  EXPECT_EQ(result.registered_budget_bytes, result.host_budget_bytes / 2);
  EXPECT_EQ(result.fault_mode, fault_mode::thread);
  EXPECT_EQ(result.fault_threads, std::min(cpu_count(), 8U));
  EXPECT_EQ(result.device.sim_devices, 1U);
  EXPECT_EQ(result.device.sim_memory_bytes, gib);
  EXPECT_EQ(result.device.sim_bandwidth_bytes_per_second, 0U);
  EXPECT_EQ(result.device.sim_latency_ns, 0U);
  EXPECT_TRUE(result.device.sim_window);
  EXPECT_EQ(result.device.arena_bytes, result.arena_bytes);
  EXPECT_EQ(result.log, log_level::warn);
}

TEST_F(option, zeroes_are_the_defaults) {
  options defaults;
  ASSERT_EQ(read_options(nullptr, defaults), status::ok);
  ASSERT_EQ(read(), status::ok);
  EXPECT_EQ(result.arena_bytes, defaults.arena_bytes);
  EXPECT_EQ(result.fault_threads, defaults.fault_threads);
  EXPECT_EQ(result.device.sim_window, defaults.device.sim_window);
}

TEST_F(option, fields_are_taken) {
  given.backend = "sim";
  given.arena_size_bytes = 64 * mib;
  given.host_budget_bytes = 5 * mib;
  given.device_budget_bytes = 6 * mib;
  given.registered_budget_bytes = 4 * mib;
  given.fault_mode = "inline";
  given.fault_threads = 3;
  given.sim_devices = 4;
  given.sim_memory_bytes = 8 * mib;
  given.sim_bandwidth_bytes_per_second = 123;
  given.sim_latency_ns = 456;
  given.sim_window = -1;
  given.log = "error";
  ASSERT_EQ(read(), status::ok) << last_error();
  EXPECT_FALSE(result.automatic);
  EXPECT_EQ(result.backends, std::vector<std::string>{"sim"});
  EXPECT_EQ(result.arena_bytes, 64 * mib);
  EXPECT_EQ(result.host_budget_bytes, 5 * mib);
  EXPECT_EQ(result.device_budget_bytes, 6 * mib);
  EXPECT_EQ(result.registered_budget_bytes, 4 * mib);
  EXPECT_EQ(result.fault_mode, fault_mode::in_line);
  EXPECT_EQ(result.fault_threads, 3U);
  EXPECT_EQ(result.device.sim_devices, 4U);
  EXPECT_EQ(result.device.sim_memory_bytes, 8 * mib);
  EXPECT_EQ(result.device.sim_bandwidth_bytes_per_second, 123U);
  EXPECT_EQ(result.device.sim_latency_ns, 456U);
  EXPECT_FALSE(result.device.sim_window);
  EXPECT_EQ(result.log, log_level::error);
}

TEST_F(option, the_environment_wins) {
  given.arena_size_bytes = 64 * mib;
  given.fault_mode = "inline";
  given.sim_window = 1;
  given.sim_devices = 2;
  ASSERT_EQ(read_with("GM_ARENA_SIZE", "128M"), status::ok);
  EXPECT_EQ(result.arena_bytes, 128 * mib);
  ASSERT_EQ(read_with("GM_FAULT_MODE", "thread"), status::ok);
  EXPECT_EQ(result.fault_mode, fault_mode::thread);
  ASSERT_EQ(read_with("GM_SIM_WINDOW", "0"), status::ok);
  EXPECT_FALSE(result.device.sim_window);
  ASSERT_EQ(read_with("GM_SIM_DEVICES", "5"), status::ok);
  EXPECT_EQ(result.device.sim_devices, 5U);
}

TEST_F(option, suffixes_are_powers_of_1024_in_either_case) {
  const struct {
    const char* text;
    std::uint64_t bytes;
  } cases[] = {{"4194304", 4 * mib}, {"8192K", 8 * mib}, {"8192k", 8 * mib}, {"16M", 16 * mib},
               {"16m", 16 * mib},    {"1G", gib},        {"1g", gib},        {"1T", 1024 * gib}};
  for (const auto& c : cases) {
    ASSERT_EQ(read_with("GM_ARENA_SIZE", c.text), status::ok) << c.text << ": " << last_error();
    EXPECT_EQ(result.arena_bytes, c.bytes) << c.text;
  }
}

TEST_F(option, what_is_no_size_is_refused) {
  expect_refused("GM_ARENA_SIZE",
                 {"", "M", "-1", "+1G", " 1G", "1G ", "1.5G", "0x10", "1GG", "1GiB", "1B", "1P", "lots", "1 G",
                  "99999999999999999999", "18446744073709551615K", "16777216T", "1_"},
                 {"accepted is", "4M to 64T"});
}

TEST_F(option, arena_sizes_have_both_ends) {
  EXPECT_EQ(read_with("GM_ARENA_SIZE", "4M"), status::ok);
  EXPECT_EQ(read_with("GM_ARENA_SIZE", "64T"), status::ok);
  expect_refused("GM_ARENA_SIZE", {"0", "1", "4194303", "65T", "70368744177665"}, {"4M to 64T"});
  ASSERT_EQ(read_with("GM_ARENA_SIZE", "5M"), status::ok);
  EXPECT_EQ(result.arena_bytes, 6 * mib) << "rounded up to a block";
  given.arena_size_bytes = 1;
  EXPECT_EQ(read(), status::invalid_argument) << "the field as well";
}

TEST_F(option, budgets_have_a_least) {
  EXPECT_EQ(read_with("GM_HOST_BUDGET", "64K"), status::ok);
  expect_refused("GM_HOST_BUDGET", {"0", "65535", "x"}, {"64K"});
  EXPECT_EQ(read_with("GM_DEVICE_BUDGET", "2M"), status::ok);
  expect_refused("GM_DEVICE_BUDGET", {"0", "2097151", "x"}, {"2M"});
}

TEST_F(option, fault_modes) {
  EXPECT_EQ(read_with("GM_FAULT_MODE", "thread"), status::ok);
  ASSERT_EQ(read_with("GM_FAULT_MODE", "inline"), status::ok);
  EXPECT_EQ(result.fault_mode, fault_mode::in_line);
  expect_refused("GM_FAULT_MODE", {"", "Thread", "threads", "in_line"}, {"thread", "inline"});
}

TEST_F(option, fault_threads) {
  EXPECT_EQ(read_with("GM_FAULT_THREADS", "1"), status::ok);
  EXPECT_EQ(read_with("GM_FAULT_THREADS", "64"), status::ok);
  expect_refused("GM_FAULT_THREADS", {"0", "65", "-1", "many"}, {"1 to 64"});
  given.fault_threads = 65;
  EXPECT_EQ(read(), status::invalid_argument);
}

TEST_F(option, sim_devices) {
  EXPECT_EQ(read_with("GM_SIM_DEVICES", "1"), status::ok);
  EXPECT_EQ(read_with("GM_SIM_DEVICES", "32"), status::ok);
  expect_refused("GM_SIM_DEVICES", {"0", "33", "x"}, {"1 to 32"});
}

TEST_F(option, sim_memory_is_of_whole_frames) {
  EXPECT_EQ(read_with("GM_SIM_MEMORY", "2M"), status::ok);
  EXPECT_EQ(read_with("GM_SIM_MEMORY", "6M"), status::ok);
  expect_refused("GM_SIM_MEMORY", {"0", "1M", "3M", "2097153", "x"}, {"multiple of 2M"});
}

TEST_F(option, the_modelled_link) {
  ASSERT_EQ(read_with("GM_SIM_BANDWIDTH", "10G"), status::ok);
  EXPECT_EQ(result.device.sim_bandwidth_bytes_per_second, 10 * gib);
  given.sim_bandwidth_bytes_per_second = 5;
  ASSERT_EQ(read_with("GM_SIM_BANDWIDTH", "0"), status::ok);
  EXPECT_EQ(result.device.sim_bandwidth_bytes_per_second, 0U) << "unlimited, whatever the program says";
  expect_refused("GM_SIM_BANDWIDTH", {"fast", "-5"}, {"bytes a second"});
  EXPECT_EQ(read_with("GM_SIM_LATENCY", "1000000000"), status::ok);
  expect_refused("GM_SIM_LATENCY", {"1000000001", "1us"}, {"nanoseconds"});
}

TEST_F(option, the_sim_window) {
  ASSERT_EQ(read_with("GM_SIM_WINDOW", "1"), status::ok);
  EXPECT_TRUE(result.device.sim_window);
  expect_refused("GM_SIM_WINDOW", {"", "2", "-1", "yes"}, {"0, 1"});
  for (const int wrong : {2, -2}) {
    given.sim_window = wrong;
    EXPECT_EQ(read(), status::invalid_argument);
  }
}

TEST_F(option, backends_are_a_list_of_known_ones_each_once) {
  ASSERT_EQ(read_with("GM_BACKEND", "auto"), status::ok);
  EXPECT_TRUE(result.automatic);
  ASSERT_EQ(read_with("GM_BACKEND", "sim,cuda"), status::ok);
  EXPECT_EQ(result.backends, (std::vector<std::string>{"sim", "cuda"})) << "in the order given";
  EXPECT_FALSE(result.automatic);
  expect_refused("GM_BACKEND", {"", "opencl", "sim,", ",sim", "sim,sim", "sim, cuda", "auto,sim", "SIM", "../sim"},
                 {"auto", "cuda", "hip", "sim"});
}

TEST_F(option, log_levels) {
  const struct {
    const char* text;
    log_level level;
  } cases[] = {
      {"error", log_level::error}, {"warn", log_level::warn}, {"info", log_level::info}, {"debug", log_level::debug}};
  for (const auto& c : cases) {
    ASSERT_EQ(read_with("GM_LOG", c.text), status::ok);
    EXPECT_EQ(result.log, c.level);
  }
  expect_refused("GM_LOG", {"", "warning", "3", "Error"}, {"error", "warn", "info", "debug"});
}

TEST_F(option, the_struct_may_be_of_an_older_or_newer_program) {
  given.fault_threads = 3;
  given.sim_devices = 7;
  given.size = offsetof(gm_options, sim_devices);  // one that knew no sim_devices
  ASSERT_EQ(read(), status::ok);
  EXPECT_EQ(result.fault_threads, 3U);
  EXPECT_EQ(result.device.sim_devices, 1U);
  struct {
    gm_options known;
    std::uint64_t more;
  } newer{given, 99};
  newer.known.size = sizeof newer;
  ASSERT_EQ(read_options(&newer.known, result), status::ok);
  EXPECT_EQ(result.device.sim_devices, 7U);
  given.size = 0;
  EXPECT_EQ(read(), status::invalid_argument);
  EXPECT_NE(std::string(last_error()).find("sizeof(gm_options)"), std::string::npos) << last_error();
}

}  // namespace
}  // namespace gm
