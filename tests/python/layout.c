/* SPDX-License-Identifier: Apache-2.0
 * layout.c - prints "STRUCT FIELD OFFSET SIZE" for the structs of gmem.h that the Python module declares once more, and
 * "enum NAME VALUE". */
#include <gmem/gmem.h>
#include <stdio.h>

#define FIELD(type, field) printf(#type " " #field " %zu %zu\n", offsetof(type, field), sizeof(((type*)0)->field))
#define WHOLE(type) printf(#type " - 0 %zu\n", sizeof(type))
#define VALUE(name) printf("enum " #name " %d\n", (int)(name))

int main(void) {
  WHOLE(gm_options);
  FIELD(gm_options, size);
  FIELD(gm_options, backend);
  FIELD(gm_options, arena_size_bytes);
  FIELD(gm_options, host_budget_bytes);
  FIELD(gm_options, device_budget_bytes);
  FIELD(gm_options, fault_mode);
  FIELD(gm_options, fault_threads);
  FIELD(gm_options, sim_devices);
  FIELD(gm_options, sim_memory_bytes);
  FIELD(gm_options, sim_bandwidth_bytes_per_second);
  FIELD(gm_options, sim_latency_ns);
  FIELD(gm_options, sim_window);
  FIELD(gm_options, log);
  FIELD(gm_options, registered_budget_bytes);
  WHOLE(gm_node_info);
  FIELD(gm_node_info, name);
  FIELD(gm_node_info, backend);
  FIELD(gm_node_info, total_bytes);
  FIELD(gm_node_info, free_bytes);
  FIELD(gm_node_info, budget_bytes);
  FIELD(gm_node_info, has_window);
  FIELD(gm_node_info, same_address);
  FIELD(gm_node_info, has_access_map);
  WHOLE(gm_access);
  FIELD(gm_access, ptr);
  FIELD(gm_access, bytes);
  FIELD(gm_access, mode);
  WHOLE(gm_mapping);
  FIELD(gm_mapping, page);
  FIELD(gm_mapping, flags);
  FIELD(gm_mapping, valid_nodes);
  FIELD(gm_mapping, writer);
  WHOLE(gm_node_stats);
  FIELD(gm_node_stats, faults);
  FIELD(gm_node_stats, pages_in);
  FIELD(gm_node_stats, pages_out);
  FIELD(gm_node_stats, bytes_in);
  FIELD(gm_node_stats, bytes_out);
  FIELD(gm_node_stats, evictions);
  FIELD(gm_node_stats, writebacks);
  FIELD(gm_node_stats, writebacks_skipped);
  FIELD(gm_node_stats, frames_used);
  FIELD(gm_node_stats, frames_free);
  WHOLE(gm_stats);
  FIELD(gm_stats, size);
  FIELD(gm_stats, node_count);
  FIELD(gm_stats, spurious_faults);
  FIELD(gm_stats, parked_faults);
  FIELD(gm_stats, fault_time_ns);
  FIELD(gm_stats, metadata_bytes);
  FIELD(gm_stats, allocations);
  FIELD(gm_stats, allocated_bytes);
  FIELD(gm_stats, node);
  FIELD(gm_stats, registered_bytes);
  VALUE(GM_OK);
  VALUE(GM_ERROR_INVALID_ARGUMENT);
  VALUE(GM_ERROR_NOT_MANAGED);
  VALUE(GM_ERROR_NO_MEMORY);
  VALUE(GM_ERROR_UNSUPPORTED);
  VALUE(GM_ERROR_BUSY);
  VALUE(GM_ERROR_PERMISSION);
  VALUE(GM_ERROR_DEVICE);
  VALUE(GM_ERROR_SYSTEM);
  VALUE(GM_READ);
  VALUE(GM_WRITE);
  VALUE(GM_READ_WRITE);
  VALUE(GM_ADVISE_NORMAL);
  VALUE(GM_ADVISE_READ_MOSTLY);
  VALUE(GM_ADVISE_PREFERRED_NODE);
  VALUE(GM_ADVISE_ACCESSED_BY);
  VALUE(GM_ADVISE_SEQUENTIAL);
  VALUE(GM_ADVISE_RANDOM);
  VALUE(GM_ADVISE_WILLNEED);
  VALUE(GM_ADVISE_COLD);
  VALUE(GM_PAGE_CPU);
  VALUE(GM_PAGE_DEVICE);
  VALUE(GM_PAGE_NOMAP);
  VALUE(GM_PAGE_WILLNEED);
  VALUE(GM_PAGE_PINNED);
  VALUE(GM_PAGE_DIRTY);
  VALUE(GM_PAGE_LEASED);
  VALUE(GM_MAX_NODES);
  return 0;
}
