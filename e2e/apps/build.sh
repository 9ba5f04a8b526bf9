#!/usr/bin/env bash
# Makes the images of the scenarios' applications, as archives that `docker load`, `ctr images import` and `crane push`
# take, without a container engine:
#
#   target/image/apps.tar       our applications, one static program
#   target/image/apps-next.tar   the same under another name
#   target/image/postgres.tar   Debian's PostgreSQL (takes mmdebstrap and root; left out, with the reason, without them)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/pod-reloader
cargo=${CARGO:-cargo}
target_dir=${CARGO_TARGET_DIR:-$root/target}

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

case $(uname -s)/$(uname -m) in
Linux/x86_64) target=x86_64-unknown-linux-gnu ;;
Linux/aarch64) target=aarch64-unknown-linux-gnu ;;
*) fail "$(uname -s) on $(uname -m) cannot build the images" ;;
esac

cd "$root"
# In a folder of its own: Cargo would build what this and the operator's image have in common anew at every turn. Nobody
# waits for these programs, so their build may be quick.
static=$target_dir/apps
CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    RUSTFLAGS='-C target-feature=+crt-static' \
    "$cargo" build --release --locked --package pod-reloader-e2e-apps --target "$target" --target-dir "$static"
"$cargo" build --locked --package pod-reloader-e2e --bin lab
pack() { "$target_dir/debug/lab" image files "$@"; }

mkdir -p target/image
pack --name localhost/pod-reloader-e2e/apps:1 --file "$static/$target/release/apps=/apps" \
    --entrypoint /apps target/image/apps.tar
# The next release of a demonstration, which differs by nothing but its name.
pack --name localhost/pod-reloader-e2e/apps:2 --file "$static/$target/release/apps=/apps" \
    --entrypoint /apps target/image/apps-next.tar

# What is in it hardly changes. It is built once for each version of what builds it.
version=$(cat "${BASH_SOURCE[0]}" e2e/apps/postgres/* | sha256sum | cut -c1-12)
files=$cache/postgres/$version.tar
if [ ! -s "$files" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "no image of PostgreSQL: building it takes root"
        exit 0
    elif ! command -v mmdebstrap >/dev/null; then
        echo "no image of PostgreSQL: there is no mmdebstrap (run e2e/node/packages.sh)"
        exit 0
    fi
    echo "unpacking Debian's PostgreSQL (once, a minute)"
    rm -rf "$cache/postgres"
    mkdir -p "$cache/postgres"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    # Only unpacked: none of the packages' scripts run.
    if ! mmdebstrap --quiet --format=directory --variant=extract --include=postgresql-15,coreutils,dash,libc-bin bookworm \
        "$scratch" /etc/apt/sources.list.d/debian.sources; then
        echo "no image of PostgreSQL: it takes the package sources of Debian 12, in /etc/apt/sources.list.d/debian.sources"
        exit 0
    fi
    (
        cd "$scratch"
        # What a server does not need: most of it is the compiler for queries.
        rm -rf usr/share/{doc,man,locale,i18n,perl*} usr/bin/perl* usr/lib/*/perl* usr/lib/*/lib{perl,LLVM,z3}* \
            usr/lib/postgresql/15/lib/{bitcode,llvmjit*} var/cache var/lib/apt var/lib/dpkg
        ln -sf dash bin/sh
        # Debian's are scripts in Perl that look for a cluster of theirs.
        ln -sf /usr/lib/postgresql/15/bin/{psql,pg_isready} bin/
        mkdir -p tmp var/lib/postgresql/data
        chmod 1777 tmp var/lib/postgresql/data
        printf '%s\n' root:x:0:0:root:/root:/bin/sh postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/sh >etc/passwd
        install -m 0755 "$root/e2e/apps/postgres/entrypoint.sh" entrypoint.sh
    )
    tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory "$scratch" --file "$files.tmp" .
    mv "$files.tmp" "$files"
fi
pack --name localhost/pod-reloader-e2e/postgres:15 --layer "$files" --user 999:999 \
    --stop-signal SIGINT --entrypoint /entrypoint.sh target/image/postgres.tar
