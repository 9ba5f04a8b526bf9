# Sourced by `sh -c` with the run's folder in $1, when the node is being killed: removes the cgroups of its containers,
# the only thing that neither the kernel nor the removal of the folder takes away.
tasks=$1/containerd/state/io.containerd.runtime.v2.task/k8s.io
remaining() { for id in "$tasks"/*; do ls -d /sys/fs/cgroup/k8s.io/"${id##*/}" /sys/fs/cgroup/*/k8s.io/"${id##*/}" 2>/dev/null; done; }
if [ -d "$tasks" ]; then
    # A cgroup can be removed when the last of its processes is gone.
    tries=100
    while [ "$tries" -gt 0 ]; do
        groups=$(remaining)
        [ -n "$groups" ] || break
        for group in $groups; do find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; done
        [ -z "$(remaining)" ] || sleep 0.1
        tries=$((tries - 1))
    done
    # Shared with other nodes, if there are any: they keep it.
    rmdir /sys/fs/cgroup/k8s.io /sys/fs/cgroup/*/k8s.io 2>/dev/null || :
fi
