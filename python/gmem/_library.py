# SPDX-License-Identifier: Apache-2.0
"""libgmem's C interface (gmem/gmem.h), by ctypes: where the library is, its structs, its functions, its errors."""
import ctypes
import glob
import os

from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p

SONAME = "libgmem.so.0"
MAX_NODES = 33

STATUS = ("OK", "INVALID_ARGUMENT", "NOT_MANAGED", "NO_MEMORY", "UNSUPPORTED", "BUSY", "PERMISSION", "DEVICE", "SYSTEM")


class Error(RuntimeError):
    """A call that failed. `status` is the name of its gm_status without GM_ERROR_, for instance "BUSY"; the words are
    gm_last_error's, and say what to do. Managed memory is as it was."""

    def __init__(self, status, words):
        super().__init__(f"GM_ERROR_{status}: {words}")
        self.status = status


class OutOfMemory(Error, MemoryError):
    """Arena, host budget or device budget are exhausted (GM_ERROR_NO_MEMORY)."""


class Options(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("backend", c_char_p),
        ("arena_size_bytes", c_uint64),
        ("host_budget_bytes", c_uint64),
        ("device_budget_bytes", c_uint64),
        ("fault_mode", c_char_p),
        ("fault_threads", c_uint32),
        ("sim_devices", c_uint32),
        ("sim_memory_bytes", c_uint64),
        ("sim_bandwidth_bytes_per_second", c_uint64),
        ("sim_latency_ns", c_uint64),
        ("sim_window", c_int),
        ("log", c_char_p),
        ("registered_budget_bytes", c_uint64),
    ]


class NodeInfo(ctypes.Structure):
    _fields_ = [
        ("name", c_char * 64),
        ("backend", c_char * 16),
        ("total_bytes", c_uint64),
        ("free_bytes", c_uint64),
        ("budget_bytes", c_uint64),
        ("has_window", c_int),
        ("same_address", c_int),
        ("has_access_map", c_int),
    ]


class Access(ctypes.Structure):
    _fields_ = [("ptr", c_void_p), ("bytes", c_size_t), ("mode", c_int)]


class Mapping(ctypes.Structure):
    _fields_ = [("page", c_void_p), ("flags", c_uint32), ("valid_nodes", c_uint32), ("writer", c_int)]


class NodeStats(ctypes.Structure):
    _fields_ = [
        (name, c_uint64)
        for name in (
            "faults pages_in pages_out bytes_in bytes_out "
            "evictions writebacks writebacks_skipped frames_used frames_free"
        ).split()
    ]


class Stats(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("node_count", c_uint64),
        ("spurious_faults", c_uint64),
        ("parked_faults", c_uint64),
        ("fault_time_ns", c_uint64),
        ("metadata_bytes", c_uint64),
        ("allocations", c_uint64),
        ("allocated_bytes", c_uint64),
        ("node", NodeStats * MAX_NODES),
        ("registered_bytes", c_uint64),
    ]


# Functions that return a gm_status: what they take.
_STREAM = _SCOPE = c_void_p
STATUS_FUNCTIONS = {
    "gm_init": [POINTER(Options)],
    "gm_shutdown": [],
    "gm_node_info_get": [c_int, POINTER(NodeInfo)],
    "gm_stream_create": [c_int, POINTER(_STREAM)],
    "gm_stream_from_native": [c_int, c_void_p, POINTER(_STREAM)],
    "gm_stream_synchronize": [_STREAM],
    "gm_stream_destroy": [_STREAM],
    "gm_access_begin": [_STREAM, POINTER(Access), c_size_t, POINTER(_SCOPE)],
    "gm_access_end": [_SCOPE],
    "gm_prefetch": [c_void_p, c_size_t, c_int, _STREAM],
    "gm_advise": [c_void_p, c_size_t, c_int, c_int],
    "gm_discard": [c_void_p, c_size_t],
    "gm_pin": [c_void_p, c_size_t, c_int],
    "gm_unpin": [c_void_p, c_size_t, c_int],
    "gm_memcpy": [c_void_p, c_void_p, c_size_t, c_int, _STREAM],
    "gm_memset": [c_void_p, c_int, c_size_t, c_int, _STREAM],
    "gm_query": [c_void_p, POINTER(Mapping)],
    "gm_residency": [c_void_p, c_size_t, c_int, POINTER(c_size_t)],
    "gm_stats_get": [POINTER(Stats)],
    "gm_stats_reset": [],
}
# The others: what they return, and what they take.
OTHER_FUNCTIONS = {
    "gm_last_error": (c_char_p, []),
    "gm_version": (c_char_p, []),
    "gm_malloc": (c_void_p, [c_size_t]),
    "gm_calloc": (c_void_p, [c_size_t, c_size_t]),
    "gm_free": (None, [c_void_p]),
    "gm_usable_size": (c_size_t, [c_void_p]),
    "gm_node_count": (c_int, []),
    "gm_device_pointer": (c_void_p, [c_void_p, c_int]),
}


def _candidates():
    """Where the library may be, the likeliest first: a variable's word, an installation that this module is part of,
    the system's own search."""
    given = os.environ.get("GMEM_LIBRARY")
    if given:
        return [given]
    found = []
    folder = os.path.dirname(os.path.abspath(__file__))
    for _ in range(4):  # gmem, dist-packages, python3, lib
        folder = os.path.dirname(folder)
        found += glob.glob(os.path.join(folder, SONAME)) + glob.glob(os.path.join(folder, "*-linux-gnu", SONAME))
    return found + [SONAME]


def _load():
    failures = []
    for path in _candidates():
        try:
            return ctypes.CDLL(path)
        except OSError as failure:
            failures.append(str(failure))
    raise ImportError(
        f"{SONAME} was not found: install gmem, or set GMEM_LIBRARY to the library's path. Tried: {'; '.join(failures)}"
    )


def last_error():
    return LIBRARY.gm_last_error().decode(errors="replace")


def raise_error(status):
    name = STATUS[status] if 0 <= status < len(STATUS) else str(status)
    raise (OutOfMemory if name == "NO_MEMORY" else Error)(name, last_error())


def _check(status, _function, _arguments):
    if status != 0:
        raise_error(status)
    return None


LIBRARY = _load()
for _name, _arguments in STATUS_FUNCTIONS.items():
    _function = getattr(LIBRARY, _name)
    _function.argtypes, _function.restype, _function.errcheck = _arguments, c_int, _check
for _name, (_result, _arguments) in OTHER_FUNCTIONS.items():
    _function = getattr(LIBRARY, _name)
    _function.argtypes, _function.restype = _arguments, _result
