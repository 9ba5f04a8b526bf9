#!/usr/bin/env bash
# Keeps the image that the Dockerfile builds in pinned by digest: base.sh writes the digest that its tag has today, and
# base.sh --check only looks whether there is one. (What is published has no base: it starts from scratch.)
set -euo pipefail

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
pinned='^ARG RUST_IMAGE=([^@[:space:]]+)(@sha256:[0-9a-f]{64})?$'
line=$(grep '^ARG RUST_IMAGE=' "$root/Dockerfile") || fail "the Dockerfile does not say what it builds in"
[[ $line =~ $pinned ]] || fail "the Dockerfile has a strange $line"
image=${BASH_REMATCH[1]} digest=${BASH_REMATCH[2]}

# Anything that is taken from elsewhere has to be pinned, be it in a line that is new.
# shellcheck disable=SC2016
loose=$(sed -n 's/^FROM \(--platform=[^ ]* \)\{0,1\}\([^ ]*\).*/\2/p' "$root/Dockerfile" |
    grep -vx -e scratch -e '${RUST_IMAGE}' | grep -v '@sha256:' || true)
[ -z "$loose" ] || fail "the Dockerfile takes $loose without a digest"

if [ "${1:-}" = --check ]; then
    [ -n "$digest" ] || fail "the Dockerfile builds in $image, without a digest: run make pin-base"
    exit 0
fi
crane=${CRANE:-$root/e2e/bin/crane}
command -v "$crane" >/dev/null || fail "$crane is missing: run e2e/tools/build.sh crane"
now=$("$crane" digest "$image") || fail "the registry of $image does not answer"
sed -i "s|^ARG RUST_IMAGE=.*|ARG RUST_IMAGE=$image@$now|" "$root/Dockerfile"
printf '%s@%s\n' "$image" "$now"
