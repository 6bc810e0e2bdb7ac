#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
main_sample=heat
no_sample=draw_picture  # drew images/lake.png; it wants a path, and nothing of gmem is in it

usage() {
  cat <<EOF
usage: sh samples/run.sh [NAME [ARGUMENTS]]   run one sample, $main_sample unless named
       sh samples/run.sh --all                run every sample
       sh samples/run.sh --list               list their names
Installs what is missing (as root, by apt-get) and builds first.
EOF
}

names() {
  for entry in "$root"/samples/*; do
    name=$(basename "$entry" .cpp)
    case $entry in
      *.cpp) echo "$name" ;;
      *) if [ -f "$entry/main.cpp" ]; then echo "$name"; fi ;;
    esac
  done
}

wanted=${1:-$main_sample}
asked=$wanted
if [ $# -gt 0 ]; then shift; fi
case $wanted in
  --help | -h) usage; exit 0 ;;
  --list) names; exit 0 ;;
  --all) wanted=$(names | grep -vx "$no_sample") ;;
  -*) usage >&2; exit 2 ;;
  *)
    names | grep -qxF -e "$wanted" || { echo "there is no sample $wanted; there are:" $(names) >&2; exit 2; }
    ;;
esac

. "$root/cmake/setup.sh"
install_packages $packages_to_build
try_to_install_thrust
warn_if_userfaultfd_is_limited
targets=""
for name in $wanted; do targets="$targets sample_$name"; done
build_or_die release $targets

failed=""
for name in $wanted; do
  program=$root/build/release/bin/sample_$name
  if [ ! -x "$program" ]; then
    # Configuring leaves out a sample whose library is not here.
    say "skipping $name:$(sed -n "s/^.* sample_$name is left out://p" "$logs/release-configure.log")"
    [ "$asked" = --all ] || failed=" $name"
    continue
  fi
  say "running $name"
  "$program" "$@" || failed="$failed $name"
done
[ -z "$failed" ] || die "failed:$failed"
