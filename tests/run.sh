#!/usr/bin/env bash
# All tests, then one closing line with the totals. Called by `make test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Errors say what they mean; backtraces are long and say less.
export RUST_BACKTRACE=0

log=$(mktemp)
trap 'rm -f "$log"' EXIT
began=$SECONDS
stage() { printf '\n== %s (at %d s)\n' "$1" $((SECONDS - began)); }

stage "build the operator and the tests"
cargo build --locked -p pod-reloader
cargo test --locked --workspace --no-run

# One test binary after the other: each of those with a control plane needs both cores of a small machine.
stage "run the tests"
status=0
cargo test --locked --workspace --no-fail-fast -- ${TEST_ARGS:-} 2>&1 | tee "$log" || status=$?

# What the test runner said of each binary, added up.
totals=$(awk '/^test result:/ {for (i = 1; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1); if ($i ~ /^ignored/) s += $(i-1) }} END {printf "%d passed, %d failed, %d skipped", p, f, s}' "$log")
mkdir -p target && echo "$totals" > target/test-totals
printf '\nall tests took %d s\n%s\n' $((SECONDS - began)) "$totals"
exit "$status"
