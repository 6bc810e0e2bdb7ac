// SPDX-License-Identifier: Apache-2.0
// machine.cpp - devices, errors, the words of GM_FAKE_GPU, and the controls.
#include "fake_gpu/machine.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "fake_gpu/vendor.h"
#include "fake_gpu/world.h"

namespace gm::fake_gpu {
namespace {

thread_local int current = -1;
thread_local code last = code::ok;
thread_local bool may_spoil_captures = true;

std::uint64_t number_of(const std::string& text) {
  char* end = nullptr;
  std::uint64_t value = std::strtoull(text.c_str(), &end, 10);
  if (*end == 'K') value <<= 10;
  if (*end == 'M') value <<= 20;
  if (*end == 'G') value <<= 30;
  return value;
}

void set(description& machine, const std::string& name, std::uint64_t value) {
  const bool on = value != 0;
  if (name == "driver")
    machine.driver = on;
  else if (name == "devices")
    machine.devices = static_cast<int>(value);
  else if (name == "memory")
    machine.memory_bytes = value;
  else if (name == "lockable")
    machine.lockable_bytes = value;
  else if (name == "maps")
    machine.maps_memory = on;
  else if (name == "maps_for_real")
    machine.maps_for_real = on;
  else if (name == "maps_for_itself")
    machine.maps_for_itself = on;
  else if (name == "waits")
    machine.waits_for_values = on;
  else if (name == "maps_twice")
    machine.maps_twice = on;
  else if (name == "aliases_agree")
    machine.aliases_agree = on;
  else if (name == "aliases_lag")
    machine.aliases_lag = on;
  else if (name == "writes")
    machine.writes_values = on;
  else if (name == "kernels_take_all")
    machine.kernels_take_all = on;
  else if (name == "batches")
    machine.batches = on;
  else if (name == "peers")
    machine.peers = on;
  else if (name == "pins")
    machine.pins = on;
  else if (name == "leaks")
    machine.leaks = on;
  else if (name == "delay_us")
    machine.delay_us_max = static_cast<std::uint32_t>(value);
  else if (name == "free_waits")
    machine.free_waits = on;
  else if (name == "unlock_waits")
    machine.unlock_waits = on;
  else if (name == "unlock_us")
    machine.unlock_us = static_cast<std::uint32_t>(value);
  else {
    std::fprintf(stderr, "GM_FAKE_GPU: unknown word %s\n", name.c_str());
    std::abort();
  }
}

description described() {
  description machine;
  const char* text = std::getenv("GM_FAKE_GPU");
  std::string rest = text != nullptr ? text : "";
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    const std::string word = rest.substr(0, comma);
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    const std::size_t equals = word.find('=');
    set(machine, word.substr(0, equals), equals == std::string::npos ? 1 : number_of(word.substr(equals + 1)));
  }
  return machine;
}

}  // namespace

world& the_world() {
  static world only;
  return only;
}

const char* describe(code which) {
  switch (which) {
    case code::ok:
      return "no error";
    case code::not_ready:
      return "not ready";
    case code::out_of_memory:
      return "out of memory";
    case code::no_driver:
      return "there is no fake driver here";
    case code::not_supported:
      return "not supported";
    case code::illegal_address:
      return "an illegal memory access was encountered";
    case code::device_lost:
      return "the fake GPU has fallen off the bus";
    case code::invalid_value:
      return "invalid argument";
    case code::invalid_handle:
      return "invalid resource handle";
    case code::no_current_device:
      return "no current device";
    case code::not_while_capturing:
      return "operation not permitted when a stream is capturing";
  }
  return "unknown error";
}

code start(int* count) {
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  if (w.alive.contexts == 0) {
    w.machine = described();
    for (auto& each : w.losses) each = static_cast<int>(code::ok);
    for (auto& each : w.failing) each = 0;
    w.failures_are_final = false;
  }
  *count = w.machine.driver ? w.machine.devices : 0;
  return w.machine.driver ? code::ok : leave(code::no_driver);
}

const description& machine() { return the_world().machine; }

int current_device() { return current; }
void set_current_device(int index) { current = index; }

code make_current(int device) {
  if (const code no = refused(api::make_current, device); no != code::ok) return leave(no);
  current = device;
  return code::ok;
}

code exchange_capture_mode(bool* may_spoil) {
  if (const code no = refused(api::exchange_capture_mode, current); no != code::ok) return leave(no);
  std::swap(*may_spoil, may_spoil_captures);
  return code::ok;
}

code spoil_captures() {
  world& w = the_world();
  if (!w.is_capturing || !may_spoil_captures) return code::ok;
  w.is_capture_spoilt = true;
  return code::not_while_capturing;
}

code ask_device(int device) { return leave(refused(api::ask_device, device)); }

code open_context(int device) {
  if (const code no = refused(api::open_context, device); no != code::ok) return leave(no);
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  ++w.alive.contexts;
  return code::ok;
}

code reaches(bool* can) {
  if (const code no = enter(api::reaches); no != code::ok) return leave(no);
  *can = machine().peers;
  return code::ok;
}

code last_error() { return last; }
void forget_error() { last = code::ok; }

code leave(code result) {
  if (result != code::ok) last = result;
  return result;
}

bool is_lost(int device) { return loss_of(device) != code::ok; }
code loss_of(int device) { return static_cast<code>(the_world().losses[static_cast<std::size_t>(device)].load()); }

void lose(int device, code why) {
  int none = static_cast<int>(code::ok);
  the_world().losses[static_cast<std::size_t>(device)].compare_exchange_strong(none, static_cast<int>(why));
}

code refused(api which, int device) {
  world& w = the_world();
  std::atomic<std::uint64_t>& left = w.failing[static_cast<std::size_t>(which)];
  std::uint64_t n = left.load();
  while (n != 0) {
    if (!left.compare_exchange_weak(n, n - 1)) continue;
    if (n != 1) return code::ok;
    if (w.failures_go_on) left = 1;
    if (!w.failures_are_final) return which == api::record_event ? code::invalid_handle : code::out_of_memory;
    if (device >= 0) lose(device, code::device_lost);
    return code::device_lost;
  }
  return code::ok;
}

code enter() {
  if (current < 0) return code::no_current_device;
  return loss_of(current);
}

code enter(api which) {
  if (const code lost = enter(); lost != code::ok) return lost;
  return refused(which, current);
}

code memory_of(int device, std::uint64_t* free_bytes, std::uint64_t* total_bytes) {
  if (const code no = enter(api::memory_of); no != code::ok) return leave(no);
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  *total_bytes = w.machine.memory_bytes;
  *free_bytes = w.machine.memory_bytes - w.used_bytes[static_cast<std::size_t>(device)];
  return code::ok;
}

}  // namespace gm::fake_gpu

namespace gm::device::gpu::vendor {

error close_context(const context&) noexcept {
  fake::world& w = fake::the_world();
  const std::scoped_lock lock(w.mutex);
  --w.alive.contexts;
  return success;
}

}  // namespace gm::device::gpu::vendor

namespace gm::fake_gpu {
namespace {

void arm(int which, std::uint64_t n, bool is_final, bool goes_on = false) {
  world& w = the_world();
  w.failures_are_final = is_final;
  w.failures_go_on = goes_on;
  w.failing[static_cast<std::size_t>(which)] = n;
}

constexpr controls table = {
    .count =
        [] {
          world& w = the_world();
          const std::scoped_lock lock(w.mutex);
          return w.alive;
        },
    .lose = [](int device) { lose(device, code::device_lost); },
    .fail_call = [](int which, std::uint64_t n) { arm(which, n, false); },
    .fail_call_finally = [](int which, std::uint64_t n) { arm(which, n, true); },
    .fail_calls = [](int which, std::uint64_t n) { arm(which, n, false, true); },
    .calls_before_failure = [](int which) { return the_world().failing[static_cast<std::size_t>(which)].load(); },
    .current_device = current_device,
    .set_current_device = set_current_device,
    .begin_capture =
        [] {
          the_world().is_capture_spoilt = false;
          the_world().is_capturing = true;
        },
    .end_capture =
        [] {
          the_world().is_capturing = false;
          return !the_world().is_capture_spoilt.load();
        },
    .last_error = [] { return static_cast<int>(last_error()); },
    .create_stream =
        [](int device) {
          const int before = current_device();
          set_current_device(device);
          stream* made = nullptr;
          create_stream(&made);
          set_current_device(before);
          return static_cast<void*>(made);
        },
    .destroy_stream = [](void* native) { destroy_stream(static_cast<stream*>(native)); },
    .launch =
        [](void* native, void (*kernel)(void*), void* argument) {
          auto* const on = static_cast<stream*>(native);
          if (is_lost(on->device)) return false;
          submit(on, [=] {
            std::atomic<int>& running = the_world().running_kernels[static_cast<std::size_t>(on->device)];
            ++running;
            kernel(argument);
            --running;
            end_kernel();
            return code::ok;
          });
          return true;
        },
    .read =
        [](int device, std::uint64_t address, void* to, std::size_t bytes) {
          const code result = read_device(device, address, to, bytes);
          if (result != code::ok) lose(device, result);
          return result == code::ok;
        },
    .write =
        [](int device, std::uint64_t address, const void* from, std::size_t bytes) {
          const code result = write_device(device, address, from, bytes);
          if (result != code::ok) lose(device, result);
          return result == code::ok;
        },
    .direct_copies = [] { return the_world().direct_copies.load(); },
    .pinned_copies = [] { return the_world().pinned_copies.load(); },
    .blocked_calls = [] { return the_world().blocked_calls.load(); },
};

}  // namespace
}  // namespace gm::fake_gpu

extern "C" __attribute__((visibility("default"))) const gm::fake_gpu::controls* gm_fake_gpu_controls() {
  return &gm::fake_gpu::table;
}
