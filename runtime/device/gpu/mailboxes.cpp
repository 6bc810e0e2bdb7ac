// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/mailboxes.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "device/gpu/gpu_error.h"

namespace gm::device::gpu {
namespace {

constexpr std::uint64_t os_page = 4096;

}  // namespace

gm_status mailboxes::open(host_registrations& registrations) noexcept {
  registrations_ = &registrations;
  void* host = nullptr;
  std::uint64_t device_address = 0;
  const gm_status status = create(os_page, &host, &device_address);
  if (status == GM_OK) destroy(host);
  return status;
}

void mailboxes::close() noexcept {
  for (const mailbox& each : all_) {
    registrations_->forget(each.host);
    ignore(vendor::free_pinned(each.host));
  }
  all_.clear();
}

gm_status mailboxes::create(std::uint64_t bytes, void** host, std::uint64_t* device_address) noexcept {
  const std::uint64_t whole = (bytes + os_page - 1) / os_page * os_page;
  const std::scoped_lock lock(mutex_);
  const auto found =
      std::find_if(all_.begin(), all_.end(), [=](const mailbox& each) { return each.is_idle && each.bytes == whole; });
  mailbox made{};
  if (found != all_.end()) {
    found->is_idle = false;
    made = *found;
  } else {
    try {
      all_.reserve(all_.size() + 1);
    } catch (const std::bad_alloc&) {
      return fail(GM_ERROR_NO_MEMORY, "no memory to remember a mailbox");
    }
    const vendor::error error = vendor::allocate_shared(whole, &made.host, &made.device_address);
    if (error != vendor::success) return fail_api(error, "allocating host memory for kernels");
    if (const gm_status status = registrations_->note(made.host, whole); status != GM_OK) {
      ignore(vendor::free_pinned(made.host));
      return status;
    }
    made.bytes = whole;
    all_.push_back(made);
  }
  std::memset(made.host, 0, whole);
  *host = made.host;
  *device_address = made.device_address;
  return GM_OK;
}

void mailboxes::destroy(void* host) noexcept {
  const std::scoped_lock lock(mutex_);
  for (mailbox& each : all_) each.is_idle = each.is_idle || each.host == host;
}

}  // namespace gm::device::gpu
