#!/usr/bin/env bash
# Installs the Debian packages that a node needs, those that are missing. (containerd may then also run as a service of
# the machine; the node starts one of its own and does not touch that.)
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "$1" ] || missing+=("$2"); }
need containerd containerd
need runc runc
need /usr/lib/cni/ptp containernetworking-plugins
need iptables iptables
need nft nftables
need conntrack conntrack
need ip iproute2
need mount mount
need tar tar
# Unpacks PostgreSQL for an image.
need mmdebstrap mmdebstrap
need unshare util-linux
# Its shell and its small web server are all that is in the images of tests. It must be the static one.
dpkg-query -W -f '${Status}' busybox-static 2>/dev/null | grep -q 'ok installed' || missing+=(busybox-static)
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing: ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
