// SPDX-License-Identifier: Apache-2.0
#include "api/options.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/units.h"
#include "device/backend_loader.h"
#include "platform/system_memory.h"
#include "platform/thread.h"

namespace gm {
namespace {

// A whole number with an optional suffix K M G T (powers of 1024).
bool parse_size(const char* text, std::uint64_t& value) {
  if (*text < '0' || *text > '9') return false;
  char* end = nullptr;
  errno = 0;
  const unsigned long long number = std::strtoull(text, &end, 10);
  if (errno != 0) return false;
  unsigned shift = 0;
  if (*end != '\0') {
    static constexpr char suffixes[] = "KMGT";
    const char* found = std::strchr(suffixes, *end & ~0x20);
    if (found == nullptr || *found == '\0' || end[1] != '\0') return false;
    shift = static_cast<unsigned>(found - suffixes + 1) * 10;
  }
  if (shift != 0 && number > (~std::uint64_t{0} >> shift)) return false;
  value = static_cast<std::uint64_t>(number) << shift;
  return true;
}

// The variable wins over what the program gave; value stays as it is when neither says anything.
status size_option(const char* variable, std::uint64_t given, std::uint64_t least, std::uint64_t most,
                   const char* accepted, std::uint64_t& value) {
  if (given != 0) value = given;
  const char* text = std::getenv(variable);
  if (text != nullptr && !parse_size(text, value))
    return fail(status::invalid_argument, "%s=%s: accepted is %s", variable, text, accepted);
  if ((text != nullptr || given != 0) && (value < least || value > most))
    return fail(status::invalid_argument, "%s=%llu: accepted is %s", variable, static_cast<unsigned long long>(value),
                accepted);
  return status::ok;
}

// One of the words; index is left alone when neither the variable nor the program says anything.
status word_option(const char* variable, const char* given, const char* const* words, unsigned count, unsigned& index) {
  const char* text = std::getenv(variable);
  if (text == nullptr) text = given;
  if (text == nullptr) return status::ok;
  std::string accepted;
  for (unsigned i = 0; i < count; ++i) {
    if (std::strcmp(text, words[i]) == 0) {
      index = i;
      return status::ok;
    }
    accepted += i == 0 ? "" : ", ";
    accepted += words[i];
  }
  return fail(status::invalid_argument, "%s=%s: accepted are %s", variable, text, accepted.c_str());
}

status backend_option(const char* given, options& result) {
  const char* text = std::getenv("GM_BACKEND");
  if (text == nullptr) text = given;
  if (text == nullptr || std::strcmp(text, "auto") == 0) {
    result.automatic = true;
    result.backends.assign(std::begin(device::known_backends), std::end(device::known_backends));
    return status::ok;
  }
  result.automatic = false;
  result.backends.clear();
  for (const char* at = text;;) {
    const char* comma = std::strchr(at, ',');
    const std::string name = comma != nullptr ? std::string(at, comma) : std::string(at);
    const bool known = std::any_of(std::begin(device::known_backends), std::end(device::known_backends),
                                   [&](const char* k) { return name == k; });
    const bool twice = std::find(result.backends.begin(), result.backends.end(), name) != result.backends.end();
    if (!known || twice)
      return fail(status::invalid_argument,
                  "GM_BACKEND=%s: accepted are auto, or a comma list of cuda, hip, sim, each once", text);
    result.backends.push_back(name);
    if (comma == nullptr) return status::ok;
    at = comma + 1;
  }
}

status sim_options(const gm_options& given, device::backend_options& sim) {
  std::uint64_t devices = 1;
  if (const status s = size_option("GM_SIM_DEVICES", given.sim_devices, 1, max_devices, "1 to 32", devices);
      s != status::ok)
    return s;
  sim.sim_devices = static_cast<std::uint32_t>(devices);
  sim.sim_memory_bytes = std::uint64_t{1} << 30;
  if (const status s = size_option("GM_SIM_MEMORY", given.sim_memory_bytes, block_bytes, std::uint64_t{1} << 46,
                                   "a multiple of 2M from 2M up", sim.sim_memory_bytes);
      s != status::ok)
    return s;
  if (sim.sim_memory_bytes % block_bytes != 0)
    return fail(status::invalid_argument, "GM_SIM_MEMORY=%llu: accepted is a multiple of 2M from 2M up",
                static_cast<unsigned long long>(sim.sim_memory_bytes));
  constexpr std::uint64_t any = ~std::uint64_t{0};
  if (const status s = size_option("GM_SIM_BANDWIDTH", given.sim_bandwidth_bytes_per_second, 0, any,
                                   "bytes a second, or 0 for unlimited", sim.sim_bandwidth_bytes_per_second);
      s != status::ok)
    return s;
  if (const status s = size_option("GM_SIM_LATENCY", given.sim_latency_ns, 0, 1000000000,
                                   "nanoseconds, at most a second", sim.sim_latency_ns);
      s != status::ok)
    return s;
  if (given.sim_window < -1 || given.sim_window > 1)
    return fail(status::invalid_argument, "sim_window=%d: accepted are 1, -1 and 0", given.sim_window);
  static constexpr const char* switches[] = {"0", "1"};
  unsigned window = given.sim_window != -1 ? 1 : 0;
  if (const status s = word_option("GM_SIM_WINDOW", nullptr, switches, 2, window); s != status::ok) return s;
  sim.sim_window = window != 0;
  return status::ok;
}

}  // namespace

status read_options(const gm_options* given, options& result) {
  gm_options filled{};
  if (given != nullptr) {
    if (given->size < sizeof given->size)
      return fail(status::invalid_argument, "gm_options.size is %zu: set it to sizeof(gm_options)", given->size);
    std::memcpy(&filled, given, std::min(given->size, sizeof filled));
  }
  static constexpr const char* levels[] = {"error", "warn", "info", "debug"};
  auto level = static_cast<unsigned>(log_level::warn);
  if (const status s = word_option("GM_LOG", filled.log, levels, 4, level); s != status::ok) return s;
  result.log = static_cast<log_level>(level);
  if (const status s = backend_option(filled.backend, result); s != status::ok) return s;

  const std::uint64_t ram = system_memory_bytes();
  result.arena_bytes = std::bit_ceil(ram * 4);
  if (const status s = size_option("GM_ARENA_SIZE", filled.arena_size_bytes, 2 * block_bytes, std::uint64_t{1} << 46,
                                   "bytes of address space from 4M to 64T", result.arena_bytes);
      s != status::ok)
    return s;
  result.arena_bytes = round_up(result.arena_bytes, block_bytes);
  constexpr std::uint64_t any = ~std::uint64_t{0} >> 1;
  result.host_budget_bytes = ram - ram / 10;
  if (const status s = size_option("GM_HOST_BUDGET", filled.host_budget_bytes, page_bytes, any, "bytes from 64K up",
                                   result.host_budget_bytes);
      s != status::ok)
    return s;
  result.registered_budget_bytes = result.host_budget_bytes / 2;
  if (const status s = size_option("GM_REGISTERED_BUDGET", filled.registered_budget_bytes, 0, any,
                                   "bytes, below 2M for none", result.registered_budget_bytes);
      s != status::ok)
    return s;
  if (const status s = size_option("GM_DEVICE_BUDGET", filled.device_budget_bytes, block_bytes, any, "bytes from 2M up",
                                   result.device_budget_bytes);
      s != status::ok)
    return s;

  static constexpr const char* modes[] = {"thread", "inline"};
  unsigned mode = 0;
  if (const status s = word_option("GM_FAULT_MODE", filled.fault_mode, modes, 2, mode); s != status::ok) return s;
  result.fault_mode = mode == 0 ? fault_mode::thread : fault_mode::in_line;
  std::uint64_t threads = std::min(cpu_count(), 8u);
  if (const status s = size_option("GM_FAULT_THREADS", filled.fault_threads, 1, 64, "1 to 64", threads);
      s != status::ok)
    return s;
  result.fault_threads = static_cast<unsigned>(threads);
  result.device.arena_bytes = result.arena_bytes;
  return sim_options(filled, result.device);
}

}  // namespace gm
