// SPDX-License-Identifier: Apache-2.0
#include "device/sim/sim_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "base/memory_file.h"
#include "base/os_limit.h"
#include "device/parts/error_text.h"

namespace gm::device::sim {
namespace {

// A block whose piece was given back but which the kernel would not let us unmap (too many mappings). Its frame stays
// used and mapped, and the block's next piece takes it over.
constexpr std::uint32_t orphan = 1u << 31;

void* to_pointer(std::uint64_t address) { return reinterpret_cast<void*>(address); }

// Addresses without access: they cost no memory, and fork does not copy them.
bool reserve_at(std::uint64_t address, std::uint64_t bytes) {
  void* pointer = to_pointer(address);
  return mmap(pointer, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == pointer &&
         madvise(pointer, bytes, MADV_DONTFORK) == 0;
}

// As many addresses, aligned to a frame. 0 when there are none.
std::uint64_t reserve_aligned(std::uint64_t bytes) {
  const std::uint64_t start = reserve_addresses(bytes + frame_bytes);
  if (start == 0) return 0;
  const std::uint64_t base = (start + frame_bytes - 1) / frame_bytes * frame_bytes;
  if (base != start) munmap(to_pointer(start), base - start);
  if (base + bytes != start + bytes + frame_bytes) munmap(to_pointer(base + bytes), start + frame_bytes - base);
  madvise(to_pointer(base), bytes, MADV_DONTFORK);
  return base;
}

}  // namespace

void sim_memory::free_deleter::operator()(std::uint32_t* pointer) const noexcept { std::free(pointer); }

std::unique_ptr<sim_memory> sim_memory::create(std::uint64_t memory_bytes, std::uint64_t window_bytes,
                                               gm_status* status) {
  std::unique_ptr<sim_memory> memory(new sim_memory(memory_bytes, window_bytes));
  *status = memory->reserve();
  if (*status != GM_OK) memory.reset();
  return memory;
}

sim_memory::sim_memory(std::uint64_t memory_bytes, std::uint64_t window_bytes)
    : window_bytes_(window_bytes), frames_(static_cast<std::uint32_t>(memory_bytes / frame_bytes)) {}

gm_status sim_memory::fail_to_map(const char* what, std::uint64_t bytes) const noexcept {
  const auto size = static_cast<unsigned long long>(bytes);
  if (errno == EAGAIN) {
    return fail(GM_ERROR_PERMISSION, "%llu bytes of %s for a simulated device%s", size, what, os_limit_words(errno));
  }
  return fail_errno(GM_ERROR_NO_MEMORY,
                    "%llu bytes of %s for a simulated device (a smaller %s or a larger `ulimit -v` helps)", size, what,
                    has_window() ? "GM_ARENA_SIZE" : "GM_SIM_MEMORY");
}

gm_status sim_memory::reserve() noexcept {
  memory_fd_ = memfd_create("gmem-sim-memory", MFD_CLOEXEC);
  if (memory_fd_ < 0) {
    return fail_errno(GM_ERROR_SYSTEM, "memfd_create for a simulated device's memory%s", os_limit_words(errno));
  }
  if (!size_memory_file(memory_fd_, total_bytes())) {
    return fail_errno(errno == EFBIG ? GM_ERROR_SYSTEM : GM_ERROR_NO_MEMORY,
                      "a memfd of %llu bytes for a simulated device's memory%s",
                      static_cast<unsigned long long>(total_bytes()), os_limit_words(errno));
  }
  const std::uint64_t bytes = has_window() ? window_bytes_ : total_bytes();
  base_ = reserve_aligned(bytes);
  if (base_ == 0) return fail_to_map("addresses", bytes);
  mapped_bytes_ = bytes;
  if (has_window()) {
    block_frame_.reset(static_cast<std::uint32_t*>(std::calloc(window_bytes_ / frame_bytes, sizeof(std::uint32_t))));
    if (block_frame_ == nullptr) return fail(GM_ERROR_NO_MEMORY, "no memory for a simulated device's frame table");
    pool_base_ = reserve_aligned(total_bytes());
    return pool_base_ != 0 ? GM_OK : fail_to_map("addresses", total_bytes());
  }
  pool_base_ = base_;
  if (!map_memory_file(base_, memory_fd_, bytes)) return fail_to_map("memory", bytes);
  madvise(to_pointer(base_), bytes, MADV_DONTFORK);
  return GM_OK;
}

sim_memory::~sim_memory() {
  if (has_window() && pool_base_ != 0) munmap(to_pointer(pool_base_), total_bytes());
  if (base_ != 0) munmap(to_pointer(base_), mapped_bytes_);
  for (const auto& [address, bytes] : tables_) munmap(to_pointer(address), bytes);
  if (memory_fd_ >= 0) close(memory_fd_);
}

std::uint64_t sim_memory::free_bytes() const noexcept {
  const std::scoped_lock lock(mutex_);
  return frames_.free_count() * frame_bytes;
}

gm_status sim_memory::piece_create(std::uint64_t offset, std::uint32_t frames, std::uint64_t* address) noexcept {
  if (frames == 0 || address == nullptr) return fail(GM_ERROR_INVALID_ARGUMENT, "a piece of no frames, or no result");
  const std::scoped_lock lock(mutex_);
  if (has_window()) {
    if (frames != 1) return fail(GM_ERROR_INVALID_ARGUMENT, "a piece of %u frames: in a window it is 1", frames);
    return piece_create_in_window_locked(offset, address);
  }
  const auto first = frames_.take(frames);
  if (!first) return no_such_piece(frames);
  *address = base_ + *first * frame_bytes;
  return GM_OK;
}

gm_status sim_memory::piece_create_in_window_locked(std::uint64_t offset, std::uint64_t* address) noexcept {
  if (offset % frame_bytes != 0 || offset >= window_bytes_) {
    return fail(GM_ERROR_INVALID_ARGUMENT, "offset %#llx is not a block of the window, which has %#llx bytes",
                static_cast<unsigned long long>(offset), static_cast<unsigned long long>(window_bytes_));
  }
  std::uint32_t& entry = block_frame_[offset / frame_bytes];
  if ((entry & orphan) != 0) {
    entry &= ~orphan;
    *address = base_ + offset;
    return GM_OK;
  }
  if (entry != 0) {
    return fail(GM_ERROR_INVALID_ARGUMENT, "offset %#llx has a piece already", static_cast<unsigned long long>(offset));
  }
  const auto frame = frames_.take(1);
  if (!frame) return no_such_piece(1);
  const gm_status status = map_frame(base_ + offset, *frame);
  if (status != GM_OK) {
    frames_.give_back(*frame, 1);
    return status;
  }
  entry = *frame + 1;
  *address = base_ + offset;
  return GM_OK;
}

void sim_memory::piece_destroy(std::uint64_t offset, std::uint32_t frames, std::uint64_t address) noexcept {
  const std::scoped_lock lock(mutex_);
  if (!contains(address) || (has_window() && address != base_ + offset)) {
    std::fprintf(stderr, "gmem sim: no piece at address %#llx to give back\n",
                 static_cast<unsigned long long>(address));
    std::abort();
  }
  if (has_window()) {
    piece_destroy_in_window_locked(offset);
  } else {
    frames_.give_back(static_cast<std::uint32_t>((address - base_) / frame_bytes), frames);
  }
}

void sim_memory::piece_destroy_in_window_locked(std::uint64_t offset) noexcept {
  std::uint32_t& entry = block_frame_[offset / frame_bytes];
  if (entry == 0 || (entry & orphan) != 0) {
    std::fprintf(stderr, "gmem sim: no piece at offset %#llx to give back\n", static_cast<unsigned long long>(offset));
    std::abort();
  }
  if (!unmap_frame(base_ + offset)) {
    entry |= orphan;
    return;
  }
  frames_.give_back(entry - 1, 1);
  entry = 0;
}

gm_status sim_memory::lasting_address(std::uint64_t address, std::uint64_t* lasting) noexcept try {
  const std::scoped_lock lock(mutex_);
  if (!contains(address)) return fail(GM_ERROR_INVALID_ARGUMENT, "the address is of no piece");
  if (!has_window()) {
    *lasting = address;
    return GM_OK;
  }
  const std::uint64_t in_window = address - base_;
  const std::uint32_t entry = block_frame_[in_window / frame_bytes] & ~orphan;
  if (entry == 0) return fail(GM_ERROR_INVALID_ARGUMENT, "the address is of no piece");
  const std::uint32_t frame = entry - 1;
  const std::uint64_t stays = pool_base_ + frame * frame_bytes;
  in_pool_.resize(frames_.count());
  if (!in_pool_[frame]) {
    if (const gm_status status = map_frame(stays, frame); status != GM_OK) return status;
    in_pool_[frame] = true;
  }
  *lasting = stays + in_window % frame_bytes;
  return GM_OK;
} catch (const std::bad_alloc&) {
  return fail(GM_ERROR_NO_MEMORY, "no memory to remember which frames have a lasting address");
}

bool sim_memory::is_in_table(std::uint64_t address) const noexcept {
  const std::scoped_lock lock(mutex_);
  for (const auto& [begin, bytes] : tables_)
    if (address - begin < bytes) return true;
  return false;
}

gm_status sim_memory::table_reserve(std::uint64_t bytes, std::uint64_t* address) noexcept try {
  const std::scoped_lock lock(mutex_);
  tables_.reserve(tables_.size() + 1);
  void* got = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (got == MAP_FAILED) return fail_to_map("tables", bytes);
  madvise(got, bytes, MADV_DONTFORK);
  *address = reinterpret_cast<std::uint64_t>(got);
  tables_.emplace_back(*address, bytes);
  return GM_OK;
} catch (const std::bad_alloc&) {
  return fail(GM_ERROR_NO_MEMORY, "no memory to remember a table");
}

gm_status sim_memory::map_frame(std::uint64_t address, std::uint32_t frame) noexcept {
  void* pointer = to_pointer(address);
  const auto position = static_cast<off_t>(frame * frame_bytes);
  if (mmap(pointer, frame_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory_fd_, position) == pointer) {
    if (madvise(pointer, frame_bytes, MADV_DONTFORK) == 0) return GM_OK;
  }
  const bool locked = errno == EAGAIN;
  const gm_status status = fail_errno(GM_ERROR_NO_MEMORY, "mapping a frame of a simulated device%s",
                                      locked ? os_limit_words(EAGAIN) : " (is vm.max_map_count large enough?)");
  reserve_at(address, frame_bytes);
  return status;
}

bool sim_memory::unmap_frame(std::uint64_t address) noexcept { return reserve_at(address, frame_bytes); }

gm_status sim_memory::no_such_piece(std::uint32_t frames) noexcept {
  return fail(GM_ERROR_NO_MEMORY, "the simulated device has no %u neighbouring frames free: %u of %u frames are free",
              frames, frames_.free_count(), frames_.count());
}

}  // namespace gm::device::sim
