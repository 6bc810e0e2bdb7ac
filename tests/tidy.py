#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tidy.py CLANG_TIDY BUILD_DIR JOBS - clang-tidy over every .cpp of runtime/, as BUILD_DIR compiles it.
import concurrent.futures
import subprocess
import sys

import source_tree


def main(clang_tidy, build_dir, jobs):
    names = [name for name in source_tree.cpp_files() if name.startswith("runtime/") and name.endswith(".cpp")]

    def run(name):
        # -Wthread-safety: only clang reads the lock annotations, so it is asked here.
        command = [clang_tidy, "--quiet", "-p", build_dir, "--extra-arg=-Wthread-safety", name]
        return name, subprocess.run(command, cwd=source_tree.ROOT, capture_output=True, text=True)

    wrong = 0
    with concurrent.futures.ThreadPoolExecutor(int(jobs)) as pool:
        running = [pool.submit(run, name) for name in names]
        for number, done in enumerate(concurrent.futures.as_completed(running), 1):
            name, result = done.result()
            print(f"[{number}/{len(names)}] {name}", flush=True)
            if result.returncode:
                wrong += 1
                print(result.stdout, result.stderr, sep="", flush=True)
    return 1 if wrong or not names else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
