#!/usr/bin/env bash
# Packages the chart into target/chart/pod-reloader-<version>.tgz (`make chart`).
#
# REGISTRY=registry.example.com/team makes the image of that registry the package's default, so that whoever installs
# it from there need not say where the image is. With PUSH=1 the package is pushed to oci://$REGISTRY (`make publish`);
# PLAIN_HTTP=1 is for registries without TLS. OUT is another folder than target/chart.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

helm=${HELM:-e2e/bin/helm}
[ -x "$helm" ] || command -v "$helm" >/dev/null || { echo "error: $helm is missing: run e2e/tools/build.sh helm" >&2; exit 1; }
out=${OUT:-target/chart}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp -r charts/pod-reloader "$work/"
chart=$work/pod-reloader
if [ -n "${REGISTRY:-}" ]; then
    case $REGISTRY in
        *://*) echo "error: REGISTRY must be without a scheme, such as registry.example.com/team" >&2; exit 1 ;;
    esac
    sed -i "s|^  repository: pod-reloader\$|  repository: ${REGISTRY%/}/pod-reloader|" "$chart/values.yaml"
    sed -i "s|^  pod-reloader/image-repository: .*|  pod-reloader/image-repository: ${REGISTRY%/}/pod-reloader|" "$chart/Chart.yaml"
    sed -i "s|^      image: pod-reloader:|      image: ${REGISTRY%/}/pod-reloader:|" "$chart/Chart.yaml"
    for file in values.yaml Chart.yaml; do
        grep -q "${REGISTRY%/}/pod-reloader" "$chart/$file" \
            || { echo "error: $file has no place for the image's repository" >&2; exit 1; }
    done
fi
cp LICENSE "$chart/"
mkdir -p "$out"
rm -f "$out"/*.tgz
"$helm" package "$chart" --destination "$out"

if [ -n "${PUSH:-}" ]; then
    [ -n "${REGISTRY:-}" ] || { echo "error: where to push? Set REGISTRY, such as registry.example.com/team" >&2; exit 1; }
    "$helm" push "$out"/pod-reloader-*.tgz "oci://${REGISTRY%/}" ${PLAIN_HTTP:+--plain-http}
fi
