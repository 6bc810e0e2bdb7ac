# SPDX-License-Identifier: Apache-2.0
"""gmem - unified virtual memory for GPUs, in user space.

Memory that the CPU and every device use through one pointer; the runtime moves pages to whoever touches them.

    import gmem
    x = gmem.zeros(1_000_000, dtype="float32")     # a numpy array in managed memory
    x[:] = 1                                       # plain memory to the CPU
    with gmem.scope(read_write=[x]):               # what device work is about to touch
        kernel(x)                                  # CuPy, Numba and others take x as it is (__cuda_array_interface__)
    print(x.sum())                                 # the CPU fetches what it reads

Needs libgmem.so.0 (GMEM_LIBRARY names one elsewhere) and, for arrays, numpy; Buffer does without. Words, units, threads
and errors are those of gmem/gmem.h: sizes are bytes, node 0 is the host and devices are 1 and up, failing calls raise
gmem.Error. Whatever takes memory takes a Buffer, or a numpy array that lies in one.
"""
import ctypes
import enum
import typing
import weakref

from . import _library
from ._library import LIBRARY as _gm
from ._library import Error, OutOfMemory, byref

try:
    import numpy
except ImportError:
    numpy = None

HOST = 0

__version__ = _gm.gm_version().decode()


class Mode(enum.IntEnum):
    READ = 1
    WRITE = 2
    READ_WRITE = 3


class Advice(enum.IntEnum):
    NORMAL = 0
    READ_MOSTLY = 1
    PREFERRED_NODE = 2
    ACCESSED_BY = 3
    SEQUENTIAL = 4
    RANDOM = 5
    WILLNEED = 6
    COLD = 7


class Page(enum.IntFlag):
    CPU = 0x10
    DEVICE = 0x20
    NOMAP = 0x40
    WILLNEED = 0x80
    PINNED = 0x100
    DIRTY = 0x200
    LEASED = 0x400


# ---- Life ------------------------------------------------------------------------------------------------------------


def init(**options):
    """Starts the runtime with the fields of gm_options by name, for instance init(backend="sim", sim_devices=2).
    Optional: the first call of anything does it, from the environment, which wins in any case."""
    given = _library.Options(size=ctypes.sizeof(_library.Options))
    known = {name for name, _ in _library.Options._fields_} - {"size"}
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"init() has no option {name!r}: there are {', '.join(sorted(known))}")
        setattr(given, name, value.encode() if isinstance(value, str) else value)
    _gm.gm_init(byref(given))


def shutdown():
    """Stops the runtime. BUSY while buffers, arrays over them, or streams live."""
    _gm.gm_shutdown()


# ---- Memory ----------------------------------------------------------------------------------------------------------


class Buffer:
    """Managed memory, given back when nothing refers to it any more; contents undefined unless zero is true.
    buffer.bytes, a memoryview, and numpy.asarray(buffer) are its bytes, without copying, and keep it alive."""

    def __init__(self, nbytes, zero=False):
        nbytes = int(nbytes)
        if nbytes < 0:
            raise ValueError(f"a buffer of {nbytes} bytes")
        pointer = _gm.gm_calloc(1, nbytes) if zero else _gm.gm_malloc(nbytes)
        if not pointer:
            words = _library.last_error()
            stats()  # raises where the runtime did not start at all
            raise OutOfMemory("NO_MEMORY", words)
        self.pointer = pointer
        self.nbytes = nbytes
        self._free = weakref.finalize(self, _gm.gm_free, pointer)
        self._free.atexit = False  # threads may still use it

    @property
    def bytes(self):
        memory = (ctypes.c_ubyte * self.nbytes).from_address(self.pointer)
        memory.owner = self
        return memoryview(memory).cast("B")

    @property
    def __array_interface__(self):
        return {"shape": (self.nbytes,), "typestr": "|u1", "data": (self.pointer, False), "version": 3}

    @property
    def __cuda_array_interface__(self):
        return _cuda_interface(self.pointer, self.__array_interface__)

    def __len__(self):
        return self.nbytes

    def __repr__(self):
        return f"<gmem.Buffer of {self.nbytes} bytes at {self.pointer:#x}>"


def _cuda_interface(pointer, interface):
    """What libraries for CUDA devices take an array by; AttributeError, as for any object without it, where there is no
    such device, or the memory is not managed."""
    if node_count() < 2 or node(1).backend not in ("cuda", "hip"):
        raise AttributeError("__cuda_array_interface__: there is no CUDA or HIP device")
    return _device_interface(pointer, interface, 1)


def _device_interface(pointer, interface, node_number):
    there = _gm.gm_device_pointer(pointer, node_number)
    if not there:
        raise AttributeError(f"__cuda_array_interface__: {_library.last_error()}")
    read_only = interface["data"][1]
    return {**interface, "data": (there, read_only), "version": 3, "stream": None}


if numpy is not None:
    try:
        from numpy.lib.array_utils import byte_bounds as _byte_bounds
    except ImportError:  # numpy 1
        _byte_bounds = numpy.byte_bounds

    class ndarray(numpy.ndarray):
        """A numpy array in managed memory, and any view of one. What is computed from it, and copy(), are plain arrays
        in ordinary memory. (What astype(), flatten() and a few more return is of this class and in ordinary memory
        nevertheless: it has no __cuda_array_interface__.)"""

        __array_priority__ = -1.0  # what functions make of several arrays is a plain one

        @property
        def __cuda_array_interface__(self):
            if self.dtype.hasobject:
                raise AttributeError("__cuda_array_interface__: an array of Python objects")
            return _cuda_interface(self.ctypes.data, self.__array_interface__)

        def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
            if out is not None:
                options["out"] = tuple(map(_plain, out))
            if "where" in options:
                options["where"] = _plain(options["where"])
            result = getattr(ufunc, method)(*map(_plain, inputs), **options)
            if out is None or result is NotImplemented:
                return result
            return out[0] if len(out) == 1 else out

        def copy(self, order="C"):
            return numpy.array(_plain(self), order=order)

    def _plain(x):
        return x.view(numpy.ndarray) if isinstance(x, ndarray) else x

    def _array(shape, dtype, order, zero):
        dtype = numpy.dtype(dtype)
        if dtype.hasobject:
            raise TypeError("managed memory holds no Python objects")
        shape = (shape,) if not hasattr(shape, "__len__") else tuple(shape)
        count = 1
        for length in shape:
            if int(length) < 0:
                raise ValueError(f"an array of shape {shape}")
            count *= int(length)
        buffer = Buffer(max(count * dtype.itemsize, 1), zero)
        flat = numpy.asarray(buffer)[: count * dtype.itemsize]
        return flat.view(dtype).reshape(shape, order=order).view(ndarray)

    def empty(shape, dtype=float, order="C"):
        """A numpy array in managed memory, contents undefined. order is "C" or "F", as numpy's."""
        return _array(shape, dtype, order, False)

    def zeros(shape, dtype=float, order="C"):
        """Reads as zero, and takes no memory until it is written."""
        return _array(shape, dtype, order, True)

    def array(values, dtype=None, order="C"):
        """A copy in managed memory."""
        values = numpy.asarray(values, dtype)
        result = empty(values.shape, values.dtype, order)
        result[...] = values
        return result


def _range_of(memory):
    """(pointer, bytes, whether it is all of these bytes) of what the caller handed in."""
    if isinstance(memory, Buffer):
        return memory.pointer, memory.nbytes, True
    if numpy is not None and isinstance(memory, numpy.ndarray):
        first, last = _byte_bounds(memory)
        return first, last - first, last - first == memory.nbytes
    raise TypeError(f"a {type(memory).__name__} is no managed memory: give a gmem.Buffer or a numpy array over one")


def device_pointer(memory, node):
    """The address (an int) by which kernels on that node use the first byte: gm_device_pointer."""
    there = _gm.gm_device_pointer(_range_of(memory)[0], node)
    if not there:
        raise Error("NOT_MANAGED", _library.last_error())
    return there


# ---- Streams and scopes ----------------------------------------------------------------------------------------------


class Stream:
    """A queue of work on a device. Stream(node) makes one; Stream.from_native(pointer) wraps a cudaStream_t or
    hipStream_t (CuPy: stream.ptr, PyTorch: stream.cuda_stream), which stays its owner's. Waits for its work when it is
    closed: by close(), at the end of a with statement, or when nothing refers to it any more."""

    def __init__(self, node=1):
        handle = ctypes.c_void_p()
        _gm.gm_stream_create(node, byref(handle))
        self._own(handle, node)

    @classmethod
    def from_native(cls, pointer, node=1):
        handle = ctypes.c_void_p()
        _gm.gm_stream_from_native(node, pointer, byref(handle))
        made = cls.__new__(cls)
        made._own(handle, node)
        return made

    def _own(self, handle, node):
        self.handle = handle
        self.node = node
        self._destroy = weakref.finalize(self, _destroy_stream, handle.value)

    def synchronize(self):
        """Waits for all work queued so far. Raises DEVICE, once, when some of it failed."""
        _gm.gm_stream_synchronize(self.handle)

    def close(self):
        """Waits for the work, and frees the handle. BUSY while a scope on it is open. Closing again does nothing."""
        if self._destroy.alive:
            _gm.gm_stream_destroy(self.handle)
            self._destroy.detach()
            self.handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _destroy_stream(handle):
    try:
        _gm.gm_stream_destroy(handle)
    except Error:
        pass  # a scope is open on it: it lives as long as the process


def _handle(stream):
    if stream is None:
        return None
    if stream.handle is None:
        raise ValueError("the stream is closed")
    return stream.handle


class scope:
    """with gmem.scope(read=[a], write=[b], read_write=[c], stream=s): what device work that is queued inside is about
    to touch. The arrays are there when it begins (behind s, where one is given), stay while the work lasts, and are
    released when the work queued on s by the end is done; without a stream, at the end, by when the work has to be
    done. The CPU must not touch them inside: that ends the program (SIGBUS, and words that say so).
    write: every byte is overwritten, old contents are not needed."""

    def __init__(self, read=(), write=(), read_write=(), stream=None):
        self._stream = stream
        self._keep = [*_each(read), *_each(write), *_each(read_write)]  # alive until the end
        wanted = []
        for memories, mode in ((read, Mode.READ), (write, Mode.WRITE), (read_write, Mode.READ_WRITE)):
            for memory in _each(memories):
                pointer, nbytes, is_all = _range_of(memory)
                if nbytes == 0:
                    continue
                wanted.append((pointer, nbytes, mode if is_all or mode != Mode.WRITE else Mode.READ_WRITE))
        self._wanted = wanted
        self._handle = None

    def __enter__(self):
        if self._handle is not None:
            raise ValueError("the scope has begun already")
        if self._wanted:
            accesses = (_library.Access * len(self._wanted))(*self._wanted)
            handle = ctypes.c_void_p()
            _gm.gm_access_begin(_handle(self._stream), accesses, len(self._wanted), byref(handle))
            self._handle = handle
        return self

    def __exit__(self, *_):
        handle, self._handle = self._handle, None
        if handle is not None:
            _gm.gm_access_end(handle)


def _each(memories):
    """Of one array, or several."""
    is_one = isinstance(memories, Buffer) or (numpy is not None and isinstance(memories, numpy.ndarray))
    return [memories] if is_one else list(memories)


# ---- Hints and movement ----------------------------------------------------------------------------------------------


def prefetch(memory, node, stream=None):
    """Brings a current copy to the node. With a stream, work queued behind it finds it there."""
    pointer, nbytes, _ = _range_of(memory)
    _gm.gm_prefetch(pointer, nbytes, node, _handle(stream))


def advise(memory, advice, node=HOST):
    """advice: a gmem.Advice. node matters to PREFERRED_NODE, ACCESSED_BY and WILLNEED."""
    pointer, nbytes, _ = _range_of(memory)
    _gm.gm_advise(pointer, nbytes, Advice(advice), node)


def discard(memory):
    """The contents are gone: whole pages of 64 KiB read as zero and take no memory. All of a contiguous array only."""
    pointer, nbytes, is_all = _range_of(memory)
    if not is_all:
        raise ValueError("the array has gaps, whose contents would be lost, too")
    _gm.gm_discard(pointer, nbytes)


def pin(memory, node):
    pointer, nbytes, _ = _range_of(memory)
    _gm.gm_pin(pointer, nbytes, node)


def unpin(memory, node):
    pointer, nbytes, _ = _range_of(memory)
    _gm.gm_unpin(pointer, nbytes, node)


def copy(destination, source, node=HOST, stream=None):
    """Bytes from source to destination, which has as many; done by that node. Both contiguous, one of them managed; the
    other one may be any numpy array, which must then live until the stream has done it."""
    to, to_bytes, to_is_all = _range_of(destination)
    start, from_bytes, from_is_all = _range_of(source)
    if to_bytes != from_bytes or not (to_is_all and from_is_all):
        raise ValueError(f"a copy of {from_bytes} bytes to {to_bytes}: both sides must be contiguous, and as long")
    _gm.gm_memcpy(to, start, to_bytes, node, _handle(stream))


def fill(memory, value, node=HOST, stream=None):
    """Every byte becomes value, 0 .. 255; done by that node."""
    pointer, nbytes, is_all = _range_of(memory)
    if not is_all:
        raise ValueError("the array has gaps, which would be filled, too")
    if not 0 <= value <= 255:
        raise ValueError(f"{value} is no byte")
    _gm.gm_memset(pointer, value, nbytes, node, _handle(stream))


# ---- Looking in ------------------------------------------------------------------------------------------------------


class Node(typing.NamedTuple):
    name: str
    backend: str
    total_bytes: int
    free_bytes: int
    budget_bytes: int
    has_window: bool
    same_address: bool
    has_access_map: bool


class Mapping(typing.NamedTuple):
    page: int  # address of its first byte
    flags: Page
    valid_nodes: tuple  # that hold a current copy
    writer: typing.Optional[int]  # the node that may write


def node_count():
    """1 and the number of devices. Raises where the runtime cannot start."""
    count = _gm.gm_node_count()
    if count == 0:
        stats()
    return count


def node(number):
    info = _library.NodeInfo()
    _gm.gm_node_info_get(number, byref(info))
    values = [getattr(info, name) for name in Node._fields]
    return Node(*(v.decode() if isinstance(v, bytes) else v for v in values[:5]), *map(bool, values[5:]))


def nodes():
    return [node(number) for number in range(node_count())]


def query(memory, offset=0):
    """The page of 64 KiB that holds the byte at the offset."""
    pointer, nbytes, _ = _range_of(memory)
    if not 0 <= offset < max(nbytes, 1):
        raise ValueError(f"byte {offset} of {nbytes}")
    found = _library.Mapping()
    _gm.gm_query(pointer + offset, byref(found))
    holders = tuple(n for n in range(32) if found.valid_nodes >> n & 1)
    return Mapping(found.page, Page(found.flags), holders, None if found.writer < 0 else found.writer)


def residency(memory, node):
    """How many bytes have a current copy on the node."""
    pointer, nbytes, _ = _range_of(memory)
    resident = ctypes.c_size_t()
    _gm.gm_residency(pointer, nbytes, node, byref(resident))
    return resident.value


def stats():
    """The fields of gm_stats by name; "node" is a list of the nodes' own."""
    got = _library.Stats(size=ctypes.sizeof(_library.Stats))
    _gm.gm_stats_get(byref(got))
    result = {name: getattr(got, name) for name, _ in got._fields_ if name not in ("size", "node")}
    of_node = [name for name, _ in _library.NodeStats._fields_]
    result["node"] = [{name: getattr(got.node[n], name) for name in of_node} for n in range(got.node_count)]
    return result


def reset_stats():
    _gm.gm_stats_reset()
