#!/usr/bin/env bash
# Pushes what build.sh has made, all architectures under one tag, with what is attached:
#
#   push.sh REGISTRY [LAYOUT]   REGISTRY such as registry.example.com/team; LAYOUT is one of index.sh's, made if not given
#
# Where the registry has no API for referrers, they are listed under the tag that the OCI distribution specification
# has for that (sha256-DIGEST). PLAIN_HTTP=1 is for registries without TLS.
set -euo pipefail

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
registry=${1:?usage: push.sh REGISTRY, such as registry.example.com/team} registry=${registry%/}
oras=${ORAS:-$root/e2e/bin/oras}
command -v "$oras" >/dev/null || fail "$oras is missing: run e2e/tools/build.sh oras"
version=$(product_version)
layout=${2:-}
if [ -z "$layout" ]; then
    [ -s "$root/target/image/architectures" ] || fail "there is nothing to push: run make image"
    layout=$root/target/image/pod-reloader-$version
    layouts=()
    while read -r architecture; do layouts+=("$layout-linux-$architecture"); done <"$root/target/image/architectures"
    "$root/e2e/image/index.sh" "$layout" "$registry/pod-reloader" "${layouts[@]}"
fi

plain=()
[ -z "${PLAIN_HTTP:-}" ] || plain=(--to-plain-http)
index=$("$oras" resolve --oci-layout "$layout:v$version")
# With its images, and with what is attached to any of them.
"$oras" cp --no-tty --recursive "${plain[@]}" --from-oci-layout "$layout:v$version" "$registry/pod-reloader:v$version" >/dev/null
printf 'pushed %s/pod-reloader:v%s@%s\n' "$registry" "$version" "$index"
