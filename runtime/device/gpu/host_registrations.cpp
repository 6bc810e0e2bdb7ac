// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/host_registrations.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <new>

#include "device/gpu/gpu_error.h"
#include "device/parts/error_text.h"

namespace gm::device::gpu {

gm_status host_registrations::lock(void* memory, std::size_t bytes) noexcept {
  const auto begin = reinterpret_cast<std::uint64_t>(memory);
  if (begin == 0 || bytes == 0 || begin + bytes < begin) {
    return fail(GM_ERROR_INVALID_ARGUMENT, "host_register: %zu bytes at %p are no range", bytes, memory);
  }
  std::map<std::uint64_t, std::uint64_t>::iterator place;
  try {
    const std::scoped_lock guard(mutex_);
    const auto next = ends_.lower_bound(begin);
    const bool overlaps_next = next != ends_.end() && next->first < begin + bytes;
    const bool overlaps_last = next != ends_.begin() && std::prev(next)->second > begin;
    if (overlaps_next || overlaps_last) {
      return fail(GM_ERROR_INVALID_ARGUMENT, "host_register: %zu bytes at %p overlap a range that is registered", bytes,
                  memory);
    }
    place = ends_.emplace_hint(next, begin, begin);  // empty until the API has agreed
  } catch (const std::bad_alloc&) {
    return fail(GM_ERROR_NO_MEMORY, "no memory to register host memory");
  }
  const vendor::error error = vendor::lock_host(memory, bytes);
  const std::scoped_lock guard(mutex_);
  if (error != vendor::success) {
    ends_.erase(place);
    return fail_api(error, "locking host memory");
  }
  place->second = begin + bytes;
  count_.fetch_add(1, std::memory_order_release);
  return GM_OK;
}

void host_registrations::unlock(void* memory, std::size_t bytes) noexcept {
  const auto begin = reinterpret_cast<std::uint64_t>(memory);
  {
    const std::scoped_lock guard(mutex_);
    const auto found = ends_.find(begin);
    if (found == ends_.end() || found->second != begin + bytes) return;
    ends_.erase(found);
    count_.fetch_sub(1, std::memory_order_release);
  }
  ignore(vendor::unlock_host(memory));
}

void host_registrations::unlock_all() noexcept {
  const std::scoped_lock guard(mutex_);
  for (const auto& [begin, end] : ends_) ignore(vendor::unlock_host(reinterpret_cast<void*>(begin)));
  ends_.clear();
  count_.store(0, std::memory_order_release);
}

bool host_registrations::covers(std::uint64_t address, std::uint64_t bytes) const noexcept {
  if (count_.load(std::memory_order_acquire) == 0) return false;
  const std::shared_lock guard(mutex_);
  const std::uint64_t end = address + bytes;
  auto range = ends_.upper_bound(address);
  if (range == ends_.begin()) return false;
  --range;
  while (range != ends_.end() && range->first <= address && address < range->second) {
    address = std::min(end, range->second);
    if (address == end) return true;
    ++range;
  }
  return false;
}

}  // namespace gm::device::gpu
