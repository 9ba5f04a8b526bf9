#!/usr/bin/env bash
# Are there security advisories for the crates in Cargo.lock? Asks the RustSec database; where that cannot be had, the
# copy of it beside this file, whose date is printed.
#
#   ADVISORIES=warn        list them and succeed all the same
#   ADVISORY_COPY=FOLDER   ask the copy that update.sh has made there, and nothing else
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
cargo=${CARGO:-cargo}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

status=0
copy=${ADVISORY_COPY:-$here}
if [ -z "${ADVISORY_COPY:-}" ] && timeout 180 "$cargo" deny --config .cargo/deny.toml fetch db >"$scratch/fetch" 2>&1; then
    echo "security advisories as of now"
    "$cargo" deny --config .cargo/deny.toml check --hide-inclusion-graph advisories || status=$?
else
    read -r date commit <"$copy/copy.txt"
    [ -n "${ADVISORY_COPY:-}" ] || printf 'warning: the database of security advisories cannot be had here: %s\n' \
        "$(grep . "$scratch/fetch" | tail -n 1)" >&2
    printf 'security advisories as of %s, from a copy of rustsec/advisory-db at %s: what is newer is not known\n' "${date%T*}" "$commit"
    # cargo-deny takes a clone only, under the name that it would have given it.
    url=https://github.com/RustSec/advisory-db clone=$scratch/advisory-db-3157b0e258782691
    mkdir "$clone"
    tar --extract --xz --file "$copy/copy.tar.xz" --directory "$clone"
    git -C "$clone" init --quiet
    git -C "$clone" add --all
    GIT_AUTHOR_DATE=$date GIT_COMMITTER_DATE=$date git -C "$clone" -c user.name=copy -c user.email= commit --quiet --message copy
    # Its age is said above, and no reason to check nothing.
    sed "s|^\[advisories\]\$|&\ndb-path = \"$scratch\"\ndb-urls = [\"$url\"]\nmaximum-db-staleness = \"P10Y\"|" \
        .cargo/deny.toml >"$scratch/deny.toml"
    "$cargo" deny --offline --config "$scratch/deny.toml" check --hide-inclusion-graph advisories || status=$?
fi
[ "$status" != 0 ] || exit 0
[ "${ADVISORIES:-}" != warn ] || { echo "warning: there are security advisories, see above" >&2; exit 0; }
echo "error: there are security advisories, see above (ADVISORIES=warn: go on all the same)" >&2
exit "$status"
