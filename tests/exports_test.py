#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# exports_test.py BIN_DIR - libgmem.so exports what the C headers mark GM_API, neither more nor less, and a backend its
# entry only; they need no libraries but those named here, and dlclose leaves them in place.
import glob
import os
import re
import subprocess
import sys

import source_tree

LANGUAGE_RUNTIME = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libstdc++.so.6", "libgcc_s.so.1"}
LOADER = re.compile(r"^ld-linux.*\.so\.\d+$")
BACKEND_MAY_NEED = {"sim": re.compile(r"libtbb\.so\.12"), "hip": re.compile(r"libamdhip64\.so\.\d+")}
NOTHING = re.compile(r"(?!)")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def exported(path):
    return {line.split()[0].split("@")[0] for line in output("nm", "-DP", "--defined-only", path).splitlines()}


def needed(path):
    libraries = re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "-dW", path))
    return {library for library in libraries if not LOADER.match(library)}


def stays(path):
    return re.search(r"\(FLAGS_1\).*\bNODELETE\b", output("readelf", "-dW", path)) is not None


def declared():
    functions = set()
    for header in glob.glob(os.path.join(source_tree.ROOT, "include/gmem/*.h")):
        with open(header, encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
        functions.update(re.findall(r"^GM_API\s[^(;]*?\b(gm_\w+)\s*\(", text, flags=re.MULTILINE))
    return functions


def check(path, may_export, may_need):
    name = os.path.basename(path)
    yield from (f"{name}: exports {symbol}" for symbol in sorted(exported(path) - may_export))
    yield from (f"{name}: lacks {symbol}" for symbol in sorted(may_export - exported(path)))
    if not stays(path):
        yield f"{name}: dlclose would unmap it under its threads and its signal handler (-z nodelete)"
    wanted = sorted(needed(path) - LANGUAGE_RUNTIME)
    yield from (f"{name}: needs {library}" for library in wanted if not may_need.fullmatch(library))


def main(bin_dir):
    wrong = list(check(os.path.join(bin_dir, "libgmem.so"), declared(), NOTHING))
    for path in glob.glob(os.path.join(bin_dir, "libgmem-*.so")):
        backend = os.path.basename(path)[len("libgmem-") : -len(".so")]
        entry = "gm_object_engine" if backend == "jemalloc" else "gm_backend_entry"
        wrong += check(path, {entry}, BACKEND_MAY_NEED.get(backend, NOTHING))
    print("\n".join(wrong) if wrong else "exports are as declared")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
