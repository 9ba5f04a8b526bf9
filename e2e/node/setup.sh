#!/bin/sh
# The first process of a node, in a network, mount and process namespace of its own: all that it does to the network
# and to mounts goes away with it, and when it ends the kernel kills whatever else still runs there.
#
#   setup.sh DIRECTORY ADDRESS
set -eu
directory=$1 address=$2

# Volumes and the kubelet's folder are shared between the processes of the node, but not with the machine.
mount --make-rshared /

# Short and private paths for sockets, and for what has a fixed place below /run.
mount -t tmpfs -o mode=0755 tmpfs /run
[ -d "$directory" ] || { echo "$directory lies below /run, which a node has for itself" >&2; exit 1; }
for name in containerd kubelet pods; do
    mkdir -p "$directory/$name" "/run/node/$name"
    mount --bind "$directory/$name" "/run/node/$name"
done
# These two cannot be configured.
for fixed in /var/lib/cni /var/log/containers; do
    mkdir -p "$fixed"
    mount -t tmpfs tmpfs "$fixed"
done

# The kubelet insists on these settings of the kernel. They are the whole machine's: it is shown what it wants to see.
while read -r setting value; do
    [ -e "/proc/sys/$setting" ] || continue
    shown=/run/node/$(echo "$setting" | tr / .)
    echo "$value" >"$shown"
    mount --bind "$shown" "/proc/sys/$setting"
done <<SETTINGS
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SETTINGS

# A pair of veth devices rather than a dummy or a bridge: not every kernel has those.
ip link set lo up
ip link add node0 type veth peer name outside0
ip address add "$address/24" dev node0
ip link set node0 up
ip link set outside0 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward

touch "$directory/node-is-set-up"
# Orphans become children of the first process, which has to reap them: `wait` does.
while :; do
    sleep 86400 &
    wait $! || :
done
