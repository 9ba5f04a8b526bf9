#!/usr/bin/env bash
# Makes the image of each architecture, and what goes with it, in target/image:
#
#   pod-reloader-VERSION-linux-ARCHITECTURE.tar         the image, for `docker load` and the like
#   pod-reloader-VERSION-linux-ARCHITECTURE             the same as a directory in the OCI image layout
#   pod-reloader-VERSION-linux-ARCHITECTURE.cdx.json    what is in the binary, in the format of CycloneDX
#   pod-reloader-VERSION-linux-ARCHITECTURE.spdx.json   the same in the format of SPDX
#   pod-reloader-VERSION-linux-ARCHITECTURE.crates.json the list of crates as it is in the binary itself
#
# ARCHITECTURES says which: this machine's unless it is set; "amd64 arm64" both, or a reason why not; "all" those that can
# be built here, and what is missing for the others. pack.sh says which other variables it takes.
set -euo pipefail

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cyclonedx_version=0.5.9
audit_info_version=0.5.4
here=$root/e2e/image

machine=$(machine_architecture)
read -ra architectures <<<"${ARCHITECTURES:-$machine}"
if [ "${architectures[*]}" = all ]; then
    architectures=()
    for architecture in amd64 arm64; do
        if "$here/binary.sh" --check "$architecture"; then
            architectures+=("$architecture")
        else
            printf 'warning: there will be no image for %s (ARCHITECTURES="amd64 arm64" makes this an error)\n' "$architecture" >&2
        fi
    done
    [ ${#architectures[@]} -gt 0 ] || fail "no image can be built here"
else
    # All of them first, so that nobody waits for one only to hear that there is no other.
    for architecture in "${architectures[@]}"; do
        "$here/binary.sh" --check "$architecture" || fail "the image for $architecture cannot be built here"
    done
fi

cd "$root"
set_epoch
version=$(product_version)
cargo_tool cargo-cyclonedx "$cyclonedx_version"
cargo_tool rust-audit-info "$audit_info_version"
"$cargo" build --quiet --locked --package pod-reloader-e2e --bin lab
lab=$(lab_program)
mkdir -p target/image
rust=$(rustc --version) rust=${rust#rustc } rust=${rust%% *}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# cargo-cyclonedx works in a copy, since it writes a file beside the manifest of every binary in the workspace.
copy=$scratch/copy
mkdir "$copy"
tar --create Cargo.toml Cargo.lock crates e2e/Cargo.toml e2e/src e2e/apps/Cargo.toml e2e/apps/src tests/Cargo.toml \
    tests/tests/*/main.rs tests/stub-api/Cargo.toml tests/stub-api/src | tar --extract --directory "$copy"

for architecture in "${architectures[@]}"; do
    target=$(processor "$architecture")-unknown-linux-gnu
    output=target/image/pod-reloader-$version-linux-$architecture
    "$here/binary.sh" "$architecture"
    binary=${CARGO_TARGET_DIR:-target}/$target/release/pod-reloader
    "$here/notices.sh" "$architecture" >"$scratch/notices"
    NOTICES=$scratch/notices "$here/pack.sh" "$binary" "$architecture" "$root/$output"

    # Read from the finished binary: a linker that dropped the list would go unnoticed otherwise.
    rust-audit-info "$binary" >"$output.crates.json" || fail "$binary does not have the list of its crates"
    cargo-cyclonedx cyclonedx --quiet --manifest-path "$copy/crates/pod-reloader/Cargo.toml" \
        --format json --spec-version 1.5 --describe binaries --target "$target" --no-build-deps
    "$lab" documents materials --from "$copy/crates/pod-reloader/pod-reloader_bin.cdx.json" --folder "$copy" \
        --binary "$binary" --glibc "$(glibc_version "$architecture")" --rust "$rust" --created "$created" "$output"
    printf 'its bill of materials: %s.cdx.json and .spdx.json\n' "$output"
done
printf '%s\n' "${architectures[@]}" >target/image/architectures
