/* SPDX-License-Identifier: Apache-2.0
 *
 * gmem.h - unified virtual memory for GPUs, in user space: the C interface.
 *
 * gm_malloc hands out memory that the CPU and every device use through one pointer; the runtime moves pages to
 * whoever touches them. The CPU needs no calls at all: plain loads and stores fault pages in. Device work declares
 * what it is about to touch with a scope (gm_access_begin / gm_access_end).
 *
 * Words.    node: where bytes live, 0 is the host, 1 .. gm_node_count() - 1 are devices.
 *           page: 64 KiB, the unit of residency and of transfer.   block: 2 MiB, the unit of device memory.
 * Units.    Sizes are bytes unless a name says otherwise. Ranges may begin and end anywhere in an allocation.
 * Threads.  Every function may be called from any thread at any time, except gm_init and gm_shutdown, which must not
 *           run beside other calls.
 * Errors.   A failing call leaves managed memory exactly as it was, and a sentence in gm_last_error() that says what
 *           failed and what to do. The functions after gm_malloc's pattern return NULL instead of a status.
 *           After gm_shutdown every call fails with GM_ERROR_INVALID_ARGUMENT until gm_init is called again.
 * mlock.    Locks do not keep managed memory where it is: pages that mlock or mlockall has brought to the host move as
 *           others do (gm_pin keeps them). Call mlockall(MCL_CURRENT) before gmem starts if at all: afterwards it fills
 *           all of GM_ARENA_SIZE with memory. mlockall(MCL_FUTURE) needs a `ulimit -l` above GM_ARENA_SIZE when gmem
 *           starts (PERMISSION), though nothing of it is locked in the end.
 * Signals.  gmem has SIGBUS, and passes on what is not its own. A SIGBUS handler that the program installs later must
 * do the same, with the three arguments that it got. Touches that are errors end in SIGSEGV or SIGBUS (see
 *           gm_access_begin); in a thread that blocks the signal, they end the program.
 * dlclose   leaves the library in place, as it was.
 * fork.     A child has none of this memory: touching it is SIGSEGV, and every call fails with GM_ERROR_UNSUPPORTED.
 */
#ifndef GMEM_GMEM_H
#define GMEM_GMEM_H

#include <stddef.h>
#include <stdint.h>

#define GM_VERSION_MAJOR 0
#define GM_VERSION_MINOR 1
#define GM_VERSION_PATCH 0

#if defined(__GNUC__)
#define GM_API __attribute__((visibility("default")))
#else
#define GM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status --------------------------------------------------------------------------------------------------- */

typedef enum gm_status {
  GM_OK = 0,
  GM_ERROR_INVALID_ARGUMENT, /* null, zero, overflow, unknown node, mode or flag                           */
  GM_ERROR_NOT_MANAGED,      /* an address that gm_malloc did not hand out, or a range past its allocation */
  GM_ERROR_NO_MEMORY,        /* arena, host budget or device budget exhausted                              */
  GM_ERROR_UNSUPPORTED,      /* the node or the kernel lacks it                                            */
  GM_ERROR_BUSY,             /* would wait for ever (your own lease), or still in use                      */
  GM_ERROR_PERMISSION,       /* userfaultfd refused, locked-memory limit                                   */
  GM_ERROR_DEVICE,           /* the device API failed; its own words are in gm_last_error()                */
  GM_ERROR_SYSTEM            /* a system call failed                                                       */
} gm_status;

/* The status's name, for instance "GM_ERROR_BUSY". Never NULL; a value that is no status gives "unknown status". */
GM_API const char* gm_status_string(gm_status status);

/* What the last failing call of this thread said. "" before any failure. Valid until this thread's next failing call.
 */
GM_API const char* gm_last_error(void);

/* "MAJOR.MINOR.PATCH" of the library that is running (GM_VERSION_* are those of the header). */
GM_API const char* gm_version(void);

/* ---- Life ----------------------------------------------------------------------------------------------------- */

/* A sized struct: set size to sizeof(gm_options) and the rest to zero; zero means the default. Every field is also an
 * environment variable, and the environment wins. An unknown or out-of-range value fails gm_init and the message names
 * what is accepted. Sizes in variables take the suffixes K M G T (powers of 1024). */
typedef struct gm_options {
  size_t size;
  /* GM_BACKEND: "auto" (default: cuda, hip, else sim), or a comma list of "cuda", "hip", "sim". */
  const char* backend;
  /* GM_ARENA_SIZE: address space for all allocations, default 4 x RAM rounded up to a power of two. */
  uint64_t arena_size_bytes;
  /* GM_HOST_BUDGET: most bytes of host pages, default RAM less a tenth. */
  uint64_t host_budget_bytes;
  /* GM_DEVICE_BUDGET: most bytes of frames a device, default its memory less a tenth. */
  uint64_t device_budget_bytes;
  /* GM_FAULT_MODE: "thread" (default; system calls work on any page), or "inline" (lower latency; a system call on an
   * absent page fails with EFAULT). Inline, every fault is a SIGBUS that the thread serves itself: it must not block
   * SIGBUS (the first touch would end the program), a SIGBUS handler installed after gm_init must pass on what is not
   * its own (else it is called for ordinary touches), and an alternate signal stack needs 4 KiB beyond the system's
   * minimum, sysconf(_SC_MINSIGSTKSZ): 8 KiB do on most machines. */
  const char* fault_mode;
  /* GM_FAULT_THREADS: handler threads, 1 .. 64, default one a CPU and at most 8. */
  uint32_t fault_threads;
  /* GM_SIM_DEVICES: simulated devices, 1 .. 32, default 1. */
  uint32_t sim_devices;
  /* GM_SIM_MEMORY: memory of each, a multiple of 2 MiB, default 1G. */
  uint64_t sim_memory_bytes;
  /* GM_SIM_BANDWIDTH: of the modelled link, default unlimited. */
  uint64_t sim_bandwidth_bytes_per_second;
  /* GM_SIM_LATENCY: of one transfer, at most a second, default 0. */
  uint64_t sim_latency_ns;
  /* GM_SIM_WINDOW: 1 yes (default), -1 no; the variable takes 1 or 0. */
  int sim_window;
  /* GM_LOG: "error", "warn" (default), "info", "debug", to standard error. */
  const char* log;
  /* GM_REGISTERED_BUDGET: most bytes of host pages that are registered with a GPU's copy engines, which locks them in
   * memory and makes their copies some three times as fast: those of memory that keeps moving, in blocks of 2 MiB.
   * Default half of GM_HOST_BUDGET; below 2 MiB none are. */
  uint64_t registered_budget_bytes;
} gm_options;

/* Starts the runtime. Optional: the first call of any other function does it, from the environment alone.
 * options may be NULL. Errors: INVALID_ARGUMENT (a bad option; already started), PERMISSION (userfaultfd refused),
 * NO_MEMORY, DEVICE, SYSTEM. After a failure nothing runs and gm_init may be called again. */
GM_API gm_status gm_init(const gm_options* options);

/* Stops the runtime and gives everything back. BUSY while allocations, streams or scopes live: nothing changes then. */
GM_API gm_status gm_shutdown(void);

/* ---- Allocation ----------------------------------------------------------------------------------------------- */

/* malloc's contract: NULL when it cannot be done, contents undefined, a size of 0 gives a unique pointer. Alignment is
 * at least 16 bytes; from 2 MiB up, 2 MiB. Memory that nobody has touched takes no memory anywhere.
 * Up to 32 KiB (and an alignment of 4 KiB) it is an object, which shares pages with others; what is larger has pages of
 * its own. Residency, scopes, pins and advice are of pages: while a scope is open over an object, its neighbours are
 * covered with it, for the scope's own thread as well. Arrays that kernels use beside what their thread uses are better
 * larger than that, aligned to 64 KiB, or parts of one. Pins and advice outlive objects: end them before gm_free.
 * Objects need libgmem-jemalloc.so, which programs link (gmem::gmem and gmem.pc do) or preload; in a process that loads
 * libgmem.so later without it, each takes a page of 64 KiB. */
GM_API void* gm_malloc(size_t bytes);

/* calloc's contract: reads as zero. NULL also when count * bytes overflows. */
GM_API void* gm_calloc(size_t count, size_t bytes);

/* realloc's contract: NULL pointer: gm_malloc; size 0: gm_free and NULL; failure: NULL and the old memory stands.
 * NULL also while a scope is open over the old memory (GM_ERROR_BUSY). */
GM_API void* gm_realloc(void* pointer, size_t bytes);

/* alignment: a power of two, any size up to the arena's. */
GM_API void* gm_aligned_alloc(size_t alignment, size_t bytes);

/* free's contract. Waits for no one: memory that queued device work still uses is released by its fence. A pointer
 * that is not an allocation (freed already, foreign, inside one) prints a message and aborts; among the pages that
 * objects share this is not noticed, as with malloc. NULL is allowed; in a forked child nothing is done, since the
 * memory stayed with the parent. */
GM_API void gm_free(void* pointer);

/* Bytes that may be used at the pointer, at least what was asked for. 0 for NULL and for what is not an allocation
 * (undefined inside the pages that objects share). */
GM_API size_t gm_usable_size(const void* pointer);

/* ---- Nodes ---------------------------------------------------------------------------------------------------- */

enum { GM_HOST = 0 };
#define GM_MAX_NODES 33 /* the host and 32 devices */

typedef struct gm_node_info {
  char name[64];
  char backend[16];      /* "host", "sim", "cuda", "hip"                                                     */
  uint64_t total_bytes;  /* of the node's memory                                                             */
  uint64_t free_bytes;   /* of the budget, not in use by gmem now                                            */
  uint64_t budget_bytes; /* most that gmem uses                                                              */
  int has_window;        /* device address = host address + one constant                                     */
  int same_address;      /* ... and the constant is 0                                                        */
  int has_access_map;    /* kernels may use views                                                            */
} gm_node_info;

/* 1 + the number of devices; 0 when the runtime cannot start (see gm_last_error). */
GM_API int gm_node_count(void);

/* Errors: INVALID_ARGUMENT (info NULL, no such node). */
GM_API gm_status gm_node_info_get(int node, gm_node_info* info);

/* The address by which a kernel on that node uses the pointer. With a window it is always the same; what it points to
 * is there within a scope. Without a window: NULL outside a scope over that memory, and good until that scope's end.
 * GM_HOST: the pointer itself. NULL for unmanaged memory and unknown nodes. */
GM_API void* gm_device_pointer(const void* pointer, int node);

/* ---- Streams -------------------------------------------------------------------------------------------------- */

/* A queue of device work, done in order. Where a function takes a NULL stream, its work is done when it returns. */
typedef struct gm_stream_s* gm_stream;

/* Errors: INVALID_ARGUMENT (NULL, node is no device), NO_MEMORY, DEVICE. */
GM_API gm_status gm_stream_create(int node, gm_stream* stream);

/* Wraps a cudaStream_t or hipStream_t; the native stream stays the program's. UNSUPPORTED where the node has none. */
GM_API gm_status gm_stream_from_native(int node, void* native, gm_stream* stream);

/* What a launch in the device's own API needs: kernel<<<grid, block, 0, (cudaStream_t)native.stream>>>(...). */
typedef struct gm_native_stream {
  char backend[16]; /* "cuda": stream is a cudaStream_t; "hip": a hipStream_t                                */
  void* stream;     /* belongs to the gm_stream                                                              */
  int device;       /* the number of its device in that API, which must be current for a launch              */
  int has_failed;   /* 1: work queued before has failed. Launch nothing: gm_stream_synchronize says what     */
} gm_native_stream;

/* The stream as its device's API knows it. What is queued there takes its place in the stream's order: behind the
 * copies of a scope that has begun, and ahead of the release of one that ends later. Good until the stream is
 * destroyed. UNSUPPORTED where kernels are host code (the simulated device: gm_stream_launch). */
GM_API gm_status gm_stream_native(gm_stream stream, gm_native_stream* native);

/* Waits until all work queued so far is done. DEVICE when any of it failed: reported once, and work that was queued
 * behind the failure was not run. Until then scopes and copies on the stream are refused with DEVICE; and while scopes
 * are open on it the stream stays failed, since what they were to bring may be missing. */
GM_API gm_status gm_stream_synchronize(gm_stream stream);

/* Waits for the stream's work, then frees the handle. BUSY while a scope on it is open. NULL is allowed. */
GM_API gm_status gm_stream_destroy(gm_stream stream);

/* Calls function(argument) on a host thread, in stream order. It may touch managed memory that no scope of a stream it
 * would have to wait for covers, and must neither begin a scope nor synchronize or destroy the stream, which waits for
 * its return. It is not called when the stream has failed by then, which gm_stream_synchronize reports.
 * A stream holds about a thousand units of work, and whoever queues more waits for room: a function that waits for that
 * thread must not have so much behind it. */
GM_API gm_status gm_stream_call(gm_stream stream, void (*function)(void*), void* argument);

/* Runs body(argument, first, last) over disjoint pieces of [0, count) in parallel, in stream order, on a device whose
 * kernels are host code (the simulated device), then finish(argument) once, also when the kernel was skipped because
 * the stream had failed. finish may be NULL. UNSUPPORTED on other devices: gm::parallel_for picks the right way. */
GM_API gm_status gm_stream_launch(gm_stream stream, size_t count, void (*body)(void*, size_t first, size_t last),
                                  void (*finish)(void*), void* argument);

/* The node whose work the stream queues; GM_HOST for NULL. */
GM_API int gm_stream_node(gm_stream stream);

/* ---- Scopes: what queued work is about to touch --------------------------------------------------------------- */

typedef enum gm_mode {
  GM_READ = 1,
  GM_WRITE = 2, /* every byte is overwritten, old contents not needed; bytes of the same pages outside the range are
                   kept, and all are where the stream has failed before the scope's work */
  GM_READ_WRITE = 3,
  GM_ON_DEMAND = 4 /* with GM_READ or GM_READ_WRITE: kernels fetch what they touch, through views (gm_view_get) */
} gm_mode;

typedef struct gm_access {
  void* ptr;
  size_t bytes;
  gm_mode mode;
} gm_access;

typedef struct gm_scope_s* gm_scope;

/* On demand. A range with GM_ON_DEMAND is not brought anywhere by its scope: kernels of the scope reach it through a
 * view, which fetches the pages that they touch, while they run. It may be larger than the device's budget, and its
 * pages may leave the device again, so it may be used by the CPU and by kernels of other such scopes at the same time.
 * A scope that declares the memory without GM_ON_DEMAND waits until the on-demand scopes over it are done, the host
 * with it; open ones of its own thread make it BUSY. The same goes for prefetch, pin, discard, gm_memcpy and gm_memset.
 * gm_free of the memory is carried out when the scope is released. stream NULL: gm_access_end says what a kernel,
 * launched elsewhere, could not get. A kernel that cannot get a page (all of the device's frames are held by kernels or
 * scopes; a copy failed) gets no more pages in this scope; the stream then fails with the reason, contents stand, and
 * another scope may be tried. On a device without access maps the range is declared as if without GM_ON_DEMAND. A
 * device has at most 64 scopes with on-demand ranges at a time (further ones: NO_MEMORY). */

/* Makes the ranges resident on the stream's node, queues the copies, makes the stream wait for them, and keeps the
 * pages where they are until the work queued before gm_access_end is done. All ranges or none.
 * Scopes conflict where they share a page and one of them writes. Behind a conflicting scope that has ended the stream
 * waits and the host does not; behind one open in another thread the call waits for its end; behind one open in this
 * thread it fails with BUSY. (The host does wait where there is no other way: for room on the device or in the stream's
 * queue, and for pages that a device cannot get from where they are without going through the host.) CPU accesses that
 * conflict with a scope wait for its end; the thread that has the scope open would wait for ever and gets SIGBUS and a
 * message instead, and so do a kernel or a call of the scope's own stream, and the last of several threads that would
 * wait for each other's open scopes in a circle (a begin that would close it is BUSY). stream NULL: the first device,
 * and everything is resident when the call returns. Errors: INVALID_ARGUMENT (NULL, count 0, a range of 0 bytes, an
 * unknown mode), NOT_MANAGED, NO_MEMORY (more than the device's budget: nothing was moved), BUSY, DEVICE. */
GM_API gm_status gm_access_begin(gm_stream stream, const gm_access* accesses, size_t count, gm_scope* scope);

/* Ends the declaration; its pages are released when the work queued on the stream so far is done. The handle is gone
 * whatever is returned. DEVICE when a copy that the scope needed has failed: its kernels were not run. */
GM_API gm_status gm_access_end(gm_scope scope);

/* What a view of the range is made of (gmem/access_map.h; gm::view does this): good for kernels of the scope. The range
 * lies in one of the scope's. Errors: INVALID_ARGUMENT (NULL, 0 bytes), NOT_MANAGED (not memory that the scope has,
 * among it memory that was freed). */
struct gm_view_data;
GM_API gm_status gm_view_get(gm_scope scope, const void* pointer, size_t bytes, struct gm_view_data* view);

/* ---- Hints and movement --------------------------------------------------------------------------------------- */

/* Brings a current copy of the range to the node; other nodes keep theirs until somebody writes. With a stream, work
 * queued behind it finds the pages there; the stream is of that node, or for GM_HOST of any. Evicts others' idle pages
 * where it must.
 * Errors: INVALID_ARGUMENT, NOT_MANAGED, NO_MEMORY (to a device: nothing moved; to the host: only a part has), BUSY
 * (this thread has a scope open that writes the range; pinned to the host), DEVICE. */
GM_API gm_status gm_prefetch(const void* pointer, size_t bytes, int node, gm_stream stream);

typedef enum gm_advice {
  GM_ADVISE_NORMAL,         /* forget all advice for the range                                                        */
  GM_ADVISE_READ_MOSTLY,    /* a prefetch leaves the other nodes' mappings readable; such copies are evicted first    */
  GM_ADVISE_PREFERRED_NODE, /* the range's place is that node: there it is evicted last, elsewhere first              */
  GM_ADVISE_ACCESSED_BY,    /* host: prefetches leave it mapped, faults map whole blocks (a write to a page that a
                               device has too takes that page from it, not its neighbours). device: frames are set up
                               for the range as far as free ones go                                                   */
  GM_ADVISE_SEQUENTIAL,     /* faults take whole blocks at once; pages behind are evicted first                       */
  GM_ADVISE_RANDOM,         /* faults take one page at a time                                                         */
  GM_ADVISE_WILLNEED,       /* start bringing the range to the node, as far as there is room without evicting         */
  GM_ADVISE_COLD            /* evict it from devices first                                                            */
} gm_advice;

/* Advice stays with whole pages of the range until replaced, NORMAL or gm_free. node matters to PREFERRED_NODE,
 * ACCESSED_BY and WILLNEED only. Errors: INVALID_ARGUMENT, NOT_MANAGED, NO_MEMORY. */
GM_API gm_status gm_advise(const void* pointer, size_t bytes, gm_advice advice, int node);

/* Contents gone: whole pages inside the range read as zero and take no memory; the rest of the range is unchanged.
 * Waits for scopes as a writer does. Errors: INVALID_ARGUMENT, NOT_MANAGED, BUSY (own open scope, or pinned). */
GM_API gm_status gm_discard(void* pointer, size_t bytes);

/* GM_HOST: the pages come to the host, mapped writable, and stay so: scopes and prefetches that want them elsewhere
 * fail with BUSY until gm_unpin (for transfers the runtime cannot see: O_DIRECT, RDMA). A device: the pages come there
 * and their frames are never evicted; the CPU and other devices still use them by turns.
 * Pins do not nest. Errors: as gm_prefetch; BUSY when pinned to the host and a device is asked for or the reverse. */
GM_API gm_status gm_pin(const void* pointer, size_t bytes, int node);
GM_API gm_status gm_unpin(const void* pointer, size_t bytes, int node);

/* memcpy and memset done by that node, in stream order. Either side of a copy may be ordinary host memory, which must
 * then stay as it is until the work is done. The ranges must not overlap. A call that fails leaves the destination as
 * it was, and so does work that is queued and then does not run, since its stream has failed. stream may be NULL, or of
 * that node, or for GM_HOST of any. Errors: INVALID_ARGUMENT, NOT_MANAGED (a range that leaves its
 * allocation; both sides ordinary), NO_MEMORY, BUSY, DEVICE. */
GM_API gm_status gm_memcpy(void* destination, const void* source, size_t bytes, int node, gm_stream stream);
GM_API gm_status gm_memset(void* destination, int value, size_t bytes, int node, gm_stream stream);

/* ---- Looking in ----------------------------------------------------------------------------------------------- */

#define GM_PAGE_CPU 0x10u      /* the host holds a current copy                                                */
#define GM_PAGE_DEVICE 0x20u   /* a device holds a current copy                                                */
#define GM_PAGE_NOMAP 0x40u    /* nobody holds one: reads as zero                                              */
#define GM_PAGE_WILLNEED 0x80u /* advised, and not there yet                                                   */
#define GM_PAGE_PINNED 0x100u
#define GM_PAGE_DIRTY 0x200u  /* a device wrote it since the host last held it                                */
#define GM_PAGE_LEASED 0x400u /* a scope covers it                                                            */

typedef struct gm_mapping { /* one page of the logical page table                                              */
  void* page;               /* its first byte                                                                  */
  uint32_t flags;
  uint32_t valid_nodes; /* bit n: node n holds a current copy (node 32 has no bit; see GM_PAGE_DEVICE)      */
  int writer;           /* the node that may write, or -1                                                  */
} gm_mapping;

/* Errors: INVALID_ARGUMENT, NOT_MANAGED. */
GM_API gm_status gm_query(const void* pointer, gm_mapping* mapping);

/* How many bytes of the range have a current copy on the node. */
GM_API gm_status gm_residency(const void* pointer, size_t bytes, int node, size_t* resident_bytes);

typedef struct gm_node_stats {
  uint64_t faults;    /* by this node's processors                                                     */
  uint64_t pages_in;  /* copied to this node, to have them there: what gm_memcpy itself copies is not  */
  uint64_t pages_out; /* copied from this node                                                         */
  uint64_t bytes_in, bytes_out;
  uint64_t evictions;                /* blocks that lost their frame here                                             */
  uint64_t writebacks;               /* pages copied home by evictions                                                */
  uint64_t writebacks_skipped;       /* pages that evictions dropped because they were clean                         */
  uint64_t frames_used, frames_free; /* 2 MiB each; of the host: 64 KiB pages that take host memory, and those left */
} gm_node_stats;

typedef struct gm_stats { /* sized struct: set size first                                                      */
  size_t size;
  uint64_t node_count;
  uint64_t spurious_faults; /* the page was there already when the fault was served                            */
  uint64_t parked_faults;   /* waited for a copy or for a scope                                                */
  uint64_t fault_time_ns;   /* spent by handlers in serving faults                                             */
  uint64_t metadata_bytes;  /* what the runtime keeps to know all this, now                                    */
  uint64_t allocations;     /* live now                                                                        */
  uint64_t allocated_bytes; /* address space of those                                                          */
  gm_node_stats node[GM_MAX_NODES];
  uint64_t registered_bytes; /* of host pages, with the copy engines of GPUs, now (GM_REGISTERED_BUDGET)             */
} gm_stats;

/* Counters since start or gm_stats_reset; those that say "now", frames_used and frames_free are not reset.
 * size tells how much of the struct the caller knows. Errors: INVALID_ARGUMENT (NULL, size below 16). */
GM_API gm_status gm_stats_get(gm_stats* stats);
GM_API gm_status gm_stats_reset(void);

#ifdef __cplusplus
}
#endif
#endif
