// SPDX-License-Identifier: Apache-2.0
#include "frame/shared_addresses.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "device/backend_loader.h"

namespace gm {
namespace {

constexpr std::size_t probe_bytes = 4096;
struct pattern {
  std::uint8_t bytes[probe_bytes];
};

void fill(pattern& p, unsigned seed) {
  for (std::size_t i = 0; i < probe_bytes; ++i) p.bytes[i] = static_cast<std::uint8_t>(i * 7 + seed + i / 256);
}

bool same(const pattern& a, const pattern& b) { return std::memcmp(a.bytes, b.bytes, probe_bytes) == 0; }

// What the CPU finds at the address; false where it finds nothing.
bool read_memory(const std::byte* address, pattern& result) {
  const iovec to{result.bytes, probe_bytes};
  const iovec from{const_cast<std::byte*>(address), probe_bytes};
  return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == static_cast<ssize_t>(probe_bytes);
}

bool write_memory(std::byte* address, pattern& value) {
  const iovec from{value.bytes, probe_bytes};
  const iovec to{address, probe_bytes};
  return process_vm_writev(getpid(), &from, 1, &to, 1, 0) == static_cast<ssize_t>(probe_bytes);
}

// The host has that pattern at the shared address.
status expect_host(const arena& memory, const pattern& expected, const char* when) {
  pattern seen;
  std::memset(&seen, 0, sizeof seen);
  if (!read_memory(memory.user(0), seen)) return fail_errno("reading the arena %s", when);
  if (!same(seen, expected) || std::memcmp(memory.alias(0), expected.bytes, probe_bytes) != 0)
    return fail(status::unsupported, "the host's bytes are not its own %s", when);
  return status::ok;
}

status copy(device_node& device, std::uint64_t to, std::uint64_t from, device::direction where) {
  struct outcome {
    gm_status result = GM_OK;
    static void record(void* self, gm_status result) { static_cast<outcome*>(self)->result = result; }
  } ended;
  device::stream* on = where == device::direction::host_to_device ? device.to_device : device.to_host;
  const device::copy_run run{to, from, probe_bytes, where};
  device::fence done;
  const gm_status queued = device.api->transfer(on, nullptr, 0, &run, 1, outcome::record, &ended, &done);
  if (const status s = device::check_device(*device.api, queued, "copying through a shared address"); s != status::ok)
    return s;
  device.api->fence_wait(done);
  return ended.result == GM_OK ? status::ok : fail(status::device, "a copy through a shared address failed");
}

status with_a_frame(device_node& device, const arena& memory, std::uint64_t address) {
  pattern host;
  pattern frame;
  pattern later;
  pattern back;
  fill(host, 1);
  fill(frame, 101);
  fill(later, 201);
  std::memset(&back, 0, sizeof back);
  if (!write_memory(memory.user(0), host)) return fail_errno("writing to the arena below a mapped frame");
  if (const status s = expect_host(memory, host, "below a mapped frame"); s != status::ok) return s;
  const auto from = reinterpret_cast<std::uint64_t>(&frame);
  if (const status s = copy(device, address, from, device::direction::host_to_device); s != status::ok) return s;
  if (const status s = expect_host(memory, host, "after a copy to the device"); s != status::ok) return s;
  if (!write_memory(memory.user(0), later)) return fail_errno("writing to the arena again");
  const auto to = reinterpret_cast<std::uint64_t>(&back);
  if (const status s = copy(device, to, address, device::direction::device_to_host); s != status::ok) return s;
  if (!same(back, frame)) return fail(status::unsupported, "the device's bytes are not its own");
  return expect_host(memory, later, "after a copy from the device");
}

}  // namespace

status addresses_are_shared(device_node& device, const arena& memory) {
  std::uint64_t address = 0;
  if (const status s = device::check_device(*device.api, device.api->piece_create(device.handle, 0, 1, &address),
                                            "mapping a frame below the arena");
      s != status::ok)
    return s;
  status result = with_a_frame(device, memory, address);
  device.api->piece_destroy(device.handle, 0, 1, address);
  if (result == status::ok) {
    pattern last;
    fill(last, 51);
    if (!write_memory(memory.user(0), last)) result = fail_errno("writing to the arena where a frame was");
    if (result == status::ok) result = expect_host(memory, last, "where a frame was");
  }
  if (const status s = memory.punch({0, page_bytes}); result == status::ok) result = s;
  return result;
}

}  // namespace gm
