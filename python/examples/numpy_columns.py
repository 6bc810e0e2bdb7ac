#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# numpy_columns.py [ROWS] - a table larger than the device, in managed memory: the CPU makes it, the device takes one
# column after the other, the CPU reads what came of it, and nobody wrote a copy. Prints what moved.
# GM_BACKEND=sim GM_SIM_MEMORY=64M python3 numpy_columns.py
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: needs numpy")
    sys.exit(77)

import gmem

COLUMNS = 8


def main(rows):
    table = gmem.empty((COLUMNS, rows), dtype="float32")
    table[...] = np.arange(COLUMNS, dtype="float32")[:, None]
    squares = gmem.zeros((COLUMNS, rows), dtype="float32")
    with gmem.Stream() as stream:
        for column in range(COLUMNS):
            # In a program with CuPy or Numba a kernel would stand here; the device's own copy does without either.
            with gmem.scope(read=table[column], write=squares[column], stream=stream):
                pass
            gmem.copy(squares[column], table[column], node=stream.node, stream=stream)
        stream.synchronize()
    squares *= squares

    wrong = int((squares != np.arange(COLUMNS, dtype="float32")[:, None] ** 2).sum())
    device = gmem.node(1)
    moved = gmem.stats()["node"][1]
    print(f"table       {table.nbytes >> 20} MiB, and as much for the result")
    print(f"device      {device.name}, {device.budget_bytes >> 20} MiB of it in use")
    print(f"moved       {moved['bytes_in'] >> 20} MiB to the device, {moved['bytes_out'] >> 20} MiB back")
    print(f"evictions   {moved['evictions']}")
    print(f"wrong       {wrong}")
    return 0 if wrong == 0 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000))
