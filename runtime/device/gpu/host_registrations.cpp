// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/host_registrations.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <new>

#include "device/gpu/gpu_error.h"
#include "device/parts/error_text.h"

namespace gm::device::gpu {

// A place in the list for the range, which is empty until the API has agreed.
gm_status host_registrations::begin_range(std::uint64_t begin, std::size_t bytes, range_map::iterator* place) noexcept {
  try {
    const std::scoped_lock guard(mutex_);
    const auto next = ranges_.lower_bound(begin);
    const bool overlaps_next = next != ranges_.end() && next->first < begin + bytes;
    const bool overlaps_last = next != ranges_.begin() && std::prev(next)->second.end > begin;
    if (overlaps_next || overlaps_last) {
      return fail(GM_ERROR_INVALID_ARGUMENT, "host_register: %zu bytes at %#llx overlap a range that is registered",
                  bytes, static_cast<unsigned long long>(begin));
    }
    *place = ranges_.emplace_hint(next, begin, range{begin, false, false});
    return GM_OK;
  } catch (const std::bad_alloc&) {
    return fail(GM_ERROR_NO_MEMORY, "no memory to register host memory");
  }
}

gm_status host_registrations::lock(void* memory, std::size_t bytes) noexcept {
  const auto begin = reinterpret_cast<std::uint64_t>(memory);
  if (begin == 0 || bytes == 0 || begin + bytes < begin) {
    return fail(GM_ERROR_INVALID_ARGUMENT, "host_register: %zu bytes at %p are no range", bytes, memory);
  }
  range_map::iterator place;
  if (const gm_status status = begin_range(begin, bytes, &place); status != GM_OK) return status;
  const vendor::error error = vendor::lock_host(memory, bytes);
  const std::scoped_lock guard(mutex_);
  if (error != vendor::success) {
    ranges_.erase(place);
    return fail_api(error, "locking host memory");
  }
  place->second.end = begin + bytes;
  count_.fetch_add(1, std::memory_order_release);
  return GM_OK;
}

gm_status host_registrations::note(void* memory, std::size_t bytes) noexcept {
  const auto begin = reinterpret_cast<std::uint64_t>(memory);
  range_map::iterator place;
  if (const gm_status status = begin_range(begin, bytes, &place); status != GM_OK) return status;
  const std::scoped_lock guard(mutex_);
  place->second = {begin + bytes, false, true};
  count_.fetch_add(1, std::memory_order_release);
  return GM_OK;
}

void host_registrations::forget(void* memory) noexcept {
  const std::scoped_lock guard(mutex_);
  const auto found = ranges_.find(reinterpret_cast<std::uint64_t>(memory));
  if (found == ranges_.end() || !found->second.is_pinned) return;
  ranges_.erase(found);
  count_.fetch_sub(1, std::memory_order_release);
}

void host_registrations::retire(void* memory) noexcept {
  const std::scoped_lock guard(mutex_);
  const auto found = ranges_.find(reinterpret_cast<std::uint64_t>(memory));
  if (found != ranges_.end()) found->second.is_retired = true;
}

void host_registrations::unlock(void* memory, std::size_t bytes) noexcept {
  const auto begin = reinterpret_cast<std::uint64_t>(memory);
  {
    const std::scoped_lock guard(mutex_);
    const auto found = ranges_.find(begin);
    if (found == ranges_.end() || found->second.end != begin + bytes || found->second.is_pinned) return;
    ranges_.erase(found);
    count_.fetch_sub(1, std::memory_order_release);
  }
  ignore(vendor::unlock_host(memory));
}

void host_registrations::unlock_all() noexcept {
  const std::scoped_lock guard(mutex_);
  for (auto each = ranges_.begin(); each != ranges_.end();) {
    if (each->second.is_pinned) {
      ++each;
      continue;
    }
    ignore(vendor::unlock_host(reinterpret_cast<void*>(each->first)));
    each = ranges_.erase(each);
  }
  count_.store(ranges_.size(), std::memory_order_release);
}

bool host_registrations::covers(std::uint64_t address, std::uint64_t bytes) const noexcept {
  if (count_.load(std::memory_order_acquire) == 0) return false;
  const std::shared_lock guard(mutex_);
  const std::uint64_t end = address + bytes;
  auto found = ranges_.upper_bound(address);
  if (found == ranges_.begin()) return false;
  --found;
  while (found != ranges_.end() && found->first <= address && address < found->second.end &&
         !found->second.is_retired) {
    address = std::min(end, found->second.end);
    if (address == end) return true;
    ++found;
  }
  return false;
}

}  // namespace gm::device::gpu
