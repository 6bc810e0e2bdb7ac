#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# gpu.sh - everything that a real GPU is asked, in one command, from programs that were built before.
set -u
here=$(cd "$(dirname "$0")" && pwd)

usage() {
  cat <<END
usage: sh bench/gpu.sh --pack [--with-cublas]
           builds for every GPU compiler that is here; puts the programs, the libraries they need and this script into
           build/gpu-pack, which can be carried to another machine
       sh bench/gpu.sh [--vendor V] [--results FOLDER]
           runs from the pack (there: sh gpu.sh): facts of the device, the tests that need one, the samples, the
           comparison with other ways
  --with-cublas     packs cuBLAS too, 600 MB: else the sample of it is skipped where there is no CUDA toolkit
  --vendor V        cuda, hip or sim (no GPU: to try the script); what is not given is found out
  --results FOLDER  where NAME-DATE.txt, .json and .md go: bench/results, or the folder itself in a pack
  --seconds N       a limit for each program (150; the comparison may take 240)
  --total N         a limit for everything (460): what is left then is not run, and the table says so
Needs no network, no compiler and nothing installed but a driver. Ends with 1 when a test or sample failed, was skipped
for want of a device, or was not run; a goal that is missed changes nothing.
END
}

say() { echo "gmem: $*"; }
die() {
  echo "gmem: $*" >&2
  exit 1
}

pack=no
with_cublas=no
vendor=
results=
seconds=150
total=460
while [ $# -gt 0 ]; do
  case $1 in
    --pack) pack=yes ;;
    --with-cublas) with_cublas=yes ;;
    --vendor) vendor=${2:?--vendor needs cuda, hip or sim} && shift ;;
    --results) results=${2:?--results needs a folder} && shift ;;
    --seconds) seconds=${2:?--seconds needs a number} && shift ;;
    --total) total=${2:?--total needs a number} && shift ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

# ---- Packing ----

# Libraries that a program needs and that a machine with only a driver may lack.
names_to_pack='tbb|benchmark|png16|z|stdc\+\+|gcc_s'
needed_libraries() {
  ldd "$@" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    grep -E "/lib($names_to_pack)[-.0-9]*\.so" || true
}

pack_programs() {
  root=$(cd "$here/.." && pwd)
  . "$root/cmake/setup.sh"
  install_packages $packages_to_build
  try_to_install_thrust
  build_or_die release
  to=$root/build/gpu-pack
  rm -rf "$to"
  mkdir -p "$to"
  from=$root/build/release/bin
  for program in "$from"/conformance "$from"/gmem_gpu_bench "$from"/parallel_for "$from"/access_patterns \
    "$from"/model_of_kernels "$from"/sample_* "$from"/cuda_* "$from"/hip_* "$from"/libgmem*.so*; do
    [ -e "$program" ] && cp -P "$program" "$to/"
  done
  rm -f "$to"/*_draw_picture
  mkdir -p "$to/samples/images"
  cp "$root"/samples/images/*.png "$to/samples/images/"
  [ "$with_cublas" = no ] || names_to_pack="$names_to_pack|cublas|cublasLt"
  for library in $(needed_libraries "$to"/conformance "$to"/*gpu_bench "$to"/*sample_* "$to"/libgmem-sim.so); do
    cp -L "$library" "$to/"
  done
  cp "$here/gpu.sh" "$to/"
  say "packed $(find "$to" -type f | wc -l) files, $(du -sh "$to" | cut -f1), in $to"
}

if [ "$pack" = yes ]; then
  pack_programs
  exit 0
fi

# ---- Running ----

began=$(date +%s)
if [ -x "$here/gmem_gpu_bench" ]; then
  programs=$here
  results=${results:-$here}
else
  programs=$here/../build/gpu-pack
  results=${results:-$here/results}
  [ -x "$programs/gmem_gpu_bench" ] || die "nothing is packed: run \`sh bench/gpu.sh --pack\` first."
fi
mkdir -p "$results" || die "cannot make $results."
results=$(cd "$results" && pwd)
cd "$programs" || exit 1
export LD_LIBRARY_PATH="$programs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

if [ -z "$vendor" ]; then
  if command -v nvidia-smi >/dev/null && timeout -k 5 20 nvidia-smi >/dev/null 2>&1; then
    vendor=cuda
  elif [ -e /dev/kfd ]; then
    vendor=hip
  else
    die "there is no GPU here that a driver answers for (nvidia-smi, /dev/kfd): \`--vendor sim\` tries the script."
  fi
fi
case $vendor in
  cuda | hip) prefix=${vendor}_ bench=./${vendor}_gpu_bench ;;
  sim) prefix='' bench=./gmem_gpu_bench ;;
  *) die "$vendor is no vendor: cuda, hip or sim." ;;
esac
[ -x "$bench" ] || die "the pack has no programs for $vendor: its compiler was not there when it was made."
export GM_BACKEND=$vendor
[ "$vendor" != sim ] || export GM_SIM_MEMORY="${GM_SIM_MEMORY:-3G}"

device_name() {
  case $vendor in
    cuda) timeout -k 5 20 nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1 ;;
    hip) { timeout -k 5 20 rocminfo 2>/dev/null | sed -n 's/^ *Marketing Name: *//p' | tail -n 1; } ;;
    sim) echo simulated ;;
  esac
}
name=$(device_name | tr -cs 'A-Za-z0-9' '-' | sed 's/^-*//; s/-*$//' | tr 'A-Z' 'a-z')
base=$results/${name:-$vendor}-$(date -u +%Y-%m-%d-%H%M)
log=$base.txt
steps=$base.steps
failed=0
skipped=0
not_run=0
kill_after=5
comparison_seconds=200  # what it needs, and is kept for it
reserve=$((comparison_seconds + kill_after))

heading() { printf '\n==== %s\n' "$*" | tee -a "$log"; }

# note WHAT VERDICT SECONDS: in the log, on the screen and in the table.
note() {
  echo "$1: $2, $3 s" | tee -a "$log"
  echo "| $1 | $2 | $3 |" >>"$steps"
}

# How long the next program may take: its own limit, and no longer than what is left beside what is kept.
time_left() {
  left=$((total - ($(date +%s) - began) - kill_after - $1))
  [ "$left" -le "$seconds" ] || left=$seconds
  echo "$left"
}

# Whether a program of googletest's, whose output this is, passed none of its tests and skipped some.
has_only_skipped() {
  awk '/^\[  PASSED  \]/ { passed = $4 } /^\[  SKIPPED \] [0-9]+ test/ { skipped = $4 }
       END { exit !(skipped > 0 && passed == 0) }' "$1"
}

# run KEPT WHAT COMMAND...: its output goes to the log. KEPT seconds are left for what comes behind.
run() {
  limit=$(time_left "$1")
  what=$2
  shift 2
  heading "$what"
  if [ "$limit" -lt 3 ]; then
    not_run=$((not_run + 1))
    note "$what" "not run: out of time" 0
    return
  fi
  started=$(date +%s)
  timeout -k "$kill_after" "$limit" "$@" >"$log.step" 2>&1
  status=$?
  cat "$log.step" >>"$log"
  if [ "$status" = 0 ] && has_only_skipped "$log.step"; then status=77; fi
  rm -f "$log.step"
  case $status in
    0) verdict=ok ;;
    77) verdict="skipped: no device"; skipped=$((skipped + 1)) ;;
    124 | 137) verdict="FAILED: not done in $limit s"; failed=$((failed + 1)) ;;
    *) verdict="FAILED with $status"; failed=$((failed + 1)) ;;
  esac
  note "$what" "$verdict" "$(($(date +%s) - started))"
}

# The libraries that a program needs and the loader does not find: "libX.so.1 libY.so.2 ".
missing_libraries() { ldd "$1" 2>/dev/null | awk '/not found/ { printf "%s ", $1 }'; }

facts() {
  date -u
  uname -srm
  sed -n 's/^model name[^:]*: /processor: /p' /proc/cpuinfo | head -n 1
  grep -E 'MemTotal|HugePages_Total' /proc/meminfo
  case $vendor in
    cuda)
      timeout -k 5 20 nvidia-smi
      timeout -k 5 20 nvidia-smi --format=csv \
        --query-gpu=name,driver_version,memory.total,memory.free,pcie.link.gen.current,pcie.link.width.current
      ;;
    hip)
      timeout -k 5 20 rocminfo 2>/dev/null | head -n 80
      cat /sys/module/amdgpu/version 2>/dev/null
      ;;
  esac
  GM_LOG=info timeout -k 5 30 "./${prefix}sample_saxpy" 2>&1 | head -n 20
}

: >"$log"
: >"$steps"
heading "the machine and its devices"
facts >>"$log" 2>&1
run "$reserve" "conformance of the backend" env GM_CONFORMANCE_BACKEND="$vendor" \
  ./conformance --gtest_filter="conformance/*/$vendor" --gtest_brief=1
run "$reserve" "kernels" "./${prefix}parallel_for"
run "$reserve" "access patterns" "./${prefix}access_patterns"
run "$reserve" "random work against plain arrays" "./${prefix}model_of_kernels"
for sample in ./"${prefix}"sample_*; do
  case $sample in *_draw_picture) continue ;; esac
  missing=$(missing_libraries "$sample")
  if [ -z "$missing" ]; then
    run "$reserve" "$(basename "$sample")" "$sample"
  else
    heading "$(basename "$sample")"
    note "$(basename "$sample")" "skipped: this machine lacks ${missing% }" 0
  fi
done
[ "$seconds" -ge 240 ] || seconds=240  # it is many steps in one
run 0 "comparison with other ways" "$bench" --json "$base.json" --table "$base.md"
{
  printf '\n| step on %s | verdict | seconds |\n|---|---|---|\n' "${name:-$vendor}"
  cat "$steps"
} >>"$base.md"
rm -f "$steps"
cat "$base.md"
say "$failed failed, $skipped skipped for want of a device, $not_run not run; results are $base.txt, .json and .md"
[ $((failed + skipped + not_run)) = 0 ]
