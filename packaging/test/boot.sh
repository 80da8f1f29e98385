#!/usr/bin/env bash
# Boots the systemd of a root in namespaces of its own; ends when it is killed. Called by packaging/test.sh, as root:
#
#   boot.sh ROOT
#
# The control groups are below /packhorse-test of each hierarchy that is mounted here, and removed by the caller.
set -euo pipefail
if [ "${2:-}" != inside ]; then
  while read -r _ hierarchy type _; do
    case $type in cgroup | cgroup2) ;; *) continue ;; esac
    group=$hierarchy/packhorse-test
    mkdir -p "$group"
    # A cpuset takes nobody before it has processors and memory.
    for file in cpuset.cpus cpuset.mems; do
      if [ -e "$group/$file" ] && [ ! -s "$group/$file" ]; then cat "$hierarchy/$file" >"$group/$file"; fi
    done
    echo $$ >"$group/cgroup.procs" || true
  done </proc/mounts
  exec unshare --mount --pid --fork --kill-child --uts --ipc --cgroup --propagation private "$0" "$1" inside
fi

root=$1
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind -o ro /sys "$root/sys"
# What is mounted now; reading on while mounting would find our own.
groups=$(grep ' /sys/fs/cgroup' /proc/mounts)
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
while read -r _ at type options _; do
  case $type in
    cgroup2)
      if [ "$at" = /sys/fs/cgroup ]; then inner=$root/sys/fs/cgroup; else inner=$root$at; fi
      mkdir -p "$inner"
      mount -t cgroup2 cgroup2 "$inner"
      ;;
    cgroup)
      mkdir -p "$root$at"
      mount -t cgroup -o "${options#rw,relatime,}" cgroup "$root$at"
      ;;
  esac
done <<<"$groups"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind /dev "$root/dev"
hostname packhorse-test
cd "$root"
exec chroot "$root" /usr/bin/env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --log-target=null --show-status=no systemd.unit=multi-user.target
