#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# style_test.py - what of the style a machine can check cheaply and clang-format does not.
import os
import re
import sys

import source_tree

LINES_MAX = 600
COLUMNS_MAX = 120
SPDX = "SPDX-License-Identifier: Apache-2.0"
SPDX_WITHIN_LINES = 3  # a script's first line is its interpreter
VAGUE_NAME = re.compile(r"utils|helpers|common|manager", re.IGNORECASE)


def why_wrong(root, name):
    # The name is judged wherever the file is; the rest only in sources.
    if VAGUE_NAME.search(os.path.basename(name)):
        yield f"{name}: a file is named for what it defines"
    text = source_tree.lines(root, name)
    if not any(SPDX in line for line in text[:SPDX_WITHIN_LINES]):
        yield f"{name}:1: the licence line is missing: {SPDX}"
    if len(text) > LINES_MAX:
        yield f"{name}: {len(text)} lines; {LINES_MAX} at most"
    for number, line in enumerate(text, 1):
        if "\t" in line:
            yield f"{name}:{number}: a tab"
        if line != line.rstrip():
            yield f"{name}:{number}: a space at the end"
        if len(line) > COLUMNS_MAX:
            yield f"{name}:{number}: {len(line)} columns; {COLUMNS_MAX} at most"


if __name__ == "__main__":
    wrong = [line for name in source_tree.source_files() for line in why_wrong(source_tree.ROOT, name)]
    print("\n".join(wrong) if wrong else "style holds")
    sys.exit(1 if wrong else 0)
