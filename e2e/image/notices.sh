#!/usr/bin/env bash
# Prints the licences of all third-party code in the binary: the crates that Cargo.lock has for it, Rust's standard
# library and the C library. notices.sh ARCHITECTURE >FILE
#
# The texts are those that the crates' own packages hold. The same crates and toolchain give the same bytes.
set -euo pipefail
export LC_ALL=C

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
architecture=${1:?usage: notices.sh ARCHITECTURE}
target=$(processor "$architecture")-unknown-linux-gnu
cd "$root"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$cargo" fetch --locked --target "$target" --quiet
"$cargo" tree --locked --package pod-reloader --edges normal,no-proc-macro --target "$target" --prefix none --no-dedupe \
    --format '{p}|{l}|{r}' | sed 's/ (\/[^|]*)|/ (local)|/' | sort -u >"$scratch/crates"
# Where a package lies is known to Cargo alone: in its registry, or in a folder of vendored sources.
"$cargo" metadata --locked --format-version 1 --filter-platform "$target" |
    grep -o '"manifest_path":"[^"]*"' | sed 's/^"manifest_path":"//; s/\/Cargo\.toml"$//' | sort -u >"$scratch/folders"

rule=$(printf '=%.0s' {1..100})
declare -A users=()
texts=()

# Notes that a crate has a licence's text, of which there is one copy however many have the same.
add_text() {
    local sum
    tr -d '\r' <"$2" >"$scratch/text"
    sum=$(sha256sum <"$scratch/text") sum=${sum%% *}
    if [ -z "${users[$sum]:-}" ]; then
        texts+=("$sum")
        mv "$scratch/text" "$scratch/$sum"
        users[$sum]=$1
    elif [[ ", ${users[$sum]}," != *", $1,"* ]]; then
        users[$sum]+=", $1"
    fi
}

printf 'pod-reloader is licensed under Apache-2.0 (LICENSE, beside this file). Its binary has code of these:\n\n'
while IFS='|' read -r package licence repository; do
    [[ $package != *'(local)' ]] || continue
    name=${package%% *} version=${package#* v} version=${version%% *}
    printf '  %s %s: %s%s\n' "$name" "$version" "${licence:-see below}" "${repository:+, $repository}"
    folder=$(grep -m 1 "/$name-${version//./\\.}\$" "$scratch/folders" || grep -m 1 "/$name\$" "$scratch/folders") ||
        fail "Cargo does not say where $name $version lies"
    found=
    # Wherever they lie: a package may have code of others in it (ring does).
    while IFS= read -r file; do
        found=1
        add_text "$name $version" "$folder/$file"
    done < <(cd "$folder" && find . -type f -regextype posix-extended \
        -iregex '.*/(un)?(licen[sc]e|copying|copyright|notice)[^/]*' \
        -not -iregex '.*(\.(rs|py|sh|toml|ya?ml)|/(tests?|benches|examples)/.*)' | sort)
    # Some packages leave the text out. Apache-2.0 has no copyright line of the author's in it.
    if [ -z "$found" ]; then
        [[ $licence == *Apache-2.0* ]] || fail "there is no text for the licence ($licence) of $name $version"
        add_text "$name $version" LICENSE
    fi
done <"$scratch/crates"
rust=$(rustc --version) rust=${rust#rustc } rust=${rust%% *}
printf '  The Rust standard library %s: Apache-2.0 OR MIT, https://github.com/rust-lang/rust\n' "$rust"
printf '  The GNU C Library %s: LGPL-2.1-or-later, https://sourceware.org/glibc\n' "$(glibc_version "$architecture")"
printf '\nThe GNU C Library is linked statically. To use another version of it, build pod-reloader from its source (make build).\n'

for sum in "${texts[@]}"; do
    printf '\n%s\n%s\n%s\n\n' "$rule" "$(fold --spaces --width=100 <<<"${users[$sum]}")" "$rule"
    cat "$scratch/$sum"
done
# What the standard library and its own dependencies say, as Rust's distribution ships it.
library=$(rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html
[ -f "$library" ] || fail "Rust's notices are missing: $library"
printf '\n%s\nThe Rust standard library %s\n%s\n\n' "$rule" "$rust" "$rule"
sed -e 's/<[^>]*>//g' -e 's/^[[:space:]]*//; s/[[:space:]]*$//' \
    -e 's/&lt;/</g; s/&gt;/>/g; s/&quot;/"/g; s/&#39;\|&#x27;/'"'"'/g; s/&amp;/\&/g' "$library" | cat --squeeze-blank
for file in "$root"/e2e/image/licences/{glibc,LGPL-2.1}.txt; do
    printf '\n%s\nThe GNU C Library\n%s\n\n' "$rule" "$rule"
    cat "$file"
done
