#!/usr/bin/env bash
# Renews the copy of the advisory database: update.sh CLONE [FOLDER]
#
# CLONE is a clone of https://github.com/rustsec/advisory-db; FOLDER is where the copy goes, beside this file by default.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
clone=${1:?usage: update.sh CLONE [FOLDER], with a clone of https://github.com/rustsec/advisory-db}
folder=${2:-$here}
# Some of it is under licences that ask to be named.
mapfile -t files < <(git -C "$clone" ls-tree --name-only HEAD crates LICENSE.txt LICENSES)
git -C "$clone" archive --format=tar HEAD "${files[@]}" | xz -9e >"$folder/copy.tar.xz"
git -C "$clone" log -1 --format='%cI %H' >"$folder/copy.txt"
cat "$folder/copy.txt"
