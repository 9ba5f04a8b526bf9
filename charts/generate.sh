#!/usr/bin/env bash
# Makes what is generated of the chart, from the comments in its values.yaml: values.schema.json and README.md.
# With --check nothing is written: it fails if these files are not what would be made.
set -euo pipefail

charts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
chart=$charts/pod-reloader
bin=${POD_RELOADER_TOOLS:-$charts/../e2e/bin}
generated=(values.schema.json README.md)

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

case ${1-} in
'' | --check) ;;
*) fail "unknown argument $1; usage: charts/generate.sh [--check]" ;;
esac
for tool in helm-values-schema helm-docs; do
    [ -x "$bin/$tool" ] || fail "$bin/$tool is missing: run e2e/tools/build.sh $tool"
done

# Both write beside their input; in a copy a failure leaves nothing half made.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$chart"/{Chart.yaml,values.yaml,README.md.gotmpl} "$work"

run() {
    local output
    output=$(cd "$work" && "$@" 2>&1) || fail "$(basename "$1"): $output"
}
(cd "$work" && "$bin/helm-values-schema" values.yaml > values.schema.json)
run "$bin/helm-docs" --log-level warning --sort-values-order file

for file in "${generated[@]}"; do
    [ -s "$work/$file" ] || fail "$file was not made"
    if [ "${1-}" = --check ]; then
        cmp -s "$work/$file" "$chart/$file" ||
            fail "charts/pod-reloader/$file is not what values.yaml gives: run charts/generate.sh and commit the result"
    else
        cp "$work/$file" "$chart/$file"
    fi
done
