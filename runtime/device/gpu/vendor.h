// SPDX-License-Identifier: Apache-2.0
// vendor.h - the seam between what GPUs have in common and one vendor's API.
//
// Each backend compiles all sources of this folder against a header of its own, which its build names by
// GMEM_GPU_VENDOR: device/cuda/vendor.h, device/hip/vendor.h, and in the tests one over plain memory and threads. Such
// a header defines in gm::device::gpu::vendor what is listed here, each a few lines that translate and nothing more. No
// function throws; addresses are 64-bit numbers; sizes are bytes.
//
//   name                         "cuda", "hip": the backend's
//   error, success               the API's result, and the one that means it worked; host_out_of_memory is another
//   classify, describe           error -> error_class (error_class.h), error -> the API's own words
//   forget_error                 takes the error that has just been returned out of the API's memory of last errors, so
//                                that a program that asks for it does not find ours
//   stream, event, memory        the API's handles; no_stream, no_event, no_memory are values that are none
//   context                      what a thread needs to work on one device
//   device_facts, ask_device     name, and which of the optional things below work on a device
//
//   start(count)                 the driver, once a backend; no_device in words where there is none
//   open_context, close_context  of the device with that number: the one that the program itself uses
//   outside                      what a thread works on without us, as far as enter() has changed it
//   enter, leave                 this thread works on that context, and a graph that some thread captures is no reason
//                                to refuse its calls, nor spoilt by them; leave() takes back what enter() has changed,
//                                and may be called again where it failed
//   memory_of                    free and total bytes of the current device
//   reaches(from, to, can)       whether the one device can be given access to the other's memory
//
//   create_stream                independent: on its own, with precedence, so that no queue of the program's holds it
//                                up
//   destroy_stream, synchronize_stream
//   stream_is_whole              asks for errors and waits for nothing
//   create_event, destroy_event, record_event
//   wait_for_event               a stream does
//   query_event, synchronize_event                    a thread does, asleep
//   copy, copy_batch, copy_between_devices, fill      asynchronous, in stream order
//   wait_for_value               the stream goes on when a flag holds at least the value     facts.waits_for_values
//   write_values                 64-bit words of device memory, each written whole           facts.writes_values
//   call_host                    calls a host function, which calls no API, in stream order
//   create_flag, destroy_flag    a 64-bit word that the host writes and streams wait for
//
//   allocate, free_memory        a contiguous piece
//   reserve, unreserve           device addresses                                            facts.maps_memory
//   create_memory, release_memory, map, unmap, allow_access
//   lock_host, unlock_host       host memory for all devices
//   allocate_pinned, free_pinned host memory that is so from the start
//   allocate_shared              the same, which kernels reach too; free_pinned frees it
#pragma once

#include "device/gpu/error_class.h"
#include GMEM_GPU_VENDOR
