# What the scripts that build, pack and publish the image have in common. They source it.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cargo=${CARGO:-cargo}
caches=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/pod-reloader/tools

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# As images call the architecture of this machine.
machine_architecture() {
    case $(uname -s)/$(uname -m) in
    Linux/x86_64) echo amd64 ;;
    Linux/aarch64) echo arm64 ;;
    *) fail "$(uname -s) on $(uname -m) cannot build the image; the Dockerfile can" ;;
    esac
}

# The processor of an architecture, as Rust and GNU call it.
processor() {
    case $1 in
    amd64) echo x86_64 ;;
    arm64) echo aarch64 ;;
    *) fail "there is no build for the architecture '$1'; there are amd64 and arm64" ;;
    esac
}

# The C compiler that links for an architecture.
linker() {
    if [ "$1" = "$(machine_architecture)" ]; then echo cc; else echo "$(processor "$1")-linux-gnu-gcc"; fi
}

glibc_version() {
    echo '#include <features.h>' | "$(linker "$1")" -E -dM - |
        awk '$2 == "__GLIBC__" {major = $3} $2 == "__GLIBC_MINOR__" {minor = $3} END {print major "." minor}'
}

product_version() {
    sed -n '/^\[workspace\.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml"
}

# Everything in the image has the date of the last commit, unless it is given.
# shellcheck disable=SC2034
set_epoch() {
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}
    export SOURCE_DATE_EPOCH
    created=$(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
}

# The commit that is built. A commit that the files differ from must not be named as what they are.
source_revision() {
    local revision
    revision=$(git -C "$root" rev-parse HEAD 2>/dev/null) || return 0
    git -C "$root" diff --quiet HEAD -- || revision+=-dirty
    printf '%s\n' "$revision"
}

# The lab program, which packs images and writes their documents.
lab_program() {
    local lab=${LAB:-${CARGO_TARGET_DIR:-$root/target}/debug/lab}
    [ -x "$lab" ] || fail "$lab is missing: run make image"
    printf '%s\n' "$lab"
}

# Installs a tool of Cargo's world, of one version, into the per-user cache, with a link in e2e/bin, and puts its
# folder in front of PATH.
cargo_tool() {
    local folder=$caches/$1-$2
    [ -x "$folder/bin/$1" ] ||
        (unset RUSTFLAGS CARGO_BUILD_TARGET CARGO_TARGET_DIR; "$cargo" install "$1" --version "$2" --locked --root "$folder")
    PATH=$folder/bin:$PATH
    mkdir -p "$root/e2e/bin"
    ln -sfn "$folder/bin/$1" "$root/e2e/bin/$1"
}
