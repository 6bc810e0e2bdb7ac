// SPDX-License-Identifier: Apache-2.0
// memory.cpp - the fake driver's memory: allocations, reservations, frames and mappings, locked host memory.
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <thread>
#include <utility>

#include "fake_gpu/machine.h"
#include "fake_gpu/world.h"

namespace gm::fake_gpu {
namespace {

// Memory that costs nothing until it is touched, with other contents than zero where it is read first.
std::shared_ptr<std::uint8_t[]> make_storage(std::uint64_t bytes) {
  void* got = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (got == MAP_FAILED) return nullptr;
  return {static_cast<std::uint8_t*>(got), [bytes](std::uint8_t* gone) { munmap(gone, bytes); }};
}

bool take_bytes_locked(world& w, int device, std::uint64_t bytes) {
  std::uint64_t& used = w.used_bytes[static_cast<std::size_t>(device)];
  if (bytes > w.machine.memory_bytes - used) return false;
  used += bytes;
  return true;
}

// Addresses that nobody can use, as a driver's reservation is.
std::uint64_t reserve_addresses(std::uint64_t bytes, std::uint64_t alignment) {
  void* got = mmap(nullptr, bytes + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (got == MAP_FAILED) return 0;
  const auto begin = reinterpret_cast<std::uint64_t>(got);
  const std::uint64_t base = (begin + alignment - 1) / alignment * alignment;
  if (base != begin) munmap(got, base - begin);
  munmap(reinterpret_cast<void*>(base + bytes), begin + alignment - base);
  return base;
}

// The part of a range that lies in one mapping which the device may access: its storage, and how much of it is there.
std::shared_ptr<std::uint8_t[]> find(int device, std::uint64_t address, std::uint64_t* offset, std::uint64_t* bytes) {
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  auto found = w.mappings.upper_bound(address);
  if (found == w.mappings.begin()) return nullptr;
  --found;
  const mapping& where = found->second;
  *offset = address - found->first;
  if (*offset >= where.bytes || where.may_access.count(device) == 0) return nullptr;
  *bytes = std::min(*bytes, where.bytes - *offset);
  return where.storage;
}

// Writes there if the host has memory there.
void leak(std::uint64_t destination, const std::uint8_t* from, std::uint64_t bytes) {
  const iovec source{const_cast<std::uint8_t*>(from), bytes};
  const iovec target{reinterpret_cast<void*>(destination), bytes};
  if (process_vm_writev(getpid(), &source, 1, &target, 1, 0) < 0) return;
}

code lock_range_locked(world& w, std::uint64_t begin, std::uint64_t bytes) {
  const auto next = w.locked.lower_bound(begin);
  if (next != w.locked.end() && next->first < begin + bytes) return code::invalid_value;
  if (next != w.locked.begin() && std::prev(next)->first + std::prev(next)->second > begin) return code::invalid_value;
  if (bytes > w.machine.lockable_bytes - w.locked_bytes) return code::out_of_memory;
  w.locked.emplace(begin, bytes);
  w.locked_bytes += bytes;
  return code::ok;
}

[[noreturn]] void give_up(const char* why) {
  std::fprintf(stderr, "fake driver: %s\n", why);
  std::abort();
}

// Locked pages are there until they are unlocked, whatever is done to the file that they are of: for the device. The
// CPU's would be others by then.
void check_that_it_exists(std::uint64_t address, std::uint64_t bytes) {
  constexpr std::uint64_t page = 4096;
  const std::uint64_t begin = address / page * page;
  std::vector<unsigned char> there((address + bytes - begin + page - 1) / page);
  if (mincore(reinterpret_cast<void*>(begin), address + bytes - begin, there.data()) != 0 ||
      !std::all_of(there.begin(), there.end(), [](unsigned char each) { return (each & 1) != 0; })) {
    give_up("pages of locked host memory are gone");
  }
}

// How long the range was; 0 where none begins there.
std::uint64_t unlock_range_locked(world& w, std::uint64_t begin) {
  const auto found = w.locked.find(begin);
  if (found == w.locked.end()) return 0;
  const std::uint64_t bytes = found->second;
  const bool any_lost =
      std::any_of(w.losses.begin(), w.losses.end(), [](const auto& each) { return each.load() != 0; });
  for (const auto& [used, used_bytes] : w.in_use) {
    if (any_lost) break;  // nobody can wait for what is in flight there
    if (used < begin + bytes && begin < used + used_bytes) give_up("unlocking host memory that a copy is using");
  }
  check_that_it_exists(begin, bytes);
  w.locked_bytes -= bytes;
  w.locked.erase(found);
  return bytes;
}

}  // namespace

bool is_mapped(std::uint64_t address) {
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  const auto next = w.mappings.upper_bound(address);
  if (next == w.mappings.begin()) return false;
  const auto& [begin, where] = *std::prev(next);
  return !where.is_allocation && address - begin < where.bytes;
}

code read_device(int device, std::uint64_t source, void* destination, std::uint64_t bytes) {
  auto* to = static_cast<std::uint8_t*>(destination);
  while (bytes != 0) {
    std::uint64_t offset = 0;
    std::uint64_t part = bytes;
    const auto storage = find(device, source, &offset, &part);
    if (storage == nullptr) return code::illegal_address;
    std::memcpy(to, storage.get() + offset, part);
    source += part;
    to += part;
    bytes -= part;
  }
  return code::ok;
}

namespace {

bool is_late(std::uint64_t destination, const std::shared_ptr<std::uint8_t[]>& storage, std::uint64_t offset,
             const std::uint8_t* from, std::uint64_t bytes) {
  world& w = the_world();
  if (!w.machine.aliases_lag) return false;
  const std::scoped_lock lock(w.mutex);
  const mapping& written = std::prev(w.mappings.upper_bound(destination))->second;
  const bool has_other = std::any_of(w.mappings.begin(), w.mappings.end(), [&](const auto& each) {
    return each.second.is_second && each.second.storage == storage;
  });
  const bool is_any_running = std::any_of(w.running_kernels.begin(), w.running_kernels.end(),
                                          [](const auto& each) { return each.load() != 0; });
  if (written.is_second || !has_other || !is_any_running) return false;
  w.late_writes.push_back({storage, offset, {from, from + bytes}});
  return true;
}

}  // namespace

void end_kernel() {
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  for (const late_write& each : w.late_writes) {
    std::memcpy(each.storage.get() + each.offset, each.bytes.data(), each.bytes.size());
  }
  w.late_writes.clear();
}

code write_device(int device, std::uint64_t destination, const void* source, std::uint64_t bytes) {
  const auto* from = static_cast<const std::uint8_t*>(source);
  while (bytes != 0) {
    std::uint64_t offset = 0;
    std::uint64_t part = bytes;
    const auto storage = find(device, destination, &offset, &part);
    if (storage == nullptr) return code::illegal_address;
    if (!is_late(destination, storage, offset, from, part)) std::memcpy(storage.get() + offset, from, part);
    if (machine().leaks) leak(destination, from, part);
    destination += part;
    from += part;
    bytes -= part;
  }
  return code::ok;
}

code write_word(int device, std::uint64_t destination, std::uint64_t value) {
  std::uint64_t offset = 0;
  std::uint64_t part = sizeof value;
  const auto storage = find(device, destination, &offset, &part);
  if (storage == nullptr || part != sizeof value) return code::illegal_address;
  std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(storage.get() + offset)).store(value);
  return code::ok;
}

code allocate(std::uint64_t bytes, std::uint64_t* address) {
  if (const code no = enter(api::allocate); no != code::ok) return leave(no);
  if (const code no = spoil_captures(); no != code::ok) return leave(no);
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  const int device = current_device();
  if (!take_bytes_locked(w, device, bytes)) return leave(code::out_of_memory);
  *address = reserve_addresses(bytes, std::uint64_t{2} << 20);
  mapping made{bytes, make_storage(bytes), {}, true, device, false};
  for (int i = 0; i < w.machine.devices; ++i) made.may_access.insert(i);  // the driver stages where it must
  w.mappings.emplace(*address, std::move(made));
  ++w.alive.allocations;
  return code::ok;
}

code free_memory(std::uint64_t address) {
  if (const code no = spoil_captures(); no != code::ok) return leave(no);
  world& w = the_world();
  if (w.machine.free_waits) drain_all();
  const std::scoped_lock lock(w.mutex);
  const auto found = w.mappings.find(address);
  if (found == w.mappings.end() || !found->second.is_allocation) return leave(code::invalid_value);
  w.used_bytes[static_cast<std::size_t>(found->second.device)] -= found->second.bytes;
  munmap(reinterpret_cast<void*>(address), found->second.bytes);
  w.mappings.erase(found);
  --w.alive.allocations;
  return code::ok;
}

code reserve(std::uint64_t bytes, std::uint64_t alignment, std::uint64_t* base) {
  if (const code no = enter(api::reserve); no != code::ok) return leave(no);
  *base = reserve_addresses(bytes, alignment);
  if (*base == 0) return leave(code::out_of_memory);
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  w.reservations.emplace(*base, bytes);
  ++w.alive.reservations;
  return code::ok;
}

// Whatever stands at the addresses goes, as with a driver.
code unreserve(std::uint64_t base, std::uint64_t bytes) {
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  const auto found = w.reservations.find(base);
  if (found == w.reservations.end() || found->second != bytes) return leave(code::invalid_value);
  munmap(reinterpret_cast<void*>(base), bytes);
  w.reservations.erase(found);
  --w.alive.reservations;
  return code::ok;
}

code create_memory(int device, std::uint64_t bytes, physical** result) {
  if (const code no = enter(api::create_memory); no != code::ok) return leave(no);
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  if (!take_bytes_locked(w, device, bytes)) return leave(code::out_of_memory);
  *result = new physical{device, bytes, make_storage(bytes)};
  ++w.alive.frames;
  return code::ok;
}

code release_memory(physical* which) {
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  w.used_bytes[static_cast<std::size_t>(which->device)] -= which->bytes;
  --w.alive.frames;
  delete which;
  return code::ok;
}

code map(std::uint64_t address, std::uint64_t bytes, physical* which) {
  if (const code no = enter(api::map); no != code::ok) return leave(no);
  if (!machine().maps_for_real) return leave(code::not_supported);
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  auto reserved = w.reservations.upper_bound(address);
  if (reserved == w.reservations.begin()) return leave(code::invalid_value);
  --reserved;
  if (address + bytes > reserved->first + reserved->second || w.mappings.count(address) != 0) {
    return leave(code::invalid_value);
  }
  const bool is_second = which->storage.use_count() > 1;
  if (is_second && !w.machine.maps_twice) return leave(code::not_supported);
  const bool is_apart = is_second && !w.machine.aliases_agree;
  w.mappings.emplace(
      address, mapping{bytes, is_apart ? make_storage(bytes) : which->storage, {}, false, which->device, is_second});
  ++w.alive.mappings;
  return code::ok;
}

code unmap(std::uint64_t address, std::uint64_t bytes) {
  if (const code no = refused(api::unmap, current_device()); no != code::ok) return leave(no);
  world& w = the_world();
  if (w.machine.free_waits) drain_all();
  const std::scoped_lock lock(w.mutex);
  const auto found = w.mappings.find(address);
  if (found == w.mappings.end() || found->second.is_allocation || found->second.bytes != bytes) {
    return leave(code::invalid_value);
  }
  w.mappings.erase(found);
  --w.alive.mappings;
  return code::ok;
}

code allow_access(std::uint64_t address, std::uint64_t bytes, const int* devices, std::size_t count) {
  if (const code no = enter(api::allow_access); no != code::ok) return leave(no);
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  const auto found = w.mappings.find(address);
  if (found == w.mappings.end() || found->second.bytes != bytes) return leave(code::invalid_value);
  for (std::size_t i = 0; i < count; ++i) {
    if (devices[i] != found->second.device && !w.machine.peers) return leave(code::not_supported);
  }
  found->second.may_access.insert(devices, devices + count);
  return code::ok;
}

code lock_host(void* memory, std::size_t bytes) {
  if (const code no = enter(api::lock_host); no != code::ok) return leave(no);
  if (const code no = spoil_captures(); no != code::ok) return leave(no);
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  const code result = lock_range_locked(w, reinterpret_cast<std::uint64_t>(memory), bytes);
  if (result == code::ok) ++w.alive.locked_ranges;
  return leave(result);
}

code unlock_host(void* memory) {
  if (const code no = spoil_captures(); no != code::ok) return leave(no);
  world& w = the_world();
  if (w.machine.unlock_waits) drain_all();
  if (w.machine.unlock_us != 0) std::this_thread::sleep_for(std::chrono::microseconds(w.machine.unlock_us));
  const std::scoped_lock lock(w.mutex);
  if (unlock_range_locked(w, reinterpret_cast<std::uint64_t>(memory)) == 0) return leave(code::invalid_value);
  --w.alive.locked_ranges;
  return code::ok;
}

namespace {

code pin_locked(world& w, std::uint64_t bytes, void** result) {
  if (!w.machine.pins) return code::out_of_memory;
  void* got = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (got == MAP_FAILED) return code::out_of_memory;
  if (const code no = lock_range_locked(w, reinterpret_cast<std::uint64_t>(got), bytes); no != code::ok) {
    munmap(got, bytes);
    return no;
  }
  w.pinned.insert(reinterpret_cast<std::uint64_t>(got));
  ++w.alive.pinned_allocations;
  *result = got;
  return code::ok;
}

}  // namespace

code allocate_pinned(std::uint64_t bytes, void** result) {
  if (const code no = enter(api::allocate_pinned); no != code::ok) return leave(no);
  if (const code no = spoil_captures(); no != code::ok) return leave(no);
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  return leave(pin_locked(w, bytes, result));
}

// At another address for the devices, all of which reach it.
code allocate_shared(std::uint64_t bytes, void** host, std::uint64_t* device_address) {
  if (const code no = enter(api::allocate_shared); no != code::ok) return leave(no);
  if (const code no = spoil_captures(); no != code::ok) return leave(no);
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  if (const code no = pin_locked(w, bytes, host); no != code::ok) return leave(no);
  *device_address = reserve_addresses(bytes, 4096);
  mapping made{bytes, {static_cast<std::uint8_t*>(*host), [](std::uint8_t*) {}}, {}, false, current_device(), false};
  for (int i = 0; i < w.machine.devices; ++i) made.may_access.insert(i);
  w.mappings.emplace(*device_address, std::move(made));
  return code::ok;
}

// A copy engine that is still at it finds nothing there.
code free_pinned(void* memory) {
  if (const code no = spoil_captures(); no != code::ok) return leave(no);
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  const std::uint64_t bytes = unlock_range_locked(w, reinterpret_cast<std::uint64_t>(memory));
  if (bytes == 0) return leave(code::invalid_value);
  for (auto each = w.mappings.begin(); each != w.mappings.end(); ++each) {
    if (each->second.storage.get() != memory) continue;
    munmap(reinterpret_cast<void*>(each->first), bytes);
    w.mappings.erase(each);
    break;
  }
  munmap(memory, bytes);
  w.pinned.erase(reinterpret_cast<std::uint64_t>(memory));
  --w.alive.pinned_allocations;
  return code::ok;
}

std::shared_ptr<void> use_locked(std::uint64_t address, std::uint64_t bytes) {
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  const std::uint64_t end = address + bytes;
  bool is_pinned = false;
  for (std::uint64_t at = address; at < end;) {
    auto found = w.locked.upper_bound(at);
    if (found == w.locked.begin()) return nullptr;
    --found;
    if (at >= found->first + found->second) return nullptr;
    at = found->first + found->second;
    is_pinned = w.pinned.count(found->first) != 0;
  }
  (is_pinned ? w.pinned_copies : w.direct_copies).fetch_add(1);
  w.in_use.emplace(address, bytes);
  return {&w, [=](void*) {
            check_that_it_exists(address, bytes);
            world& now = the_world();
            const std::scoped_lock again(now.mutex);
            auto mine = now.in_use.find(address);
            while (mine->second != bytes) ++mine;
            now.in_use.erase(mine);
          }};
}

}  // namespace gm::fake_gpu
