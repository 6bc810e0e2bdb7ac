#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD_DIR [CC CXX] - installs a build into a folder of its own and builds projects outside the tree against it:
# one finds it by CMake, one by pkg-config. Then the folder is moved, and both must still work.
set -eu

build_dir=$1
cc=${2:-cc}
cxx=${3:-c++}
generator=$(sed -n 's/^CMAKE_GENERATOR:INTERNAL=//p' "$build_dir/CMakeCache.txt")  # the one known to be here
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

export GM_BACKEND=sim GM_SIM_MEMORY=64M
unset CMAKE_PREFIX_PATH PKG_CONFIG_PATH PKG_CONFIG_LIBDIR LD_LIBRARY_PATH CFLAGS CXXFLAGS LDFLAGS || true

run_both() {
  "$1/scope_c"
  "$1/scope_cpp"
}

# use_by_cmake PREFIX
use_by_cmake() {
  rm -rf "$work/by_cmake"
  cmake -G "$generator" -S "$here/with_cmake" -B "$work/by_cmake" -D CMAKE_PREFIX_PATH="$1" -D CMAKE_C_COMPILER="$cc" \
    -D CMAKE_CXX_COMPILER="$cxx" -D CMAKE_BUILD_TYPE=Release >/dev/null
  cmake --build "$work/by_cmake" >/dev/null
  run_both "$work/by_cmake"
  echo "cmake: find_package works from $1"
}

# use_by_pkgconfig PREFIX
use_by_pkgconfig() {
  PKG_CONFIG_PATH=$(dirname "$(find "$1" -name gmem.pc)")
  export PKG_CONFIG_PATH
  flags=$(pkg-config --cflags gmem)
  libs=$(pkg-config --libs gmem)
  rpath=-Wl,-rpath,$(pkg-config --variable=libdir gmem)
  mkdir -p "$work/by_pkgconfig"
  # shellcheck disable=SC2086  # flags are words
  "$cc" -std=c11 -pedantic-errors -Wall -Werror $flags "$here/scope.c" -o "$work/by_pkgconfig/scope_c" $libs "$rpath"
  # shellcheck disable=SC2086
  "$cxx" -std=c++20 -Wall -Werror $flags "$here/scope.cpp" -o "$work/by_pkgconfig/scope_cpp" $libs "$rpath"
  run_both "$work/by_pkgconfig"
  echo "pkg-config: version $(pkg-config --modversion gmem) works from $1"
}

# require PATTERN: something of that name was installed
require() {
  test -n "$(find "$work/first" -path "$1")" || { echo "not installed: $1"; exit 1; }
}

cmake --install "$build_dir" --prefix "$work/first" >/dev/null
for pattern in '*/include/gmem/gmem.h' '*/libgmem.so' '*/libgmem.so.0' '*/libgmem-sim.so' '*/LICENSE'; do
  require "$pattern"
done

# The public headers need nothing that was not installed.
for header in "$work"/first/include/gmem/*; do
  case $header in
    *.h)
      echo "#include \"$header\"" |
        "$cc" -std=c11 -I "$work/first/include" -pedantic-errors -Wall -Werror -fsyntax-only -x c -
      ;;
  esac
  echo "#include \"$header\"" | "$cxx" -std=c++20 -I "$work/first/include" -Wall -Werror -fsyntax-only -x c++ -
done

use_by_cmake "$work/first"
use_by_pkgconfig "$work/first"
mv "$work/first" "$work/moved"
use_by_cmake "$work/moved"
use_by_pkgconfig "$work/moved"
