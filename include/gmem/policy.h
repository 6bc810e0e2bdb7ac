/* SPDX-License-Identifier: Apache-2.0
 *
 * policy.h - how gmem decides what to bring, what to give up and where pages live, and how a program decides otherwise.
 *
 * The runtime asks six questions. Each has a built-in answer, made from what the runtime has seen so far; a function
 * of gm_policy gets question and built-in answer, and may change the answer. Answers are hints: the runtime takes of
 * them what is legal and what there is room for, so no answer can change what memory contains, and any is safe.
 *
 * Functions run where faults are served: in gmem's threads, in the signal handlers of touching threads (GM_FAULT_MODE
 *           "inline"), in threads that queue work; several at a time, under locks of the runtime. A function must
 *           return within microseconds; must not call gmem, allocate, lock what is held elsewhere during a call of gmem
 *           or a touch of managed memory, touch managed memory itself, or leave by an exception or longjmp. In
 *           signal handlers it runs on the stack that the handler has: a small one (gm_options.fault_mode) has to be
 *           larger by what the function takes.
 * Structs   grow at their ends: a function gets at least the members that its gmem/policy.h names. Pointers are good
 *           until it returns.
 * Units.    page: the number of a 64 KiB page, counted from the start of the arena; block: page / 32. Times are ns of a
 *           clock that does not go backwards. Nodes are those of gmem.h. Masks have bit i for page i of the block.
 * Ideas     come from: tree prefetching in NVIDIA's driver as studied by Ganguly et al. (ISCA 2019) and Allen and Ge
 *           (SC 2021); file read-ahead in operating systems; segmented LRU (Karedla et al., 1994) and CLOCK (Corbato,
 *           1968); pinning of bouncing pages (Mirage, Fleisch and Popek, 1989).
 */
#ifndef GMEM_POLICY_H
#define GMEM_POLICY_H

#include <gmem/gmem.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What gm_advise said of a page. */
typedef struct gm_policy_advice {
  uint32_t read_mostly; /* 0 or 1, as the next three */
  uint32_t cold;
  uint32_t sequential;
  uint32_t random;
  int32_t preferred_node; /* or -1 */
  uint32_t reserved;      /* 0 */
  uint64_t accessed_by;   /* bit n: node n */
} gm_policy_advice;

/* ---- 1 and 6: which pages of a block a fault takes along, and to write ------------------------------------------ */

/* For the host the built-in answer is a window that doubles with each fault in order (and the page alone, where a write
 * would take pages from devices that have copies); for a device what is dense around the pages asked for.
 *
 * At a device's write device_writes is asked as well: which pages of the block, there or on their way, the device is
 * given to write. They are copied home later, written or not. requested are those that it writes, present those that it
 * may write already. The built-in answer is what is dense among these; in a walk through blocks of which the last was
 * given to write for the most part, all of the block. */
typedef struct gm_policy_fault {
  uint64_t page; /* touched */
  int32_t node;  /* whose processor touched it */
  int32_t write; /* 0 or 1 */
  gm_policy_advice advice;
  uint32_t requested; /* pages of the block asked for by this fault and others served with it      */
  uint32_t present;   /* the node has a current copy                                               */
  uint32_t elsewhere; /* another node has one; of those in neither nobody has: they read as zero   */
  uint32_t legal;     /* what the answer may hold beside `requested`; the rest of it is ignored    */
} gm_policy_fault;

/* ---- 2: what to bring before it is asked for ------------------------------------------------------------------- */

typedef struct gm_policy_touch {
  uint64_t page;
  int32_t node;
  uint32_t pages_a_unit;          /* 1 or 32: what unit the answer counts in                                   */
  uint64_t unit;                  /* the touched one, page / pages_a_unit                                      */
  uint64_t first_unit, last_unit; /* units [first_unit, last_unit) are the allocation's                        */
  gm_policy_advice advice;
} gm_policy_touch;

/* Units unit + step, unit + 2 * step .. are to be brought, count of them (0 none). What lies outside the allocation is
 * left away, and so is all beyond 64 units. streamed: 1 where the data looks as if used once, else 0. Where the answer
 * has blocks to bring, the touched block comes whole as well, if fault_pages does not say otherwise; with the built-in
 * answer also in a walk for which there is no room ahead, where count is 0 and step is not. */
typedef struct gm_policy_ahead {
  int64_t step;
  uint32_t count;
  uint32_t streamed;
} gm_policy_ahead;

/* ---- 3: what becomes of a frame that is looked at to make room ------------------------------------------------- */

typedef struct gm_policy_frame {
  uint64_t page; /* the first of its block                                                                     */
  int32_t node;
  int32_t advised;  /* 0 to go first, 1 normal, 2 to be kept                                               */
  int32_t list;     /* 0 probation, 1 protected, 2 streamed: data that looks as if used once              */
  int32_t newest;   /* 1: the newest of its list that is no longer in use, 0: its turn in order          */
  int32_t accessed; /* 1: used since the last look, or since it came                                       */
  uint32_t looks;   /* so far, since it came or was demoted                                                */
} gm_policy_frame;

typedef enum gm_policy_verdict {
  GM_VERDICT_EVICT,
  GM_VERDICT_LOOK_AGAIN, /* to the end of its list; a streamed one stays in its place. After enough looks that free
                            nothing, frames are evicted in order                                              */
  GM_VERDICT_PROMOTE,    /* to the end of the protected list                                                   */
  GM_VERDICT_DEMOTE      /* to the end of the probation list                                                   */
} gm_policy_verdict;

/* ---- 4: a block that moves to and fro -------------------------------------------------------------------------- */

typedef struct gm_policy_movement {
  uint64_t block;
  int32_t node;  /* wants pages of it that are not there                                                       */
  int32_t write; /* 0 or 1                                                                                     */
  int32_t remote_possible; /* 1: the node could reach them where they are                                      */
  int32_t reserved;        /* 0 */
  uint64_t now_ns;
} gm_policy_movement;

typedef enum gm_policy_how {
  GM_TREAT_NORMAL,
  GM_TREAT_DUPLICATE, /* readers get copies, and nobody loses his                                              */
  GM_TREAT_PIN,       /* it stays on `node` until `until_ns`: who else wants it waits, at most 100 ms          */
  GM_TREAT_REMOTE     /* as PIN, and the others reach it there; PIN where they cannot                          */
} gm_policy_how;

typedef struct gm_policy_treatment {
  int32_t how; /* a gm_policy_how */
  int32_t node;
  uint64_t until_ns;
} gm_policy_treatment;

/* ---- 5: where a page should be --------------------------------------------------------------------------------- */

typedef struct gm_policy_wish {
  uint64_t page;
  int32_t node;  /* has no copy, and wants to read or write it                                                 */
  int32_t write; /* 0 or 1                                                                                     */
  gm_policy_advice advice;
  int32_t remote_possible; /* 1: the node could reach it elsewhere                                             */
  int32_t node_count;
  uint64_t valid_nodes; /* bit n: node n has a current copy; 0: nobody, it reads as zero                       */
} gm_policy_wish;

typedef struct gm_policy_place {
  int32_t node;      /* where it should be; another than the wish's only counts where remote_possible          */
  int32_t duplicate; /* 1: other nodes keep their copies; only counts for reading                              */
} gm_policy_place;

/* ---- The table ------------------------------------------------------------------------------------------------- */

/* A sized struct: set size to sizeof(gm_policy). A function that is NULL leaves the built-in answer. The last argument
 * of each holds the built-in answer, and afterwards the program's; verdict is a gm_policy_verdict. An answer that is
 * none of its enumeration, or a node that is not there, leaves the built-in one. */
typedef struct gm_policy {
  size_t size;
  void* context; /* the first argument of each */
  void (*fault_pages)(void* context, const gm_policy_fault* fault, uint32_t* pages);
  void (*read_ahead)(void* context, const gm_policy_touch* touch, gm_policy_ahead* ahead);
  void (*victim)(void* context, const gm_policy_frame* frame, int32_t* verdict);
  void (*movement)(void* context, const gm_policy_movement* movement, gm_policy_treatment* treatment);
  void (*placement)(void* context, const gm_policy_wish* wish, gm_policy_place* place);
  void (*device_writes)(void* context, const gm_policy_fault* fault, uint32_t* pages);
} gm_policy;

/* Copies the table, in place of the one before; NULL: all built in. At any time and from any thread but a policy's own
 * functions, also while gmem is not running: it holds for the process, across gm_shutdown. When it returns, no function
 * of the table before is running or will be called again, so its context may go. Errors: INVALID_ARGUMENT (a size below
 * the first function's end), UNSUPPORTED (a function that this library does not know; a forked child), NO_MEMORY. The
 * table before then stays. */
GM_API gm_status gm_policy_set(const gm_policy* policy);

/* The table in force, as far as policy->size reaches (set it first); all NULL where everything is built in. size
 * becomes what was written. Errors: INVALID_ARGUMENT (NULL, a size below the first function's end). */
GM_API gm_status gm_policy_get(gm_policy* policy);

#ifdef __cplusplus
}
#endif
#endif
