// SPDX-License-Identifier: Apache-2.0
// host_pages.h - host pages of one block: their memory, and what the CPU may do with them. The only code that changes a
// block's backed, readable and host-writable masks, together with the kernel's page tables.
//
// The order is that of the protocol: permissions are taken from the kernel before the table says less, and given to the
// table before the kernel gives more, so that the kernel's tables are never more permissive than ours.
// All functions: the caller holds the block's lock and keeps it. A failure leaves table and kernel in agreement,
// possibly with some of the pages done.
#pragma once

#include "base/status.h"
#include "vm/vm_object.h"

namespace gm {

// Makes memfd pages exist, all or none. no_memory: over the host's budget, or the system has none.
status back_host_pages_locked(vm_object&, block_index, block&, page_mask);

// The CPU loses the pages altogether.
status revoke_cpu_locked(vm_object&, block_index, block&, page_mask);

// The CPU may read but no longer write the pages that it may write.
status write_protect_cpu_locked(vm_object&, block_index, block&, page_mask);

// Maps host-valid pages for the CPU: writable where `writable` says so, else read-only. Pages mapped with enough
// permission stay as they are. Wakes faults on what it maps: nobody is parked there any more.
status grant_cpu_locked(vm_object&, block_index, block&, page_mask pages, page_mask writable);

// NOMAP pages become zero pages, valid on the host only, writable for the CPU.
status grant_zero_pages_locked(vm_object&, block_index, block&, page_mask);

// Gives memfd pages back to the system; the pages are no longer valid on the host, and no CPU has them mapped. The
// block's host memory must be loose (registrar.h), save for pages that have none.
status drop_host_pages_locked(vm_object&, block_index, block&, page_mask);

}  // namespace gm
