#!/usr/bin/env bash
# All tests, or the suites that the arguments name (--test NAME), then one closing line with the totals. Called by
# `make test` and `make e2e`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Errors say what they mean; backtraces are long and say less.
export RUST_BACKTRACE=0

log=$(mktemp)
trap 'rm -f "$log"' EXIT
began=$SECONDS
stage() { printf '\n== %s (at %d s)\n' "$1" $((SECONDS - began)); }

stage "build the operator and the tests"
# In one go, and with the features of the whole workspace: the operator alone would have the dependencies built twice.
cargo build --locked --workspace --bins --tests

# One test binary after the other: each of those with a control plane needs both cores of a small machine.
stage "run the tests"
status=0
# With what passing tests print: one that cannot run here says so, and why.
cargo test --locked --workspace "$@" --no-fail-fast -- --show-output ${TEST_ARGS:-} 2>&1 | tee "$log" || status=$?

# What the test runner said of each binary, added up. Skipped tests count as passed there.
skipped=$(grep -c '^skipped: ' "$log" || true)
totals=$(awk -v skipped="$skipped" '/^test result:/ {for (i = 1; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1); if ($i ~ /^ignored/) s += $(i-1) }} END {printf "%d passed, %d failed, %d skipped", p - skipped, f, s + skipped}' "$log")
mkdir -p target && echo "$totals" > target/test-totals
printf '\nall tests took %d s\n' $((SECONDS - began))
grep '^skipped: ' "$log" | sort | uniq -c || true
echo "$totals"
exit "$status"
