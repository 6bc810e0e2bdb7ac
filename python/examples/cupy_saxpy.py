#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# cupy_saxpy.py [COUNT] - CuPy computes on managed arrays, on its own stream; numpy reads the result. Needs CuPy and a
# CUDA or HIP device.
import sys

try:
    import cupy
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

import gmem


def main(count):
    if gmem.node_count() < 2 or gmem.node(1).backend not in ("cuda", "hip"):
        print("skipped: gmem has no CUDA or HIP device")
        return 77
    x = gmem.array(np.ones(count, dtype="float32"))
    y = gmem.array(np.full(count, 2, dtype="float32"))
    with gmem.Stream.from_native(cupy.cuda.get_current_stream().ptr) as stream:
        with gmem.scope(read=x, read_write=y, stream=stream):
            there = cupy.asarray(y)  # the same memory: nothing is copied
            there += 3 * cupy.asarray(x)
        wrong = int((y != 5).sum())  # waits for CuPy's kernels, and fetches what it reads
    print(f"{count} elements, {wrong} of them wrong")
    return 0 if wrong == 0 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000))
