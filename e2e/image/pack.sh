#!/usr/bin/env bash
# Packs a static binary as the image that the last stage of the Dockerfile describes, without a container engine:
#
#   pack.sh BINARY ARCHITECTURE OUTPUT   makes OUTPUT, a directory in the OCI image layout, and OUTPUT.tar, the same
#
# The tar is an archive of `docker save` as well, so that `docker load`, `podman load`, `ctr images import`, `crane push`
# and `skopeo copy oci-archive:` all take it. The same binary at the same commit gives the same bytes. The lab program
# writes it; this says of which commit it is.
#
#   IMAGE              name of the image, with its registry if it has one (pod-reloader)
#   NOTICES            file with the licences of what is in the binary (made by notices.sh)
#   SOURCE_URL         where the source is published, for the labels (left out if empty)
#   SOURCE_DATE_EPOCH  date of everything in the image (that of the last commit)
#   LAB                the lab program (target/debug/lab)
set -euo pipefail

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
binary=$1 architecture=$2 output=$3
lab=$(lab_program)
set_epoch
notices=${NOTICES:-}
if [ -z "$notices" ]; then
    notices=$(mktemp)
    trap 'rm -f "$notices"' EXIT
    "$root/e2e/image/notices.sh" "$architecture" >"$notices"
fi
"$lab" image release --binary "$binary" --notices "$notices" --architecture "$architecture" \
    --name "${IMAGE:-pod-reloader}" --revision "$(source_revision)" --source-url "${SOURCE_URL:-}" \
    --epoch "$SOURCE_DATE_EPOCH" --created "$created" "$output"
