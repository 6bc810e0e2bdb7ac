#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# module_test.py LAYOUT_PROGRAM [unittest's arguments] - the Python module on simulated devices. GMEM_LIBRARY names the
# library, PYTHONPATH the module. Exit status 77: there is no numpy.
import ctypes
import gc
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

try:
    import numpy as np
except ImportError:
    print("skipped: this Python has no numpy")
    sys.exit(77)

import gmem
from gmem import _library

MIB = 1 << 20
PAGE = 64 << 10
LAYOUT_PROGRAM = sys.argv.pop(1)


def setUpModule():
    gmem.init(backend="sim", sim_devices=2, sim_memory_bytes=64 * MIB, host_budget_bytes=256 * MIB)


def tearDownModule():
    gc.collect()
    left = gmem.stats()["allocations"]
    assert left == 0, f"{left} allocations are left"
    gmem.shutdown()


def other_python(program, **environment):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          env={**os.environ, **environment}, timeout=120)
    return done.returncode, done.stdout + done.stderr


class Declarations(unittest.TestCase):
    STRUCTS = {
        "gm_options": _library.Options,
        "gm_node_info": _library.NodeInfo,
        "gm_access": _library.Access,
        "gm_mapping": _library.Mapping,
        "gm_node_stats": _library.NodeStats,
        "gm_stats": _library.Stats,
    }

    def lines(self):
        return [line.split() for line in subprocess.check_output([LAYOUT_PROGRAM], text=True).splitlines()]

    def test_structs_are_the_header_s(self):
        seen = {name: [] for name in self.STRUCTS}
        for name, field, offset, size in (line for line in self.lines() if line[0] != "enum"):
            struct = self.STRUCTS[name]
            if field == "-":
                self.assertEqual(ctypes.sizeof(struct), int(size), name)
                continue
            here = getattr(struct, field)
            self.assertEqual((here.offset, here.size), (int(offset), int(size)), f"{name}.{field}")
            seen[name].append(field)
        for name, struct in self.STRUCTS.items():
            self.assertEqual([field for field, _ in struct._fields_], seen[name], name)

    def test_numbers_are_the_header_s(self):
        values = {line[1]: int(line[2]) for line in self.lines() if line[0] == "enum"}
        for name, value in values.items():
            if name == "GM_OK" or name.startswith("GM_ERROR_"):
                self.assertEqual(_library.STATUS[value], name.removeprefix("GM_").removeprefix("ERROR_"))
        for prefix, kind in (("GM_ADVISE_", gmem.Advice), ("GM_PAGE_", gmem.Page)):
            self.assertEqual({k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)},
                             {member.name: int(member) for member in kind})
        self.assertEqual([int(m) for m in gmem.Mode], [values[f"GM_{m.name}"] for m in gmem.Mode])
        self.assertEqual(_library.MAX_NODES, values["GM_MAX_NODES"])

    def test_functions_take_as_many_arguments_as_the_header_s(self):
        header = os.path.join(os.path.dirname(__file__), "../../include/gmem/gmem.h")
        with open(header, encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
        declared = dict(re.findall(r"^GM_API\s[^(;]*?\b(gm_\w+)\s*\(([^;]*)\);", text, flags=re.MULTILINE))
        here = {name: arguments for name, arguments in _library.STATUS_FUNCTIONS.items()}
        here.update({name: arguments for name, (_, arguments) in _library.OTHER_FUNCTIONS.items()})
        for name, arguments in here.items():
            in_c = declared[name].strip()
            self.assertEqual(len(arguments), 0 if in_c == "void" else in_c.count(",") + 1, name)


class Arrays(unittest.TestCase):
    def test_they_are_numpy_arrays_over_managed_memory(self):
        a = gmem.empty((3, 4), dtype="int32")
        self.assertIsInstance(a, np.ndarray)
        self.assertTrue(a.flags.c_contiguous and a.flags.writeable)
        a[...] = np.arange(12).reshape(3, 4)
        self.assertEqual(a.sum(), 66)
        self.assertIn(gmem.Page.CPU, gmem.query(a).flags)
        self.assertEqual(a.ctypes.data % 16, 0)

    def test_zeros_take_no_memory_until_written(self):
        before = gmem.stats()["node"][0]["frames_used"]
        a = gmem.zeros(16 * MIB, dtype="uint8")
        self.assertIn(gmem.Page.NOMAP, gmem.query(a).flags)
        self.assertEqual(gmem.stats()["node"][0]["frames_used"], before)
        self.assertEqual(int(a[5 * MIB]), 0)
        a[5 * MIB] = 1
        self.assertGreater(gmem.residency(a, gmem.HOST), 0)

    def test_shapes_orders_and_types(self):
        self.assertEqual(gmem.zeros(()).shape, ())
        self.assertEqual(gmem.zeros(7).dtype, np.float64)
        self.assertEqual(gmem.zeros((0, 5)).shape, (0, 5))
        f = gmem.array([[1, 2, 3], [4, 5, 6]], order="F")
        self.assertTrue(f.flags.f_contiguous)
        self.assertEqual(f.tolist(), [[1, 2, 3], [4, 5, 6]])
        self.assertEqual(gmem.array("abc").dtype, np.dtype("<U3"))
        pairs = gmem.zeros(3, dtype=[("key", "i4"), ("value", "f8")])
        pairs["value"][1] = 2.5
        self.assertEqual(pairs[1]["value"], 2.5)

    def test_what_is_computed_is_plain(self):
        a = gmem.array([1.0, 2.0])
        for result in (a + a, -a, np.concatenate([a, a]), a.copy(), np.sqrt(a)):
            self.assertIs(type(result), np.ndarray)
        b = a
        b += 1
        self.assertIs(b, a)
        self.assertIsInstance(b, gmem.ndarray)
        self.assertEqual(a.tolist(), [2.0, 3.0])
        out = gmem.zeros(2)
        self.assertIs(np.multiply(a, 2, out=out), out)
        self.assertEqual(out.tolist(), [4.0, 6.0])

    def test_views_keep_the_memory(self):
        a = gmem.array(np.arange(1000))
        tail = a[990:][::-1]
        del a
        gc.collect()
        self.assertIsInstance(tail, gmem.ndarray)
        self.assertEqual(tail.tolist(), list(range(999, 989, -1)))

    def test_memory_is_given_back(self):
        before = gmem.stats()["allocations"]
        a = gmem.zeros(MIB)
        self.assertEqual(gmem.stats()["allocations"], before + 1)
        del a
        gc.collect()
        self.assertEqual(gmem.stats()["allocations"], before)

    def test_files_and_sockets_use_it(self):
        a = gmem.empty(3 * PAGE, dtype="uint8")
        gmem.fill(a, 7, node=1)
        with tempfile.TemporaryFile() as file:
            file.write(memoryview(a))
            file.seek(0)
            gmem.fill(a, 0, node=1)
            self.assertEqual(file.readinto(memoryview(a)), 3 * PAGE)
        self.assertTrue((a == 7).all())

    def test_buffers(self):
        b = gmem.Buffer(100, zero=True)
        self.assertEqual((len(b), bytes(b.bytes)), (100, bytes(100)))
        memory = b.bytes
        memory[3:5] = b"ab"
        as_array = np.asarray(b)
        del b
        gc.collect()
        self.assertEqual(as_array[3:5].tobytes(), b"ab")
        self.assertEqual(bytes(memory[3:5]), b"ab")

    def test_bad_input(self):
        for make in (lambda: gmem.empty(-1), lambda: gmem.empty((2, -3)), lambda: gmem.Buffer(-1)):
            self.assertRaises(ValueError, make)
        self.assertRaises(TypeError, gmem.empty, 3, dtype=object)
        self.assertRaises(TypeError, gmem.array, [{}])
        with self.assertRaises(gmem.OutOfMemory) as failed:
            gmem.empty(1 << 60, dtype="uint8")
        self.assertEqual(failed.exception.status, "NO_MEMORY")
        self.assertIn("GM_ARENA_SIZE", str(failed.exception))
        self.assertIsInstance(failed.exception, MemoryError)


class Movement(unittest.TestCase):
    def test_prefetch_and_what_can_be_seen(self):
        a = gmem.array(np.arange(4 * MIB, dtype="uint8"))
        gmem.prefetch(a, 1)
        self.assertEqual(gmem.residency(a, 1), a.nbytes)
        self.assertEqual(set(gmem.query(a).valid_nodes), {0, 1})
        gmem.prefetch(a[:PAGE], gmem.HOST)
        a[0] = 1
        self.assertEqual(gmem.query(a).writer, gmem.HOST)
        self.assertEqual(gmem.query(a, offset=2 * MIB).page, a.ctypes.data + 2 * MIB)
        self.assertEqual(gmem.residency(a, 1), a.nbytes - PAGE)

    def test_devices_write_in_scopes_and_the_cpu_reads(self):
        a = gmem.zeros(MIB, dtype="uint8")
        b = gmem.array(np.full(MIB, 9, dtype="uint8"))
        with gmem.Stream(1) as s:
            with gmem.scope(read=b, read_write=[a], stream=s):
                self.assertIn(gmem.Page.LEASED, gmem.query(a).flags)
            gmem.copy(a, b, node=1, stream=s)
            s.synchronize()
            self.assertEqual(gmem.query(a).valid_nodes, (1,))
        self.assertEqual(int(a[12345]), 9)

    def test_a_scope_over_an_array_with_gaps_keeps_what_lies_between(self):
        a = gmem.array(np.arange(2 * PAGE, dtype="uint8"))
        with gmem.scope(write=a[::2]):
            pass
        self.assertEqual(a[1:9:2].tolist(), [1, 3, 5, 7])

    def test_a_scope_is_used_once_at_a_time(self):
        a = gmem.zeros(10)
        use = gmem.scope(read=a)
        with use:
            self.assertRaises(ValueError, use.__enter__)
        with use:
            pass
        with gmem.scope():
            pass

    def test_ordinary_memory_is_refused_in_words(self):
        plain = np.zeros(10)
        for call in (lambda: gmem.prefetch(plain, 1), lambda: gmem.query(plain), lambda: gmem.pin(plain, 0)):
            with self.assertRaises(gmem.Error) as failed:
                call()
            self.assertEqual(failed.exception.status, "NOT_MANAGED")
        self.assertRaises(TypeError, gmem.prefetch, [1, 2], 1)
        with self.assertRaises(gmem.Error) as failed:
            gmem.scope(read=plain).__enter__()
        self.assertEqual(failed.exception.status, "NOT_MANAGED")

    def test_own_open_scope(self):
        a = gmem.zeros(PAGE, dtype="uint8")
        with gmem.scope(write=a):
            with self.assertRaises(gmem.Error) as failed:
                gmem.fill(a, 1)
            self.assertEqual(failed.exception.status, "BUSY")

    def test_copies(self):
        a = gmem.empty(PAGE, dtype="uint8")
        gmem.copy(a, np.full(PAGE, 4, dtype="uint8"), node=2)
        back = np.empty(PAGE, dtype="uint8")
        gmem.copy(back, a, node=2)
        self.assertTrue((back == 4).all())
        self.assertRaises(ValueError, gmem.copy, a, back[:-1])
        self.assertRaises(ValueError, gmem.copy, a[::2], back[::2])
        self.assertRaises(ValueError, gmem.fill, a, 256)
        self.assertRaises(ValueError, gmem.fill, a[::2], 0)

    def test_discard_advise_and_pin(self):
        a = gmem.array(np.ones(4 * PAGE, dtype="uint8"))
        gmem.advise(a, gmem.Advice.SEQUENTIAL)
        gmem.advise(a, gmem.Advice.PREFERRED_NODE, node=1)
        self.assertRaises(ValueError, gmem.advise, a, 99)
        gmem.pin(a, 1)
        self.assertIn(gmem.Page.PINNED, gmem.query(a).flags)
        with self.assertRaises(gmem.Error) as failed:
            gmem.discard(a)
        self.assertEqual(failed.exception.status, "BUSY")
        gmem.unpin(a, 1)
        self.assertRaises(ValueError, gmem.discard, a[::2])
        gmem.discard(a)
        self.assertFalse(a.any())

    def test_streams(self):
        s = gmem.Stream(2)
        self.assertEqual(s.node, 2)
        s.close()
        s.close()
        self.assertRaises(ValueError, gmem.prefetch, gmem.zeros(1), 2, s)
        with self.assertRaises(gmem.Error) as failed:
            gmem.Stream(0)
        self.assertEqual(failed.exception.status, "INVALID_ARGUMENT")
        with self.assertRaises(gmem.Error) as failed:
            gmem.Stream.from_native(0)
        self.assertEqual(failed.exception.status, "UNSUPPORTED")

    def test_threads(self):
        a = gmem.zeros((4, MIB), dtype="uint8")
        wrong = []

        def go(row):
            for turn in range(20):
                gmem.fill(a[row], turn, node=1 + row % 2)
                if not (a[row] == turn).all():
                    wrong.append((row, turn))

        threads = [threading.Thread(target=go, args=(row,)) for row in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])


class Interfaces(unittest.TestCase):
    def test_nodes(self):
        host, first, second = gmem.nodes()
        self.assertEqual((host.backend, first.backend, second.backend), ("host", "sim", "sim"))
        self.assertEqual(first.total_bytes, 64 * MIB)
        with self.assertRaises(gmem.Error) as failed:
            gmem.node(3)
        self.assertEqual(failed.exception.status, "INVALID_ARGUMENT")

    def test_cuda_array_interface_is_for_cuda_and_hip_devices(self):
        a = gmem.zeros((4, 6), dtype="float32")
        self.assertFalse(hasattr(a, "__cuda_array_interface__"))
        self.assertFalse(hasattr(gmem.Buffer(10), "__cuda_array_interface__"))

    def test_device_interface(self):
        a = gmem.zeros((4, 6), dtype="float32")
        there = gmem._device_interface(a.ctypes.data, a.__array_interface__, 1)
        self.assertEqual(there["data"], (gmem.device_pointer(a, 1), False))
        self.assertEqual((there["shape"], there["typestr"], there["version"]), ((4, 6), "<f4", 3))
        self.assertIsNone(there["strides"])
        column = a[:, 2:3]
        there = gmem._device_interface(column.ctypes.data, column.__array_interface__, 1)
        self.assertEqual(there["strides"], (24, 4))
        self.assertEqual(there["data"][0], gmem.device_pointer(a, 1) + 8)
        plain = np.zeros(3)
        self.assertRaises(AttributeError, gmem._device_interface, plain.ctypes.data, plain.__array_interface__, 1)
        a.flags.writeable = False
        self.assertTrue(gmem._device_interface(a.ctypes.data, a.__array_interface__, 1)["data"][1])

    def test_counts(self):
        a = gmem.zeros(MIB, dtype="uint8")
        gmem.reset_stats()
        a[0] = 1
        gmem.prefetch(a[:1], 1)
        self.assertEqual(gmem.stats()["node"][1]["pages_in"], 1)
        self.assertEqual(gmem.stats()["node"][1]["bytes_in"], PAGE)
        self.assertEqual(len(gmem.stats()["node"]), 3)

    def test_options(self):
        self.assertRaises(TypeError, gmem.init, simulated=3)
        with self.assertRaises(gmem.Error) as failed:
            gmem.init()
        self.assertEqual(failed.exception.status, "INVALID_ARGUMENT")

    def test_a_runtime_that_cannot_start_says_why(self):
        for program in ("import gmem; gmem.Buffer(1)", "import gmem; gmem.node_count()"):
            status, words = other_python(program, GM_BACKEND="abacus")
            self.assertEqual(status, 1)
            self.assertIn("GM_ERROR_INVALID_ARGUMENT", words)
            self.assertIn("abacus", words)

    def test_no_library(self):
        status, words = other_python("import gmem", GMEM_LIBRARY="/nowhere/libgmem.so.0")
        self.assertEqual(status, 1)
        self.assertIn("GMEM_LIBRARY", words)

    def test_without_numpy_there_are_buffers(self):
        program = "import sys; sys.modules['numpy'] = None; import gmem; b = gmem.Buffer(8, zero=True); " \
                  "gmem.fill(b, 3, node=1); print(bytes(b.bytes), hasattr(gmem, 'empty'))"
        status, words = other_python(program, GM_BACKEND="sim", GM_SIM_MEMORY="64M")
        self.assertEqual((status, words.strip()), (0, f"{bytes([3] * 8)} False"))

    def test_touching_the_own_open_scope_is_a_signal_and_words(self):
        program = "import gmem; a = gmem.zeros(9)\nwith gmem.scope(write=a): a[0] = 1"
        status, words = other_python(program, GM_BACKEND="sim", GM_SIM_MEMORY="64M")
        self.assertEqual(status, -signal.SIGBUS)
        self.assertIn("scope", words)

    def test_a_forked_child_leaves_the_parent_its_memory(self):
        a = gmem.array([1, 2, 3])
        child = os.fork()
        if child == 0:
            del a
            gc.collect()
            os._exit(0)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(a.tolist(), [1, 2, 3])


if __name__ == "__main__":
    unittest.main(verbosity=2)
