#!/usr/bin/env bash
# Packs a static binary as the image that the last stage of the Dockerfile describes, without a container engine:
#
#   pack.sh BINARY ARCHITECTURE OUTPUT   makes OUTPUT, a directory in the OCI image layout, and OUTPUT.tar, the same
#
# The tar is an archive of `docker save` as well, so that `docker load`, `podman load`, `ctr images import`, `crane push`
# and `skopeo copy oci-archive:` all take it. The same binary at the same commit gives the same bytes.
#
#   IMAGE              name of the image, with its registry if it has one (pod-reloader)
#   NOTICES            file with the licences of what is in the binary (made by notices.sh)
#   SOURCE_URL         where the source is published, for the labels (left out if empty)
#   SOURCE_DATE_EPOCH  date of everything in the image (that of the last commit)
set -euo pipefail
umask 022

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
binary=$1 architecture=$2 output=$3
image=${IMAGE:-pod-reloader}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
layout=$scratch/layout rootfs=$scratch/rootfs
mkdir -p "$layout/blobs/sha256" "$rootfs"

version=$(product_version)
revision=$(source_revision)
set_epoch
notices=${NOTICES:-}
if [ -z "$notices" ]; then
    notices=$scratch/notices
    "$root/e2e/image/notices.sh" "$architecture" >"$notices"
fi

# One instruction a line, without comments.
last_stage() {
    sed -e '/^[[:space:]]*#/d' -e ':more' -e '/\\$/{N;s/\\\n[[:space:]]*//;b more' -e '}' "$root/Dockerfile" |
        awk '$1 == "FROM" {stage = ""} NF {stage = stage $0 "\n"} END {printf "%s", stage}'
}

user='' entrypoint='' ports='' labels=''

add_label() {
    [ -n "$2" ] || return 0
    [[ $2 != *[\"\\]* ]] || fail "the label $1 must not have quotes or backslashes: $2"
    labels+="${labels:+,}\"$1\":\"$2\""
}

add_labels() {
    local rest=$1 key value
    while [[ $rest =~ ^([a-z.]+)=\"([^\"]*)\"[[:space:]]*(.*)$ ]]; do
        key=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]} rest=${BASH_REMATCH[3]}
        value=${value//\$\{VERSION\}/"$version"}
        value=${value//\$\{REVISION\}/"$revision"}
        value=${value//\$\{CREATED\}/"$created"}
        add_label "$key" "$value"
    done
    [ -z "$rest" ] || fail "Dockerfile: cannot read the labels from: $rest"
}

add_file() {
    [[ $1 =~ ^(--from=build )?--chmod=([0-7]+)\ ([^ ]+)\ (/[^ ]+[^/ ])$ ]] || fail "Dockerfile: cannot read COPY $1"
    local source=${BASH_REMATCH[1]}${BASH_REMATCH[3]}
    case $source in
    --from=build*/pod-reloader) source=$binary ;;
    --from=build*/THIRD-PARTY.txt) source=$notices ;;
    --from=*) fail "Dockerfile: $0 does not know how to make ${BASH_REMATCH[3]}" ;;
    *) source=$root/$source ;;
    esac
    install -D --mode="${BASH_REMATCH[2]}" "$source" "$rootfs${BASH_REMATCH[4]}"
}

while read -r instruction rest; do
    case $instruction in
    FROM) [ "$rest" = scratch ] || fail "Dockerfile: the last stage is to start from scratch, not $rest" ;;
    ARG) [[ $rest != VERSION=* || $rest = VERSION=$version ]] || fail "Dockerfile: $rest, but Cargo.toml has $version" ;;
    COPY) add_file "$rest" ;;
    LABEL) add_labels "$rest" ;;
    EXPOSE) for port in $rest; do ports+="${ports:+,}\"$port/tcp\":{}"; done ;;
    USER) user=$rest ;;
    ENTRYPOINT) entrypoint=$rest ;;
    *) fail "Dockerfile: $instruction in the last stage means nothing to $0" ;;
    esac
done < <(last_stage)
add_label org.opencontainers.image.source "${SOURCE_URL:-}"

archive() { (cd "$1" && tar --create --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -- *); }

# Moves a file to the blobs, and sets `digest` and `size`.
keep() {
    digest=$(sha256sum <"$1") digest=${digest%% *}
    size=$(stat --format=%s "$1")
    mv "$1" "$layout/blobs/sha256/$digest"
}

archive "$rootfs" >"$scratch/layer"
diff_id=$(sha256sum <"$scratch/layer") diff_id=${diff_id%% *}
gzip -9 --no-name "$scratch/layer"
keep "$scratch/layer.gz"
layer=$digest layer_size=$size

platform="\"architecture\":\"$architecture\",\"os\":\"linux\""
printf '{"created":"%s",%s,"config":{"User":"%s","ExposedPorts":{%s},"Entrypoint":%s,"WorkingDir":"/","Labels":{%s}},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"%s","created_by":"Dockerfile"}]}' \
    "$created" "$platform" "$user" "$ports" "$entrypoint" "$labels" "$diff_id" "$created" >"$scratch/config"
keep "$scratch/config"
config=$digest config_size=$size

type=application/vnd.oci.image
printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":{"mediaType":"%s.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"%s.layer.v1.tar+gzip","digest":"sha256:%s","size":%s}],"annotations":{%s}}' \
    $type $type "$config" "$config_size" $type "$layer" "$layer_size" "$labels" >"$scratch/manifest"
keep "$scratch/manifest"
manifest=$digest manifest_size=$size

# containerd and Podman take the name as it is here, and a kubelet asks for it in full.
case $image in
*.*/* | *:*/* | localhost/*) name=$image ;;
*/*) name=docker.io/$image ;;
*) name=docker.io/library/$image ;;
esac
printf '{"schemaVersion":2,"mediaType":"%s.index.v1+json","manifests":[{"mediaType":"%s.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{%s},"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' \
    $type $type "$manifest" "$manifest_size" "$platform" "$name:v$version" "v$version" >"$layout/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
printf '[{"Config":"blobs/sha256/%s","RepoTags":["%s"],"Layers":["blobs/sha256/%s"]}]' \
    "$config" "$image:v$version" "$layer" >"$layout/manifest.json"

mkdir -p "$(dirname "$output")"
archive "$layout" >"$output.tar.tmp"
rm -rf "$output"
mv "$layout" "$output"
mv "$output.tar.tmp" "$output.tar"
printf '%s:%s for linux/%s, sha256:%s: %s kB compressed, in %s.tar\n' \
    "$image" "v$version" "$architecture" "$manifest" $((layer_size / 1000)) "$output"
