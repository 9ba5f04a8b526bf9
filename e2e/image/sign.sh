#!/usr/bin/env bash
# Signs what push.sh has pushed, image and attachments, and the chart beside it:
#
#   sign.sh REGISTRY [LAYOUT]
#   sign.sh --check             is there a key? Nobody should wait for a build only to hear that there is none.
#
#   COSIGN_KEY       private key: a file of `cosign generate-key-pair` (COSIGN_PASSWORD has its password), or the address
#                    of a key in a KMS (awskms://, gcpkms://, azurekms://, hashivault://) or in a cluster (k8s://)
#   COSIGN_KEYLESS   1: no key, but the identity that the environment has by OIDC (Sigstore's public instances)
#   PLAIN_HTTP       1: the registry has no TLS
#
# Without one of the first two nothing is signed, and that is said. With a key nothing is sent to a transparency log.
set -euo pipefail

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
registry=${1:?usage: sign.sh REGISTRY, such as registry.example.com/team} registry=${registry%/}

if [ -z "${COSIGN_KEY:-}" ] && [ "${COSIGN_KEYLESS:-}" != 1 ]; then
    echo "warning: nothing is signed, since there is no key (COSIGN_KEY=..., or COSIGN_KEYLESS=1 in CI; docs/releasing.md)" >&2
    exit 0
fi
[ -z "${COSIGN_KEY:-}" ] || [[ $COSIGN_KEY = *://* ]] || [ -r "$COSIGN_KEY" ] || fail "cannot read the key $COSIGN_KEY"
[ "$registry" != --check ] || exit 0

version=$(product_version)
layout=${2:-$root/target/image/pod-reloader-$version}
oras=${ORAS:-$root/e2e/bin/oras} cosign=${COSIGN:-$root/e2e/bin/cosign}
for tool in "$oras" "$cosign"; do
    command -v "$tool" >/dev/null || fail "$tool is missing: run e2e/tools/build.sh ${tool##*/}"
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

with=(--yes)
plain=()
[ -z "${PLAIN_HTTP:-}" ] || { with+=(--allow-http-registry); plain=(--plain-http); }
if [ -n "${COSIGN_KEY:-}" ]; then
    # Cosign asks for a password even if the key has none.
    export COSIGN_PASSWORD=${COSIGN_PASSWORD-}
    printf '{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}' >"$scratch/signing.json"
    with+=(--key "$COSIGN_KEY" --signing-config "$scratch/signing.json")
    # Nor is anything asked there: without this, the roots of trust of Sigstore's public instances are.
    printf '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}' >"$scratch/root.json"
    with+=(--trusted-root "$scratch/root.json")
fi

image=$registry/pod-reloader
index=$("$oras" resolve --oci-layout "$layout:v$version")
"$cosign" sign "${with[@]}" --recursive "$image@$index"
while read -r digest type file; do
    "$cosign" attest "${with[@]}" --type "$type" --predicate "$file" "$image@$digest"
done <"$layout.attestations"
printf 'signed %s@%s and its attachments\n' "$image" "$index"

# Helm turns the chart's version into its tag.
if chart=$("$oras" resolve "${plain[@]}" "$image:$version" 2>"$scratch/error"); then
    "$cosign" sign "${with[@]}" "$image@$chart"
    printf 'signed the chart %s@%s\n' "$image" "$chart"
else
    printf 'warning: the chart is not signed, since it is not there: %s\n' "$(tail -n 1 "$scratch/error")" >&2
fi
