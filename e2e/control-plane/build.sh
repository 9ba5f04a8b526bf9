#!/usr/bin/env bash
# Puts etcd, kube-apiserver, kube-controller-manager and kubectl into e2e/bin; with the argument `node` also kubelet,
# kube-proxy and kube-scheduler.
#
# The four are taken from KUBEBUILDER_ASSETS if that folder holds them; what is not there is built from the versions
# that go.mod pins and go.sum checks, into a per-user cache that e2e/bin links to, so that a second clone on the
# machine builds nothing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$here/../bin
control_plane=(etcd kube-apiserver kube-controller-manager kubectl)
node_tools=(kubelet kube-proxy kube-scheduler)
tools=("${control_plane[@]}")

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
case ${1:-} in
'') node= ;;
node) node=1 ;;
*) fail "there is no '$1'; there is: node" ;;
esac
have_all() { local t; for t in "${tools[@]}"; do [ -x "$1/$t" ] || return 1; done; }
link_from() {
    mkdir -p "$bin"
    local t
    for t in "${tools[@]}"; do ln -sfn "$1/$t" "$bin/$t"; done
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    if have_all "$KUBEBUILDER_ASSETS"; then
        link_from "$(cd "$KUBEBUILDER_ASSETS" && pwd)"
        [ -n "$node" ] || exit 0
        tools=()
    else
        echo "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS does not hold all of: ${tools[*]}; building them instead"
    fi
fi
[ -z "$node" ] || tools+=("${node_tools[@]}")

version=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" {print $3} $1 == "k8s.io/kubernetes" {print $2}' "$here/go.mod" | head -n 1)
[ -n "$version" ] || fail "go.mod does not pin k8s.io/kubernetes"
sum=$(cat "$here/go.mod" "$here/go.sum" "$here/build.sh" | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/pod-reloader/control-plane-$version-$sum
if have_all "$cache"; then link_from "$cache"; exit 0; fi

command -v go >/dev/null || fail "Go is needed to build the control plane (https://go.dev/dl), or point KUBEBUILDER_ASSETS at a folder with: ${control_plane[*]}"
mkdir -p "$cache"
# One build at a time: a second one waits here and then finds the work done.
exec 9>"$cache/.lock"
flock 9
if have_all "$cache"; then link_from "$cache"; exit 0; fi

minor=${version#v1.}; minor=${minor%%.*}
pkg=k8s.io/component-base/version
# Without these the server reports no usable version and some clients refuse it.
flags="-s -w -X $pkg.gitVersion=$version -X $pkg.gitMajor=1 -X $pkg.gitMinor=$minor -X $pkg.gitTreeState=clean"
echo "building Kubernetes $version (${tools[*]}) once for this user: up to 8 minutes on two cores, 2 more for a node"
started=$SECONDS
build() {
    local name=$1 package=$2 began=$SECONDS
    [ -x "$cache/$name" ] && return 0
    printf '  %-24s ' "$name"
    # Into a temporary name first: a build that is interrupted leaves nothing that looks finished.
    (cd "$here" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "$flags" -o "$cache/.$name.tmp" "$package")
    mv "$cache/.$name.tmp" "$cache/$name"
    printf '%4d s\n' $((SECONDS - began))
}
for tool in "${tools[@]}"; do
    case $tool in
    etcd) build etcd go.etcd.io/etcd/server/v3 ;;
    *) build "$tool" "k8s.io/kubernetes/cmd/$tool" ;;
    esac
done
echo "built in $((SECONDS - started)) s"
link_from "$cache"
