#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# layers_test.py - includes go downwards only, and vendor headers stay in their places.
#
# A file of a layer may include its own layer and lower ones, written "layer/file.h". The public headers include only
# each other and the standard library. A backend sees base and device, nothing else of the runtime, and of the other
# folders of device those that backends share. One public header launches kernels, and sees the compiler's own headers.
import os
import re
import sys
import tempfile

import source_tree

LAYERS = ["base", "platform", "device", "frame", "vm", "policy", "migrate", "evict", "fault", "api", "malloc"]
BACKEND_SEES = {"base", "device"}
SHARED_BY_BACKENDS = {"parts": set(), "gpu": {"parts"}}  # a folder, and what else of device it sees
VENDOR = re.compile(r"^(cuda|cu[A-Z_]|cub/|cublas|curand|cooperative_groups|thrust/|nvml|nvrtc|nvtx|hip([/_.]|blas)|"
                    r"hsa/|roc)")
VENDOR_PLACES = ("runtime/device/", "kernels/", "include/gmem/device_launch.hpp", "include/gmem/device_word.hpp",
                 "bench/gpu/vendor_runtime.hpp",
                 "samples/thrust_statistics.cpp", "samples/matrix_product/blas.h")  # samples of a vendor's libraries
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
STANDARD_WITH_DOT = re.compile(r"^(std|assert|ctype|errno|float|inttypes|limits|math|signal|string|time)\w*\.h$")


def places(name):
    """(layer, backend) of a file under runtime/; None where it has none."""
    parts = name.split("/")
    if parts[0] != "runtime" or len(parts) < 3:
        return None, None
    backend = parts[2] if parts[1] == "device" and len(parts) > 3 else None
    return parts[1], backend


def why_wrong_in_runtime(layer, backend, quoted, target):
    first = target.split("/")[0]
    if not quoted:
        return 'the runtime\'s own headers are included with ""' if first in LAYERS and "/" in target else None
    if first == "gmem":
        return None
    if "/" not in target or first not in LAYERS or ".." in target.split("/"):
        return 'write it as "layer/file.h"'
    if LAYERS.index(first) > LAYERS.index(layer):
        return f"{first} is above {layer}"
    if backend and first not in BACKEND_SEES:
        return f"a backend sees only {' and '.join(sorted(BACKEND_SEES))}"
    inner = target.split("/")[1:-1]
    if first == "device" and inner and backend != inner[0]:
        if not backend or inner[0] not in SHARED_BY_BACKENDS:
            return f"only the backend {inner[0]} itself may look into it"
        if backend in SHARED_BY_BACKENDS and inner[0] not in SHARED_BY_BACKENDS[backend]:
            return f"{inner[0]} is above {backend}"
    return None


def why_wrong_in_public(quoted, target):
    if target.startswith("gmem/"):
        return None
    if quoted:
        return 'a public header includes "gmem/..." and the standard library only'
    if "/" not in target and ("." not in target or STANDARD_WITH_DOT.match(target)):
        return None
    return "not the standard library"


def violations(root):
    found = []
    for name in source_tree.cpp_files(root):
        layer, backend = places(name)
        if layer and layer not in LAYERS:
            found.append(f"{name}: no layer is called {layer}")
            continue
        for number, line in enumerate(source_tree.lines(root, name), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            quoted, target = match[1] == '"', match[2]
            why = None
            if VENDOR.match(target) and not name.startswith(VENDOR_PLACES):
                why = "vendor headers belong under " + " and ".join(VENDOR_PLACES)
            elif layer:
                why = why_wrong_in_runtime(layer, backend, quoted, target)
            elif name.startswith("include/") and not VENDOR.match(target):
                why = why_wrong_in_public(quoted, target)
            if why:
                found.append(f"{name}:{number}: {target}: {why}")
    return found


# The test's own test: every wrong line must be found, and no right one.
GOOD = {
    "runtime/vm/table.h": '#include <atomic>\n#include <sys/mman.h>\n#include "base/status.h"\n#include "vm/page.h"\n',
    "runtime/device/loader.cpp": '#include "device/backend.h"\n#include "gmem/gmem.h"\n#include <dlfcn.h>\n',
    "runtime/device/sim/queue.cpp": '#include "device/sim/queue.h"\n#include "base/check.h"\n#include <tbb/task.h>\n',
    "runtime/device/cuda/entry.cpp": '#include <cuda.h>\n#include "device/gpu/stream.h"\n',
    "runtime/device/gpu/stream.cpp": '#include "device/parts/clock.h"\n#include "device/gpu/stream.h"\n',
    "runtime/malloc/slab.cpp": '#include "api/options.h"\n',
    "kernels/fill.cu": "#include <cuda_runtime.h>\n",
    "include/gmem/device_launch.hpp": "#include <hip/hip_runtime.h>\n#include <type_traits>\n",
    "include/gmem/gmem.hpp": '#include <span>\n#include <stddef.h>\n#include "gmem/gmem.h"\n',
    "tests/unit/vm/table_test.cpp": '#include "fault/serve.h"\n#include <gtest/gtest.h>\n',
}
BAD = {
    "runtime/base/status.cpp": '#include "vm/table.h"\n',
    "runtime/frame/pool.cpp": '#include "status.h"\n',
    "runtime/frame/pool2.cpp": '#include "../base/status.h"\n',
    "runtime/frame/pool3.cpp": '#include "base/../vm/table.h"\n',
    "runtime/frame/pool4.cpp": "#include <vm/table.h>\n",
    "runtime/policy/order.cpp": '  #  include "migrate/plan.h"\n',
    "runtime/evict/victim.cpp": "#include <cuda_runtime.h>\n",
    "runtime/fault/serve.cpp": '#include "device/sim/queue.h"\n',
    "runtime/device/sim/stream.cpp": '#include "platform/arena.h"\n',
    "runtime/device/sim/stream2.cpp": '#include "device/cuda/entry.h"\n',
    "runtime/device/gpu/stream3.cpp": '#include "device/cuda/vendor.h"\n',
    "runtime/device/parts/clock.h": '#include "device/gpu/stream.h"\n',
    "runtime/device/loader.cpp": '#include "device/parts/clock.h"\n',
    "runtime/misc/thing.cpp": "\n",
    "samples/saxpy.cpp": "#include <hip/hip_runtime.h>\n",
    "samples/heat/main.cpp": "#include <cublas_v2.h>\n",
    "include/gmem/view.hpp": '#include "base/units.h"\n',
    "include/gmem/gmem.hpp": "#include <sys/mman.h>\n",
    "include/gmem/parallel.hpp": "#include <tbb/parallel_for.h>\n",
    "include/gmem/scope.hpp": "#include <hip/hip_runtime.h>\n",
}


def found_in(planted):
    with tempfile.TemporaryDirectory() as root:
        for name, text in planted.items():
            os.makedirs(os.path.join(root, os.path.dirname(name)), exist_ok=True)
            with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                file.write(text)
        return violations(root)


def self_test():
    missed = set(BAD) - {line.split(":")[0] for line in found_in(BAD)}
    return [f"self-test: nothing was said about {name}" for name in sorted(missed)] + [
        f"self-test: wrongly refused: {line}" for line in found_in(GOOD)
    ]


if __name__ == "__main__":
    wrong = self_test() + violations(source_tree.ROOT)
    print("\n".join(wrong) if wrong else "includes go downwards only")
    sys.exit(1 if wrong else 0)
