#!/usr/bin/env bash
# Pushes what build.sh has made: push.sh REGISTRY, such as registry.example.com/team
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
registry=${1:?usage: push.sh REGISTRY, such as registry.example.com/team}
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

case $(uname -m) in x86_64) architecture=amd64 ;; aarch64) architecture=arm64 ;; *) fail "no image is built on $(uname -m)" ;; esac
version=$(sed -n '/^\[workspace\.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
layout=$root/target/image/pod-reloader-$version-linux-$architecture
[ -d "$layout" ] || fail "$layout is missing: run make image"
crane=${CRANE:-$root/e2e/bin/crane}
command -v "$crane" >/dev/null || fail "$crane is missing: run e2e/tools/build.sh crane"

"$crane" push "$layout" "${registry%/}/pod-reloader:v$version"
