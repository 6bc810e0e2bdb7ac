#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

# ThreadSanitizer is slow: it gets the tests where threads meet.
tsan_labels="unit conformance model stress"
# How much of their usual work the random and stress tests do under sanitizers (GM_TEST_SCALE).
sanitizer_scale=0.2

usage() {
  cat <<EOF
usage: sh tests/run.sh            everything: format, clang-tidy, and the tests built plainly and with the sanitizers
       sh tests/run.sh --quick    the release build and its tests only
       sh tests/run.sh --soak N   the release build, and for N minutes the model and stress suites, each round with
                                  other seeds; the log of a failed round stays in build/logs
       sh tests/run.sh --help
Installs what is missing (as root, by apt-get). Logs are left in build/logs. GM_TEST_SCALE=N multiplies the work of
random and stress tests. The last line is \`N passed, N failed, N skipped\`, of test cases over all builds.
EOF
}

quick=no
soak_minutes=0
while [ $# != 0 ]; do
  case $1 in
    --quick) quick=yes ;;
    --soak)
      shift
      soak_minutes=${1:-}
      case $soak_minutes in
        "" | *[!0-9]* | 0*) echo "gmem: --soak wants a number of minutes" >&2; exit 2 ;;
      esac
      ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

passed=0
failed=0
skipped=0
finish() {
  status=$?
  # Whatever ended this early has not been counted yet.
  if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" = 0 ] || exit 1
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM

. "$root/cmake/setup.sh"

now() { date +%s; }

begin() {
  step=$1
  step_started=$(now)
  say "$2"
}

ended() { say "$step: $1, $(($(now) - step_started)) s"; }

# A step that is one case: step_ok, or step_failed LOG.
step_ok() {
  passed=$((passed + 1))
  ended "ok"
}

step_failed() {
  failed=$((failed + 1))
  show_log "$1"
  ended "FAILED, log: $1"
}

# The tools whose verdict depends on their version: Debian 12's.
# tool_14 NAME: its command, or nothing where there is no version 14.
tool_14() {
  if command -v "$1-14"; then return 0; fi
  if "$1" --version 2>/dev/null | grep -q 'version 14\.'; then echo "$1"; fi
}

check_format() {
  begin format "checking the format of every C and C++ file"
  tool=$(tool_14 clang-format)
  if [ -z "$tool" ]; then
    skipped=$((skipped + 1))
    ended "skipped, clang-format 14 is not here"
  elif (cd "$root" && python3 tests/source_tree.py | xargs -0 "$tool" --dry-run -Werror) >"$logs/format.log" 2>&1; then
    step_ok
  else
    step_failed "$logs/format.log"
  fi
}

check_tidy() {
  begin clang-tidy "running clang-tidy over runtime/"
  tool=$(tool_14 clang-tidy)
  if [ -z "$tool" ]; then
    skipped=$((skipped + 1))
    ended "skipped, clang-tidy 14 is not here"
  elif ! configure release; then
    step_failed "$logs/release-configure.log"
  elif { python3 "$root/tests/tidy.py" "$tool" "$root/build/release" "$jobs" || echo failed; } |
    tee "$logs/clang-tidy.log" | grep '^\[' && ! grep -qx failed "$logs/clang-tidy.log"; then
    step_ok
  else
    grep -v '^\[' "$logs/clang-tidy.log" >"$logs/clang-tidy-findings.log" || true
    step_failed "$logs/clang-tidy-findings.log"
  fi
}

# test_build PRESET SCALE [CTEST_ARGUMENTS]: builds and runs the tests. False when the build failed.
test_build() {
  preset=$1
  scale=$2
  shift 2
  begin "$preset build" "building ($preset)"
  if ! build "$preset"; then
    step_failed "$logs/$preset-build.log"
    return 1
  fi
  ended "ok"

  begin "$preset tests" "running the tests ($preset)"
  results=$root/build/$preset/test-results
  rm -rf "$results"
  mkdir -p "$results"
  # What it says is counted, not its exit status.
  GM_TEST_SCALE=$scale ctest --test-dir "$root/build/$preset" --parallel 2 --output-on-failure \
    --output-junit "$results/ctest.xml" "$@" >"$logs/$preset-tests.log" 2>&1 || true
  python3 "$root/tests/tally.py" "$results" >"$logs/$preset-tally.log" || echo "0 1 0" >>"$logs/$preset-tally.log"
  sed '$d' "$logs/$preset-tally.log"
  # shellcheck disable=SC2046  # three numbers
  set -- $(tail -n 1 "$logs/$preset-tally.log")
  passed=$((passed + $1))
  failed=$((failed + $2))
  skipped=$((skipped + $3))
  ended "$(($1 + $2 + $3)) cases, $2 of them failed (log: $logs/$preset-tests.log)"
}

# The GPU backends and their kernels are part of the release build where there are toolkits: which were, and which not.
report_gpu_toolkits() {
  for vendor in cuda hip; do
    begin "$vendor" "looking for what was built with $vendor"
    if [ ! -f "$root/build/release/bin/libgmem-$vendor.so" ]; then
      skipped=$((skipped + 1))
      ended "skipped, there is no toolkit for it here"
    elif [ ! -x "$root/build/release/bin/${vendor}_parallel_for" ]; then
      skipped=$((skipped + 1))
      ended "the backend was built; kernels are skipped, there is no compiler for them here"
    else
      step_ok
    fi
  done
}

# soak_round SUITE NUMBER FIRST_SEED: one case.
soak_round() {
  log=$logs/soak-$1-$2.log
  if GM_TEST_FIRST_SEED=$3 timeout 1800 "$root/build/release/bin/$1" >"$log" 2>&1; then
    passed=$((passed + 1))
    rm -f "$log"
  else
    failed=$((failed + 1))
    grep -E -m 5 'GM_TEST_SEED|FAILED' "$log" || true
    say "soak: round $2 of $1 FAILED, log: $log"
  fi
}

soak() {
  begin soak "building for the soak"
  build release || { step_failed "$logs/release-build.log"; return; }
  say "running model and stress for $soak_minutes minutes"
  unset GM_TEST_SEED
  end=$(($(now) + 60 * soak_minutes))
  round=0
  first_seed=$(now)
  while [ "$(now)" -lt "$end" ]; do
    round=$((round + 1))
    for suite in model stress; do soak_round "$suite" "$round" $((first_seed + round * 1000)); done
    say "soak: $round rounds, $failed failures, $(((end - $(now)) / 60)) minutes to go"
  done
  ended "$round rounds"
}

scaled() { awk "BEGIN { print ${GM_TEST_SCALE:-1} * $1 }"; }

if [ "$quick" = yes ] || [ "$soak_minutes" != 0 ]; then
  install_packages $packages_to_build pkg-config
else
  install_packages $packages_to_build pkg-config clang-format clang-tidy
  # shellcheck disable=SC2086  # a list of words
  try_to_install $packages_for_hip || true
fi
try_to_install python3-numpy dpkg-dev || true
try_to_install_thrust
userfaultfd_is_whole || die "$userfaultfd_remedy"

if [ "$soak_minutes" != 0 ]; then
  soak
  exit 0
fi
if [ "$quick" = no ]; then
  check_format
  check_tidy
fi
# Where the plain build fails, the others would say the same again.
test_build release "$(scaled 1)" || exit 1
report_gpu_toolkits
if [ "$quick" = no ]; then
  test_build asan "$(scaled $sanitizer_scale)" || true
  test_build tsan "$(scaled $sanitizer_scale)" --label-regex "^($(echo $tsan_labels | tr ' ' '|'))\$" || true
fi
