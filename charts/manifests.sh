#!/usr/bin/env bash
# Renders the chart for those who do without Helm (`make manifests`), into target/manifests:
#   install.yaml   everything, with its Namespace: kubectl apply -f
#   kustomize/     the same as a Kustomize base: one file per kind of object, and kustomization.yaml
# IMAGE=registry.example.com/team/pod-reloader:v1.2.3 says where the image is; VALUES is a file with values of the chart;
# OUT is another folder than target/manifests, NAMESPACE another namespace than pod-reloader.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

helm=${HELM:-e2e/bin/helm}
[ -x "$helm" ] || command -v "$helm" >/dev/null || { echo "error: $helm is missing: run e2e/tools/build.sh helm" >&2; exit 1; }
out=${OUT:-target/manifests}
namespace=${NAMESPACE:-pod-reloader}
rm -rf "$out"
mkdir -p "$out/kustomize"

args=()
if [ -n "${IMAGE:-}" ]; then
    name=${IMAGE##*/}
    case $name in
        *@*) args+=(--set "image.repository=${IMAGE%@*}" --set-string "image.tag=${IMAGE##*@}") ;;
        *:*) args+=(--set "image.repository=${IMAGE%:*}" --set-string "image.tag=${IMAGE##*:}") ;;
        *) args+=(--set "image.repository=$IMAGE") ;;
    esac
fi
if [ -n "${VALUES:-}" ]; then args+=(--values "$VALUES"); fi

rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT
"$helm" template pod-reloader charts/pod-reloader --namespace "$namespace" --no-hooks \
    --output-dir "$rendered" ${args[@]+"${args[@]}"} >/dev/null

cat > "$out/kustomize/namespace.yaml" <<NAMESPACE
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  labels:
    pod-security.kubernetes.io/enforce: restricted
NAMESPACE
for file in "$rendered"/pod-reloader/templates/*.yaml; do
    # Helm is not what manages these.
    sed -e '/^ *app\.kubernetes\.io\/managed-by: Helm$/d' -e '/^ *helm\.sh\/chart: /d' -e '/^# Source: /d' "$file" \
        > "$out/kustomize/$(basename "$file")"
done
{
    echo "apiVersion: kustomize.config.k8s.io/v1beta1"
    echo "kind: Kustomization"
    echo "resources:"
    (cd "$out/kustomize" && for file in *.yaml; do [ "$file" = kustomization.yaml ] || echo "- $file"; done)
} > "$out/kustomize/kustomization.yaml"

# The Namespace first: kubectl applies in this order.
{
    cat "$out/kustomize/namespace.yaml"
    for file in "$out"/kustomize/*.yaml; do
        case $(basename "$file") in namespace.yaml|kustomization.yaml) continue ;; esac
        [ "$(head -n 1 "$file")" = --- ] || echo ---
        cat "$file"
    done
} > "$out/install.yaml"
echo "$out/install.yaml and $out/kustomize"
