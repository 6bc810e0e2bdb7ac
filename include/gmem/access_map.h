/* SPDX-License-Identifier: Apache-2.0
 *
 * access_map.h - what the runtime and a kernel's view (view.hpp) agree on: a device's access map. Programs do not use
 * it; a view for another language would.
 *
 * For each page of 64 KiB the map has, in arrays in device memory:
 *   entry     one word, which only the host writes, in stream order:
 *               bit 0       the page is present: it may be read
 *               bit 1       it may be written
 *               bits 2-31   generation: no two words of a page that differ in anything have the same
 *               bits 32-63  where it is: 64 KiB pages above the pool's base
 *   pins      how many threads keep the page where it is
 *   wanted    (the entry's generation + 1) * 2 + (1: to write) of the latest request that was posted for it
 *   accessed  not 0: read or written since the host last put it to 0. A mark that is lost does no harm
 * Reading: entry, value, entry again; the value counts when both are the same word.
 * Pinning: add to pins, then look at the entry again; when it has changed, take the pin back.
 * The host takes a page away by writing its entry, and then waits until its pins are 0.
 *
 * A thread that finds a page absent posts a request, if wanted does not say that somebody has, and waits for the entry
 * to change. Requests go through a ring in host memory. A ticket, counted in device memory, is a place in the ring; it
 * may be used when the host has consumed what was there before. A request is one word:
 *   bits 0-31 page of the arena, bit 32 to write, bits 33-38 scope, bits 39-63 turn: ticket / slots + 1, modulo 2^25
 */
#ifndef GMEM_ACCESS_MAP_H
#define GMEM_ACCESS_MAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_MAP_PRESENT 1u
#define GM_MAP_WRITABLE 2u
#define GM_MAP_PAGE_BITS 16       /* a page is 64 KiB */
#define GM_MAP_GENERATION_SHIFT 2 /* of an entry */
#define GM_MAP_GENERATION_MASK 0x3fffffffu
#define GM_MAP_PLACE_SHIFT 32

#define GM_REQUEST_WRITE_SHIFT 32
#define GM_REQUEST_SCOPE_SHIFT 33
#define GM_REQUEST_SCOPE_MASK 0x3fu
#define GM_REQUEST_TURN_SHIFT 39
#define GM_REQUEST_TURN_MASK 0x1ffffffu

#define GM_MAP_SCOPES 64 /* on-demand scopes of one device at a time */

/* In device memory, one a device. */
typedef struct gm_map_control {
  uint64_t ring;                    /* device address of the slots, 8 bytes each */
  uint64_t slots;                   /* a power of two                            */
  uint64_t consumed;                /* requests the host has taken               */
  uint64_t tickets;                 /* given out; kernels add                    */
  uint64_t given_up[GM_MAP_SCOPES]; /* not 0: the scope gets no more pages       */
} gm_map_control;

/* What a view is made of. Pointers are device addresses; with `direct`, the rest is not used. */
typedef struct gm_view_data {
  unsigned char* direct; /* the first byte, where all of the range stays in place; else NULL */
  uint64_t bytes;
  const uint64_t* entries; /* of the range's first page, as are pins, wanted and accessed       */
  uint32_t* pins;
  uint32_t* wanted;
  uint8_t* accessed;
  gm_map_control* control;
  uint64_t pool;       /* the pool's base                                                   */
  uint32_t first_page; /* its number in the arena                                           */
  uint16_t first_byte; /* of the range, in its first page                                   */
  uint8_t scope;
  uint8_t may_write;
} gm_view_data;

#ifdef __cplusplus
}
#endif

#endif /* GMEM_ACCESS_MAP_H */
