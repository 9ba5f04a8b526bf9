#!/usr/bin/env bash
# Pushes the images of the examples' applications: push.sh registry.example.com/team
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
registry=${1:?a registry is needed} registry=${registry%/}
insecure=()
[ -z "${PLAIN_HTTP:-}" ] || insecure=(--insecure)
for image in apps:1 postgres:15; do
    archive=$root/target/image/${image%:*}.tar
    [ -e "$archive" ] || { echo "there is no $archive to push"; continue; }
    "$root/e2e/bin/crane" push "${insecure[@]}" "$archive" "$registry/$image"
done
