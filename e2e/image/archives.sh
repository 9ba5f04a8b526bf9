#!/usr/bin/env bash
# Packs what build.sh has made for those who install a program rather than an image, in target/archives:
#
#   pod-reloader-vVERSION-linux-ARCHITECTURE.tar.gz   the binary and its licences
#   checksums.txt                                     their SHA-256
#   krew/pod-reloader.yaml                            for krew's index: kubectl pod-reloader
#   homebrew/pod-reloader.rb                          a formula for a tap
#
#   DOWNLOADS  where the archives will be, such as https://git.example.com/team/pod-reloader/releases/download/v1.0.0
#   HOMEPAGE   where the project is (where the archives are, up to /releases, unless it is set)
set -euo pipefail

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
downloads=${DOWNLOADS:?error: where will the archives be? DOWNLOADS=https://git.example.com/team/pod-reloader/releases/download/v1.0.0}
downloads=${downloads%/}
[[ $downloads =~ ^https://[A-Za-z0-9._~:/%+-]+$ ]] || fail "DOWNLOADS must be an address that begins with https://, not $downloads"
homepage=${HOMEPAGE:-${downloads%%/releases*}}
[ -s target/image/architectures ] || fail "nothing was built yet: make image"
set_epoch
version=$(product_version)
output=$root/target/archives
rm -rf "$output"
mkdir -p "$output/krew" "$output/homebrew"

description="Rolls out workloads when the ConfigMaps and Secrets they use change"
platforms='' formulas=''
while read -r architecture; do
    name=pod-reloader-v$version-linux-$architecture.tar.gz
    contents=$(mktemp -d)
    install --mode=755 "${CARGO_TARGET_DIR:-target}/$(processor "$architecture")-unknown-linux-gnu/release/pod-reloader" "$contents/"
    install --mode=644 LICENSE "$contents/"
    e2e/image/notices.sh "$architecture" >"$contents/THIRD-PARTY.txt"
    chmod 644 "$contents/THIRD-PARTY.txt"
    (cd "$contents" && tar --create --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -- *) |
        gzip -9 --no-name >"$output/$name"
    rm -rf "$contents"
    digest=$(sha256sum <"$output/$name") digest=${digest%% *}
    printf '%s  %s\n' "$digest" "$name" >>"$output/checksums.txt"
    platforms+="
  - selector:
      matchLabels:
        os: linux
        arch: $architecture
    uri: $downloads/$name
    sha256: $digest
    bin: pod-reloader"
    case $architecture in amd64) on=on_intel ;; *) on=on_arm ;; esac
    formulas+="
  $on do
    url \"$downloads/$name\"
    sha256 \"$digest\"
  end"
done <target/image/architectures

cat >"$output/krew/pod-reloader.yaml" <<YAML
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: pod-reloader
spec:
  version: v$version
  homepage: $homepage
  shortDescription: Test an installation of pod-reloader
  description: |
    $description. This is the operator's own binary: \`kubectl pod-reloader
    self-test --leader-election-namespace=NAMESPACE\` creates a Deployment with
    zero replicas and verifies that the operator in the cluster reloads it.
  platforms:$platforms
YAML
cat >"$output/homebrew/pod-reloader.rb" <<RUBY
class PodReloader < Formula
  desc "$description"
  homepage "$homepage"
  version "$version"
  license "Apache-2.0"
  depends_on :linux
$formulas

  def install
    bin.install "pod-reloader"
    # Found by kubectl as its plugin.
    bin.install_symlink "pod-reloader" => "kubectl-pod_reloader"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/pod-reloader --version")
  end
end
RUBY
printf 'in %s: archives of %s, a manifest for krew, and a formula for Homebrew\n' "$output" "$(paste -sd' ' target/image/architectures)"
