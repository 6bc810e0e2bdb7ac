// SPDX-License-Identifier: Apache-2.0
// one_thread_test.cpp - programs of one thread (program.h), many seeds in every flavour.
#include <csignal>
#include <cstdio>

#include "model/program.h"
#include "model/watchdog.h"

namespace gm::test {
namespace {

// What is running, for the last words of a process that dies of a signal.
const program* running_program = nullptr;

void say_what_died(int number) {
  if (running_program != nullptr) std::fprintf(stderr, "signal %d\n%s", number, running_program->failure().c_str());
  std::signal(number, SIG_DFL);
  std::raise(number);
}

constexpr std::uint64_t programs_each = 60;
constexpr std::uint64_t steps_each = 250;

class one_thread : public testing::TestWithParam<flavour> {};

TEST_P(one_thread, agrees_with_plain_arrays) {
  // gmem passes on what is not its own, or is an offence, to who was there before it.
  for (const int number : {SIGBUS, SIGSEGV, SIGABRT}) std::signal(number, say_what_died);
  const live_runtime live(GetParam());
  ASSERT_TRUE(live.started());
  std::uint64_t seed = first_seed();
  const bool repeat = given_seed(seed);
  const std::uint64_t programs = repeat ? 1 : scaled(programs_each);
  for (std::uint64_t i = 0; i < programs; ++i) {
    program p(GetParam(), repeat ? seed : seed + i);
    const watchdog hangs("model: one thread");  // over the whole program: it takes a fraction of a second
    running_program = &p;
    ASSERT_TRUE(p.run(steps_each)) << p.failure();
    running_program = nullptr;
  }
}

flavour named(const char* name, std::uint32_t devices, bool window, const char* mode, std::uint64_t device_bytes) {
  flavour f;
  f.name = name;
  f.devices = devices;
  f.window = window;
  f.fault_mode = mode;
  f.sim_memory_bytes = device_bytes;
  return f;
}

std::string flavour_name(const testing::TestParamInfo<flavour>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(model, one_thread,
                         testing::Values(named("plain", 2, true, "thread", 64 * mebibyte),
                                         named("inline_faults", 2, true, "inline", 64 * mebibyte),
                                         named("tight", 2, true, "thread", 6 * mebibyte),
                                         named("tight_inline", 3, true, "inline", 6 * mebibyte),
                                         named("no_window", 2, false, "thread", 64 * mebibyte),
                                         named("no_window_tight", 2, false, "inline", 8 * mebibyte),
                                         named("one_device", 1, true, "thread", 4 * mebibyte),
                                         named("three_devices_no_window", 3, false, "thread", 8 * mebibyte)),
                         flavour_name);

}  // namespace
}  // namespace gm::test
