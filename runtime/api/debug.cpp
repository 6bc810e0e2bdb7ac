// SPDX-License-Identifier: Apache-2.0
#include "api/debug.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <vector>

#include "api/runtime.h"

namespace gm {
namespace {

// Compares what the table says the CPU has mapped with /proc/self/pagemap: bit 63 present, bit 57 write-protected by
// userfaultfd. The kernel may have less than the table says, never more.
bool compare_with_kernel(runtime& rt, char* why, std::size_t why_bytes) {
  const int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    std::snprintf(why, why_bytes, "cannot read /proc/self/pagemap");
    return false;
  }
  bool same = true;
  constexpr std::size_t os_pages = block_bytes / os_page_bytes;
  std::vector<std::uint64_t> entries(os_pages);
  for (block_index index; same && index.value < rt.vm.table.blocks(); ++index) {
    block* b = rt.vm.table.find(index);
    if (b == nullptr) {
      index.value += page_table::blocks_per_chunk - 1 - index.value % page_table::blocks_per_chunk;
      continue;
    }
    block_guard guard(b->lock);
    const std::uintptr_t address = rt.vm.memory.user_base() + offset_of(index);
    const auto bytes = static_cast<ssize_t>(os_pages * sizeof(std::uint64_t));
    if (pread(fd, entries.data(), static_cast<std::size_t>(bytes),
              static_cast<off_t>(address / os_page_bytes * sizeof(std::uint64_t))) != bytes)
      continue;
    for (std::size_t i = 0; i < os_pages && same; ++i) {
      const auto page = static_cast<unsigned>(i * os_page_bytes / page_bytes);
      const bool present = (entries[i] >> 63 & 1) != 0;
      const bool may_write = present && (entries[i] >> 57 & 1) == 0;
      if (present && (b->readable & one_page(page)) == 0) {
        std::snprintf(why, why_bytes, "block %llu page %u: the kernel maps it, the table says it is absent",
                      static_cast<unsigned long long>(index.value), page);
        same = false;
      } else if (may_write && (b->host().writable & one_page(page)) == 0) {
        std::snprintf(why, why_bytes, "block %llu page %u: the kernel lets the CPU write, the table says read-only",
                      static_cast<unsigned long long>(index.value), page);
        same = false;
      }
    }
  }
  close(fd);
  return same;
}

bool validate_maps(const vm_object& vm, char* why, std::size_t why_bytes) {
  for (block_index index; index.value < vm.table.blocks(); ++index) {
    block* b = vm.table.find(index);
    if (b == nullptr) {
      index.value += page_table::blocks_per_chunk - 1 - index.value % page_table::blocks_per_chunk;
      continue;
    }
    block_guard guard(b->lock);
    if (!validate_entries_locked(vm, index, *b, why, why_bytes)) return false;
  }
  return true;
}

}  // namespace

bool debug_validate(char* why, std::size_t why_bytes) {
  runtime* rt = running();
  return rt == nullptr || (validate(rt->vm, false, why, why_bytes) && validate_maps(rt->vm, why, why_bytes));
}

bool debug_validate_at_rest(char* why, std::size_t why_bytes) {
  runtime* rt = running();
  return rt == nullptr || (validate(rt->vm, true, why, why_bytes) && validate_maps(rt->vm, why, why_bytes) &&
                           compare_with_kernel(*rt, why, why_bytes));
}

bool debug_settle(std::uint64_t timeout_ns) {
  runtime* rt = running();
  if (rt == nullptr) return true;
  if (object_layer* small = rt->objects.load(); small != nullptr) small->trim();
  return rt->settle(timeout_ns);
}

void debug_fail_device(device::operation operation, std::uint64_t n) {
  runtime* rt = running();
  if (rt == nullptr) return;
  for (const runtime::loaded_backend& backend : rt->backends())
    if (backend.api->fail_nth != nullptr) backend.api->fail_nth(backend.handle, operation, n);
}

}  // namespace gm
