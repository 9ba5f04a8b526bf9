#!/usr/bin/env bash
# Makes the image for this machine's architecture, and its bill of materials, in target/image:
#
#   pod-reloader-VERSION-linux-ARCHITECTURE.tar        the image, for `docker load` and the like
#   pod-reloader-VERSION-linux-ARCHITECTURE            the same as a directory in the OCI image layout
#   pod-reloader-VERSION-linux-ARCHITECTURE.cdx.json   what is in the binary, in the format of CycloneDX
#
# pack.sh says which variables it takes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cyclonedx_version=0.5.9
cyclonedx=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/pod-reloader/tools/cargo-cyclonedx-$cyclonedx_version
cargo=${CARGO:-cargo}

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

case $(uname -s)/$(uname -m) in
Linux/x86_64) architecture=amd64 target=x86_64-unknown-linux-gnu ;;
Linux/aarch64) architecture=arm64 target=aarch64-unknown-linux-gnu ;;
*) fail "$(uname -s) on $(uname -m) cannot build the image; the Dockerfile can" ;;
esac

cd "$root"
version=$("$cargo" pkgid --package pod-reloader) version=${version##*[#@]}
output=$root/target/image/pod-reloader-$version-linux-$architecture
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

# With a target, even the machine's own, the flags are not for build scripts and derive macros, which must be dynamic.
RUSTFLAGS='-C target-feature=+crt-static' "$cargo" build --release --locked --package pod-reloader --target "$target"
e2e/image/pack.sh "${CARGO_TARGET_DIR:-target}/$target/release/pod-reloader" "$architecture" "$output"

[ -x "$cyclonedx/bin/cargo-cyclonedx" ] ||
    "$cargo" install cargo-cyclonedx --version "$cyclonedx_version" --locked --root "$cyclonedx"

# In a copy, since it writes a file beside the manifest of every binary in the workspace.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar --create Cargo.toml Cargo.lock crates e2e/Cargo.toml e2e/src e2e/apps/Cargo.toml e2e/apps/src tests/Cargo.toml tests/src tests/stub-api/Cargo.toml tests/stub-api/src | tar --extract --directory "$copy"
"$cyclonedx/bin/cargo-cyclonedx" cyclonedx --quiet --manifest-path "$copy/crates/pod-reloader/Cargo.toml" \
    --format json --spec-version 1.5 --describe binaries --target "$target" --no-build-deps

# It knows crates only; a scanner for vulnerabilities should know of what else was linked in.
component='{"type": "library", "bom-ref": "%s", "name": "%s", "version": "%s", "scope": "required", "licenses": [{"expression": "%s"}], "cpe": "cpe:2.3:a:%s:%s:*:*:*:*:*:*:*"},'
glibc=$(getconf GNU_LIBC_VERSION) glibc=${glibc#glibc }
rust=$(rustc --version) rust=${rust#rustc } rust=${rust%% *}
# shellcheck disable=SC2059
linked=$(printf "$component" glibc glibc "$glibc" LGPL-2.1-or-later gnu:glibc "$glibc" \
    rust-std rust-std "$rust" 'Apache-2.0 OR MIT' rust-lang:rust "$rust")
sed -e "s|file://$copy|file:///src|g" -e "s|^  \"components\": \[|&\n    $linked|" \
    "$copy/crates/pod-reloader/pod-reloader_bin.cdx.json" >"$output.cdx.json"
printf 'its bill of materials: %s.cdx.json\n' "$output"
