#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# packages.sh BUILD_DIR CC CXX PYTHON - makes the Debian packages of a build, unpacks them into an empty prefix, and
# uses that as README.md says: its first program by pkg-config and by CMake, and the Python module. Exit status 77:
# there are no tools for packages here.
set -eu

build_dir=$1
cc=$2
cxx=$3
python=$4
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
generator=$(sed -n 's/^CMAKE_GENERATOR:INTERNAL=//p' "$build_dir/CMakeCache.txt")
for tool in cpack dpkg-deb dpkg-shlibdeps pkg-config; do
  command -v "$tool" >/dev/null || { echo "skipped: there is no $tool"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

export GM_BACKEND=sim GM_SIM_MEMORY=64M
unset CMAKE_PREFIX_PATH PKG_CONFIG_PATH PKG_CONFIG_LIBDIR LD_LIBRARY_PATH CFLAGS CXXFLAGS LDFLAGS GMEM_LIBRARY || true

# block LANGUAGE: README.md's first piece of code in that language
block() { awk -v begin="^\`\`\`$1\$" '$0 ~ begin { on = 1; next } on && /^```/ { exit } on' "$root/README.md"; }

(cd "$build_dir" && cpack -G DEB -B "$work/made") >"$work/cpack.log" 2>&1 || { cat "$work/cpack.log"; exit 1; }
version=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$build_dir/CMakeCache.txt")
grep -q "^## $version\( \|\$\)" "$root/CHANGELOG.md" || { echo "CHANGELOG.md says nothing of $version"; exit 1; }
mkdir "$work/prefix"
for package in "$work"/made/*.deb; do
  dpkg-deb --extract "$package" "$work/prefix"
  [ "$(dpkg-deb --field "$package" Version)" = "$version" ] || { echo "$package is not $version"; exit 1; }
done
for name in libgmem0 libgmem-dev python3-gmem; do
  ls "$work"/made/"$name"_*.deb >/dev/null || { echo "no package $name was made"; exit 1; }
done
# A package needs its own vendor's libraries only.
dpkg-deb --field "$work"/made/libgmem0_*.deb Depends | grep -Eq 'hip|cuda' && { echo "libgmem0 needs a GPU"; exit 1; }

PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name gmem.pc)")
export PKG_CONFIG_PATH
mkdir "$work/program"
block cpp >"$work/program/program.cpp"
# shellcheck disable=SC2046  # flags are words
"$cxx" -std=c++20 -O1 $(pkg-config --cflags gmem) "$work/program/program.cpp" -o "$work/program/by_pkgconfig" \
  $(pkg-config --libs gmem) -Wl,-rpath,"$(pkg-config --variable=libdir gmem)"
"$work/program/by_pkgconfig"
echo "README's program works by pkg-config"

{
  echo "cmake_minimum_required(VERSION 3.25)"
  echo "project(program LANGUAGES CXX)"
  echo "add_executable(program program.cpp)"
  block cmake
} >"$work/program/CMakeLists.txt"
cmake -G "$generator" -S "$work/program" -B "$work/program/build" -D CMAKE_PREFIX_PATH="$work/prefix/usr" \
  -D CMAKE_C_COMPILER="$cc" -D CMAKE_CXX_COMPILER="$cxx" >"$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; exit 1; }
cmake --build "$work/program/build" >"$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; exit 1; }
"$work/program/build/program"
echo "README's program works by CMake"

modules=$(dirname "$(dirname "$(find "$work/prefix" -path '*/gmem/__init__.py')")")
PYTHONPATH=$modules "$python" -c 'import gmem; b = gmem.Buffer(100, zero=True); gmem.fill(b, 7, node=1)
assert bytes(b.bytes) == bytes([7]) * 100; print("the Python module works: version", gmem.__version__)'
if "$python" -c 'import numpy' 2>/dev/null; then
  said=$(block python | PYTHONPATH=$modules "$python" -)
  [ "$said" = 0.0 ] || { echo "README's Python program says $said"; exit 1; }
  echo "README's Python program works"
fi
