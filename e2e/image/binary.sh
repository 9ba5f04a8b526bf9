#!/usr/bin/env bash
# Builds the operator for release: static, stripped, the same bytes wherever it is built with the same toolchain, and
# with the list of its crates inside (`cargo audit bin` and scanners of images read it).
#
#   binary.sh [--check] [ARCHITECTURE]   amd64 or arm64; this machine's by default
#
# The result is target/TRIPLE/release/pod-reloader, and this machine's is copied to target/release/pod-reloader as
# well. --check only says what is missing for that architecture, and fails if anything is.
set -euo pipefail

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
auditable_version=0.7.7

# Elsewhere there is no image, but there is a demonstration.
if [ $# = 0 ] && ! (machine_architecture) >/dev/null 2>&1; then
    echo "a static, reproducible binary takes Linux on amd64 or arm64; this one is for this machine only"
    cd "$root"
    exec "$cargo" build --release --locked --package pod-reloader
fi

only_check=
[ "${1:-}" != --check ] || { only_check=1; shift; }
machine=$(machine_architecture)
architecture=${1:-$machine}
cpu=$(processor "$architecture")
target=$cpu-unknown-linux-gnu
linker=$(linker "$architecture") libc=libc6-dev
[ "$architecture" = "$machine" ] || libc+=-$architecture-cross

missing=()
[ -d "$(rustc --print target-libdir --target "$target")" ] ||
    missing+=("Rust's standard library for $target: rustup target add $target")
if ! command -v "$linker" >/dev/null; then
    missing+=("the linker $linker: apt-get install gcc-${cpu/_/-}-linux-gnu $libc")
elif [ ! -e "$("$linker" -print-file-name=libc.a)" ]; then
    missing+=("the static C library for $architecture: apt-get install $libc")
fi
if [ ${#missing[@]} -gt 0 ]; then
    printf 'for %s this machine lacks\n' "$architecture" >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
fi
[ -z "$only_check" ] || exit 0

cd "$root"
output=${CARGO_TARGET_DIR:-target}
mkdir -p "$output"
output=$(cd "$output" && pwd)
cargo_tool cargo-auditable "$auditable_version"

# Wherever sources and results lie, the binary has one name for it.
"$cargo" fetch --locked --target "$target" --quiet
maps=("$output=/target" "$root=/src")
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do maps+=("${registry%/}=/crates"); done
sysroot=$(rustc --print sysroot) commit=$(rustc --version --verbose | sed -n 's/^commit-hash: //p')
maps+=("$sysroot/lib/rustlib/src/rust=/rustc/$commit")
# Of several that match, rustc takes the last, and the C compiler, too.
rustflags=--codegen=target-feature=+crt-static cflags=
for ((i = ${#maps[@]} - 1; i >= 0; i--)); do
    [[ ${maps[i]} != *[[:space:]]* ]] || fail "blanks in a folder's name are not supported here: ${maps[i]%=*}"
    rustflags+=" --remap-path-prefix=${maps[i]}"
    cflags+=" -ffile-prefix-map=${maps[i]}"
done

# Half a megabyte of relocations becomes a few kilobytes. The C library's start code has to know that form, or the
# binary would crash before its main; a linker that does not know it says so and goes on without.
glibc=$(glibc_version "$architecture")
if printf '2.36\n%s\n' "$glibc" | sort --check=quiet --version-sort; then
    rustflags+=" --codegen=link-arg=-Wl,-z,pack-relative-relocs"
fi

# The wrapper is named without its folder, which Cargo would make part of the names of symbols; `cargo auditable` would
# name it in full. The arguments are those that concern it.
environment=(
    RUSTC_WORKSPACE_WRAPPER=cargo-auditable
    'CARGO_AUDITABLE_ORIG_ARGS={"offline":false,"locked":true,"frozen":false,"config":[]}'
    CARGO_INCREMENTAL=0
    "CFLAGS_${target//-/_}=${cflags# }"
    # With a target, even the machine's own, the flags are not for build scripts and derive macros, which must be dynamic.
    "RUSTFLAGS=$rustflags"
)
# Named for this machine, it would be that of build scripts and derive macros as well, and these would be built anew at
# each turn from one architecture to the other.
[ "$architecture" = "$machine" ] || environment+=("CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_LINKER=$linker")
# Build scripts run again when the date of the image is another; nothing of it is in the binary.
env --unset=SOURCE_DATE_EPOCH --unset=CARGO_ENCODED_RUSTFLAGS --unset=CARGO_BUILD_TARGET "${environment[@]}" \
    "$cargo" build --release --locked --package pod-reloader --target "$target" --target-dir "$output"

if [ "$architecture" = "$machine" ]; then
    mkdir -p "$output/release"
    # By another name first: a copy that runs cannot be written to.
    cp "$output/$target/release/pod-reloader" "$output/release/.pod-reloader"
    mv "$output/release/.pod-reloader" "$output/release/pod-reloader"
fi
