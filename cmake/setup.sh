# SPDX-License-Identifier: Apache-2.0
# setup.sh - what samples/run.sh, tests/run.sh and bench/run.sh share: packages, permissions, building. POSIX sh,
# sourced by them with $root set to the project's folder. Everything built and logged goes to $root/build.
# shellcheck shell=sh

logs=$root/build/logs
jobs=$(nproc 2>/dev/null || echo 2)
packages_to_build="g++ cmake ninja-build python3 libtbb-dev libpng-dev libgtest-dev libbenchmark-dev libjemalloc-dev"
packages_for_hip="hipcc libamdhip64-dev"  # CUDA's toolkit is NVIDIA's to install
mkdir -p "$logs"

say() { echo "gmem: $*"; }

die() {
  echo "gmem: $*" >&2
  exit 1
}

# show_log FILE: the first errors of a log, if it names any, else its end.
show_log() { grep -m 20 -A 3 -E 'error|FAILED|CMake Error' "$1" || tail -n 40 "$1"; }

has_package() {
  case $1 in
    ninja-build) command -v ninja >/dev/null ;;
    lib*-dev)
      # Elsewhere than on Debian, configuring says what is missing.
      ! command -v dpkg-query >/dev/null || dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q 'ok installed'
      ;;
    hipcc) command -v hipcc >/dev/null || [ -x "${ROCM_PATH:-/opt/rocm}/bin/hipcc" ] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# install_packages PACKAGE...: installs those that are missing, or says how.
install_packages() {
  missing=""
  for package in "$@"; do
    has_package "$package" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die "missing:$missing (Debian's names): install them and run this again."
  [ "$(id -u)" = 0 ] || die "missing packages:$missing: run \`sudo apt-get install$missing\`, then this again."
  say "installing$missing"
  # The package lists may be absent or old: fetch them only if it does not work as it is.
  # shellcheck disable=SC2086  # a list of words
  apt_install $missing >"$logs/apt.log" 2>&1 ||
    { apt-get update && apt_install $missing; } >"$logs/apt.log" 2>&1 ||
    { tail -n 20 "$logs/apt.log"; die "apt-get could not install$missing: see the lines above and $logs/apt.log."; }
}

# Thrust's headers, for the sample that has its algorithms: a CUDA toolkit brings them, else Debian's package does.
try_to_install_thrust() {
  command -v nvcc >/dev/null || [ -x "${CUDA_PATH:-/usr/local/cuda}/bin/nvcc" ] || try_to_install libthrust-dev || true
}

# try_to_install PACKAGE...: as install_packages, where it is no loss if it cannot be done. False then.
try_to_install() {
  (install_packages "$@") || { say "going on without $*"; return 1; }
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }

# True where userfaultfd may serve faults taken inside system calls too.
userfaultfd_is_whole() {
  if (: <>/dev/userfaultfd) 2>/dev/null; then return 0; fi
  if [ "$(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null)" = 1 ]; then return 0; fi
  capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
  cap_sys_ptrace=19
  [ "$((0x$capabilities >> cap_sys_ptrace & 1))" = 1 ]
}

userfaultfd_remedy="userfaultfd is limited for this user, so system calls on managed memory would fail: allow it with \
\`sudo setfacl -m u:$(id -un):rw /dev/userfaultfd\` or \`sudo sysctl vm.unprivileged_userfaultfd=1\`; a container \
needs \`--device /dev/userfaultfd\`."

warn_if_userfaultfd_is_limited() { userfaultfd_is_whole || say "warning: $userfaultfd_remedy"; }

# configure PRESET: quietly; the log is $logs/PRESET-configure.log.
configure() {
  if [ ! -f "$root/build/$1/CMakeCache.txt" ]; then
    if command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
    if command -v ccache >/dev/null; then export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
  fi
  (cd "$root" && cmake --preset "$1") >"$logs/$1-configure.log" 2>&1
}

# build PRESET [TARGET...]: configures and builds quietly; the log is $logs/PRESET-build.log.
build() {
  build_preset=$1
  shift
  configure "$build_preset" || { cp "$logs/$build_preset-configure.log" "$logs/$build_preset-build.log"; return 1; }
  if [ $# -gt 0 ]; then set -- --target "$@"; fi
  cmake --build "$root/build/$build_preset" --parallel "$jobs" "$@" >"$logs/$build_preset-build.log" 2>&1
}

# build_or_die PRESET [TARGET...]: as build; a failure is shown and ends the script.
build_or_die() {
  say "building ($1)"
  build "$@" && return 0
  show_log "$logs/$1-build.log"
  die "the build failed, log: $logs/$1-build.log"
}
