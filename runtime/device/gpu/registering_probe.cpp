// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/registering_probe.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <thread>

#include "device/gpu/gpu_error.h"
#include "device/gpu/gpu_stream.h"
#include "device/gpu/on_device.h"

namespace gm::device::gpu {
namespace {

constexpr std::size_t os_page = 4096;

// A driver that waits is told by this alone, so it is long enough for one that does not, also on a busy machine.
constexpr std::chrono::milliseconds hold_patience{500};
constexpr std::chrono::milliseconds start_patience{5000};

// Looks again and again until it holds. False: it did not in time.
template <class Holds>
bool becomes(std::chrono::milliseconds patience, Holds holds) noexcept {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
  return true;
}

struct held_stream {
  std::atomic<bool> is_held{false};
  std::atomic<bool> may_go{false};
  std::atomic<bool> was_let_go{false};  // and did not lose patience

  static void hold(void* argument) {
    auto* const self = static_cast<held_stream*>(argument);
    self->is_held = true;
    self->was_let_go = becomes(hold_patience, [&] { return self->may_go.load(); });
  }
};

bool lock_and_unlock(const device& where, void* memory) noexcept {
  std::memset(memory, 1, os_page);  // it exists
  const on_device here(where.context);
  vendor::error error = here.error();
  if (error == vendor::success) error = vendor::lock_host(memory, os_page);
  if (error == vendor::success) error = vendor::unlock_host(memory);
  ignore(error);
  return error == vendor::success;
}

}  // namespace

bool registers_beside_work(device& where) noexcept {
  alignas(os_page) static std::byte page[os_page];  // of one device at a time: opening is alone
  const std::unique_ptr<stream> on(new (std::nothrow) stream);
  if (on == nullptr) return false;
  if (on->start(&where, stream_ordinary) != GM_OK) {
    const on_device here(where.context);
    on->forget(where);
    return false;
  }
  held_stream held;
  bool is_done = false;
  if (on->call(&held_stream::hold, &held) == GM_OK && becomes(start_patience, [&] { return held.is_held.load(); })) {
    is_done = lock_and_unlock(where, page);
  }
  held.may_go = true;
  on->retire();
  {
    const on_device here(where.context);
    on->forget(where);
  }
  return is_done && held.was_let_go;
}

}  // namespace gm::device::gpu
