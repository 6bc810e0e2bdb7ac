# SPDX-License-Identifier: Apache-2.0
# source_tree.py - the project's own source files, for the tests that read them. As a program it lists the C and C++
# ones, each ended by a NUL byte (for xargs -0).
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CPP = (".c", ".h", ".cpp", ".hpp", ".cu", ".cuh", ".hip")
SCRIPTS = (".py", ".sh", ".cmake")


def files(root=ROOT):
    """Paths relative to root, '/' between folders: what git tracks or would track, else everything outside build."""
    git = ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(git, check=True, capture_output=True).stdout.decode().split("\0")
        names = [name for name in listed if name and os.path.isfile(os.path.join(root, name))]
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, folders, found in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith((".", "build", "__pycache__"))]
            names += [os.path.relpath(os.path.join(folder, name), root) for name in found]
    return sorted(set(names))


def cpp_files(root=ROOT):
    return [name for name in files(root) if name.endswith(CPP)]


def source_files(root=ROOT):
    return [name for name in files(root) if name.endswith(CPP + SCRIPTS) or os.path.basename(name) == "CMakeLists.txt"]


def lines(root, name):
    with open(os.path.join(root, name), encoding="utf-8") as file:
        return file.read().splitlines()


if __name__ == "__main__":
    sys.stdout.write("".join(name + "\0" for name in cpp_files()))
