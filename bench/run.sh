#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

case ${1:-} in
  --help | -h)
    cat <<EOF
usage: sh bench/run.sh [--json FILE] [--filter REGEX] [--list]
  --json FILE      leave Google Benchmark's JSON in FILE
  --filter REGEX   run only the benches whose names match
  --list           print the names and stop
Installs what is missing (as root, by apt-get) and builds first. Ends with a table: name, figure, ratio, goal, met.
EOF
    exit 0
    ;;
esac

. "$root/cmake/setup.sh"
install_packages $packages_to_build
warn_if_userfaultfd_is_limited
build_or_die release gmem_bench
say "running the benches"
exec "$root/build/release/bin/gmem_bench" "$@"
