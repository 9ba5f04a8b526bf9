#!/usr/bin/env bash
# Builds the release binary a second time, from a copy of the source in another folder, with another home of Cargo,
# another folder for results, and another time zone, language and umask, and compares the two: reproduce.sh [ARCHITECTURE]
set -euo pipefail

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
architecture=${1:-$(machine_architecture)}
target=$(processor "$architecture")-unknown-linux-gnu
cd "$root"
e2e/image/binary.sh "$architecture"
first=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/$target/release/pod-reloader

elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
mkdir -p "$elsewhere"/{a/copy,cargo,cache/pod-reloader/tools}
tar --create --exclude=./target --exclude=./.git --exclude=./e2e/bin --exclude=./e2e/run . |
    tar --extract --directory "$elsewhere/a/copy"
# What was downloaded is not downloaded again: links where that is possible.
home=${CARGO_HOME:-$HOME/.cargo}
cp -a --link "$home/registry" "$elsewhere/cargo/" 2>/dev/null || { rm -rf "$elsewhere/cargo/registry"; cp -a "$home/registry" "$elsewhere/cargo/"; }
[ ! -e "$home/config.toml" ] || cp "$home/config.toml" "$elsewhere/cargo/"
cp -a "$caches"/cargo-auditable-* "$elsewhere/cache/pod-reloader/tools/"

began=$SECONDS
(
    umask 077
    export TZ=Pacific/Kiritimati LC_ALL=C.UTF-8 LANGUAGE=ja SOURCE_DATE_EPOCH=1 RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}
    export CARGO_HOME=$elsewhere/cargo CARGO_TARGET_DIR=$elsewhere/results XDG_CACHE_HOME=$elsewhere/cache
    "$elsewhere/a/copy/e2e/image/binary.sh" "$architecture"
)
second=$elsewhere/results/$target/release/pod-reloader
sha256sum "$first" "$second"
if ! cmp "$first" "$second"; then
    cp "$second" "$first-second"
    fail "two builds of the same source differ; the second is $first-second (diffoscope shows where)"
fi
printf 'two builds are the same, bit for bit (the second took %d s)\n' $((SECONDS - began))
