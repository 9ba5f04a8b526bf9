#!/usr/bin/env bash
# Puts the tools that the chart and the tests with other software need into e2e/bin: all of them, or those named.
#
# Each has a folder with a go.mod and go.sum of its own, since their dependencies disagree on versions. They are built
# into a per-user cache that e2e/bin links to, so that a second clone on the machine builds nothing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$here/../bin
caches=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/pod-reloader/tools
all=(coredns helm helm-unittest helm-docs helm-values-schema registry crane oras cosign cert-manager helm3 argo-rollouts)

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Prints the version of a module that a tool's go.mod pins.
pinned() {
    local version
    version=$(awk -v module="$2" '$1 == "require" {$1 = $2; $2 = $3} $1 == module {print $2; exit}' "$here/$1/go.mod")
    [ -n "$version" ] || fail "$1/go.mod does not pin $2"
    printf '%s\n' "$version"
}

# Helm 3 takes the Kubernetes version that charts see without a cluster from here, and claims 1.20 otherwise.
# Helm 4 reads it from its own build information.
helm3_capabilities() {
    local minor package flags=
    minor=$(pinned "$1" k8s.io/client-go) || exit; minor=${minor#v0.}; minor=${minor%%.*}
    for package in pkg/chartutil pkg/lint/rules; do
        flags+=" -X helm.sh/helm/v3/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/$package.k8sVersionMinor=$minor"
    done
    printf '%s\n' "$flags"
}

# Sets `package`, `version` and `flags` for a tool. Without their flags the tools do not know their own version.
describe() {
    local module
    case $1 in
    helm)
        module=helm.sh/helm/v4 package=$module/cmd/helm version=$(pinned "$1" $module)
        flags="-X $module/internal/version.version=$version -X $module/internal/version.gitTreeState=clean"
        ;;
    helm3)
        module=helm.sh/helm/v3 package=$module/cmd/helm version=$(pinned "$1" $module)
        flags="-X $module/internal/version.version=$version -X $module/internal/version.gitTreeState=clean"
        flags+=$(helm3_capabilities "$1")
        ;;
    helm-unittest)
        module=github.com/helm-unittest/helm-unittest package=$module/cmd/helm-unittest version=$(pinned "$1" $module)
        flags="-X $module/internal/build.version=${version#v}$(helm3_capabilities "$1")"
        ;;
    helm-docs)
        module=github.com/norwoodj/helm-docs package=$module/cmd/helm-docs version=$(pinned "$1" $module)
        flags="-X main.version=${version#v}"
        ;;
    helm-values-schema)
        package=. version= flags=
        ;;
    coredns)
        module=github.com/coredns/coredns package=. version=$(pinned "$1" $module)
        flags=
        ;;
    registry)
        module=github.com/distribution/distribution/v3 package=$module/cmd/registry version=$(pinned "$1" $module)
        flags="-X $module/version.version=$version -X $module/version.mainpkg=$module"
        ;;
    crane)
        module=github.com/google/go-containerregistry package=$module/cmd/crane version=$(pinned "$1" $module)
        flags="-X $module/cmd/crane/cmd.Version=${version#v} -X $module/pkg/v1/remote/transport.Version=${version#v}"
        ;;
    oras)
        module=oras.land/oras package=$module/cmd/oras version=$(pinned "$1" $module)
        flags="-X $module/internal/version.Version=${version#v} -X $module/internal/version.GitTreeState=clean"
        ;;
    cosign)
        # It reads its version from Go's build information.
        module=github.com/sigstore/cosign/v3 package=$module/cmd/cosign version=$(pinned "$1" $module)
        flags=
        ;;
    cert-manager)
        module=github.com/cert-manager/cert-manager package=. version=$(pinned "$1" $module)
        flags="-X $module/pkg/util.AppVersion=$version"
        ;;
    argo-rollouts)
        module=github.com/argoproj/argo-rollouts package=$module/cmd/rollouts-controller version=$(pinned "$1" $module)
        flags="-X $module/utils/version.version=${version#v}"
        ;;
    *) fail "there is no tool $1; there are: ${all[*]}" ;;
    esac
}

link() {
    ln -sfn "$cache/$1" "$bin/$1"
    [ "$1" != cert-manager ] || ln -sfn "$cache/crds.yaml" "$bin/cert-manager-crds.yaml"
}

put() {
    local name=$1 package version flags sum cache temporary began=$SECONDS
    describe "$name"
    sum=$({ printf '%s\n' "$package" "$flags"; cd "$here/$name"; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; } | sha256sum | cut -c1-12)
    cache=$caches/$name-$sum
    if [ -x "$cache/$name" ]; then link "$name"; return 0; fi

    command -v go >/dev/null || fail "Go is needed to build $name (1.26 or newer, https://go.dev/dl)"
    mkdir -p "$cache"
    # One build of a tool at a time: a second one waits here and then finds the work done.
    exec 9>"$cache/.lock"
    flock 9
    if [ ! -x "$cache/$name" ]; then
        printf '  %-20s %-10s ' "$name" "$version"
        # Into a temporary name first: a build that is interrupted leaves nothing that looks finished.
        temporary=$cache/.$name.tmp
        (cd "$here/$name" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w $flags" -o "$temporary" "$package")
        # Before the binary gets its name, which says that all is there.
        [ "$name" != cert-manager ] || write_crds
        mv "$temporary" "$cache/$name"
        printf '%4d s\n' $((SECONDS - began))
    fi
    exec 9>&-
    link "$name"
}

# The module holds them, but no package of it embeds them.
write_crds() {
    local module file
    module=$(cd "$here/cert-manager" && go list -mod=readonly -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)
    for file in "$module"/deploy/crds/*.yaml; do
        echo ---
        cat "$file"
    done >"$cache/crds.yaml"
}

[ $# -gt 0 ] || set -- "${all[@]}"
# Before the first build, so that a misspelt name does not wait for the others.
for name; do describe "$name"; done
mkdir -p "$bin"
for name; do put "$name"; done
