#!/usr/bin/env bash
# Makes one OCI image layout of the images of several architectures, with what goes with them attached:
#
#   index.sh OUTPUT NAME LAYOUT...   NAME is where it will be found: registry.example.com/team/pod-reloader
#
# Each LAYOUT is one of pack.sh's; build.sh's documents lie beside it. Attached are (as referrers: manifests whose
# `subject` is the image) to each image its bills of materials and its provenance, and to the index those of all. The
# same images give the same bytes.
#
#   SOURCE_URL     where the source is published
#   BUILDER_ID     who builds: the address of a service or a workflow, for the provenance
#   INVOCATION_ID  the run of that, if it has an address
#   BUILDER_IMAGE  the image that it is built in, as NAME@sha256:DIGEST
#
# Beside OUTPUT, OUTPUT.attestations lists what sign.sh is to vouch for: digest, type and file.
set -euo pipefail

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# -ge 3 ] || fail "usage: index.sh OUTPUT NAME LAYOUT..."
output=$1 name=$2
shift 2
oras=${ORAS:-$root/e2e/bin/oras}
command -v "$oras" >/dev/null || fail "$oras is missing: run e2e/tools/build.sh oras"
lab=$(lab_program)

version=$(product_version)
set_epoch
digest_of() { sha256sum "$1" | cut -d' ' -f1; }
label() { tr ',' '\n' <"$1" | sed -n "s/.*\"org.opencontainers.image.$2\":\"\([^\"]*\)\".*/\1/p" | head -n 1; }

arguments=(--epoch "$SOURCE_DATE_EPOCH" --source "${SOURCE_URL:-}" --builder "${BUILDER_ID:-}"
    --invocation "${INVOCATION_ID:-}" --revision "$(source_revision)"
    --file "Cargo.lock=$(digest_of "$root/Cargo.lock")" --file "Dockerfile=$(digest_of "$root/Dockerfile")"
    --tool "rustc=$(rustc --version | cut -d' ' -f2-)")
if [ -n "${BUILDER_IMAGE:-}" ]; then
    [[ $BUILDER_IMAGE =~ ^(.+)@sha256:([0-9a-f]{64})$ ]] || fail "BUILDER_IMAGE must be NAME@sha256:DIGEST, not $BUILDER_IMAGE"
    arguments+=(--base "${BASH_REMATCH[1]}=${BASH_REMATCH[2]}")
fi

rm -rf "$output" "$output".{attestations,documents}
mkdir -p "$output.documents"
output=$(cd "$(dirname "$output")" && pwd)/$(basename "$output")
attest() { printf '%s %s %s\n' "$1" "$2" "$3" >>"$output.attestations"; }

# Attaches files of one type to an image or an index: attach DIGEST TYPE FILE...
attach() {
    local digest=$1 type=$2 file files=()
    shift 2
    for file; do files+=("$(basename "$file"):$type"); done
    # By their bare names, which are kept as titles.
    (cd "$(dirname "$1")" && "$oras" attach --no-tty --oci-layout "$output@$digest" --artifact-type "$type" \
        --annotation "org.opencontainers.image.created=$created" "${files[@]}") >/dev/null
}

# What is linked in depends on the compiler for the architecture, if there is one: the image may come from elsewhere.
tools() {
    local compiler
    compiler=$(linker "$1")
    ! command -v "$compiler" >/dev/null ||
        printf '%s\n' --tool "$1/cc=$("$compiler" --version | head -n 1)" --tool "$1/glibc=$(glibc_version "$1")"
}

digests=() all=() byproducts=() boms=()
for layout; do
    digest=$(sed 's/.*"digest":"\(sha256:[0-9a-f]*\)".*/\1/' "$layout/index.json")
    [[ $digest = sha256:* ]] || fail "$layout is not a layout of pack.sh"
    architecture=$(sed 's/.*"architecture":"\([^"]*\)".*/\1/' "$layout/index.json")
    manifest=$layout/blobs/sha256/${digest#sha256:}
    "$oras" cp --no-tty --from-oci-layout "$layout@$digest" --to-oci-layout "$output@$digest" >/dev/null
    digests+=("$digest")
    products=()
    for format in "cyclonedx cdx application/vnd.cyclonedx+json" "spdxjson spdx application/spdx+json"; do
        read -r type suffix media <<<"$format"
        file=$layout.$suffix.json
        [ -e "$file" ] || fail "$file is missing: run make image"
        cp "$file" "$output.documents/"
        file=$output.documents/$(basename "$file")
        attach "$digest" "$media" "$file"
        attest "$digest" "$type" "$file"
        boms+=("$type $media $file")
        products+=(--byproduct "$(basename "$file")=$(digest_of "$file")")
    done
    statement=$output.documents/$(basename "$layout").intoto.json
    predicate=$output.documents/$(basename "$layout").provenance.json
    mapfile -t subject < <(tools "$architecture")
    subject+=(--architecture "$architecture" --subject "$name=${digest#sha256:}")
    "$lab" documents provenance "${arguments[@]}" "${subject[@]}" "${products[@]}" --predicate "$predicate" >"$statement"
    attach "$digest" application/vnd.in-toto+json "$statement"
    attest "$digest" slsaprovenance1 "$predicate"
    all+=("${subject[@]}") byproducts+=("${products[@]}")
    [ -n "${first:-}" ] || first=$manifest
done

annotations=(--annotation "org.opencontainers.image.created=$created")
for key in title description licenses version revision source; do
    value=$(label "$first" "$key")
    [ -z "$value" ] || annotations+=(--annotation "org.opencontainers.image.$key=$value")
done
"$oras" manifest index create --oci-layout "$output:v$version" "${annotations[@]}" "${digests[@]}" >/dev/null
index=$("$oras" resolve --oci-layout "$output:v$version")
for type in cyclonedx spdxjson; do
    files=()
    for bom in "${boms[@]}"; do
        read -r kind media_of file <<<"$bom"
        [ "$kind" = $type ] || continue
        media=$media_of
        files+=("$file")
        attest "$index" "$kind" "$file"
    done
    attach "$index" "$media" "${files[@]}"
done
statement=$output.documents/pod-reloader-$version.intoto.json
predicate=$output.documents/pod-reloader-$version.provenance.json
"$lab" documents provenance "${arguments[@]}" "${all[@]}" --subject "$name=${index#sha256:}" "${byproducts[@]}" \
    --predicate "$predicate" >"$statement"
attach "$index" application/vnd.in-toto+json "$statement"
attest "$index" slsaprovenance1 "$predicate"
printf '%s:v%s for %s architecture(s): %s, in %s\n' "$name" "$version" $# "$index" "$output"
