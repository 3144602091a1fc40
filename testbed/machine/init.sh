#!/bin/busybox sh
# The machine's first process, until its root is laid out; then the agent takes its place.
# Beside it lie: modules (in the order of their dependencies), shares and links (what the root is made of),
# and next (the script that goes on in the new root).
/bin/busybox --install -s /bin
export PATH=/bin
set -e
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in $(cat /modules/order); do insmod "/modules/$module"; done

mount -t tmpfs -o mode=0755 root /new
while read -r tag path; do
  mkdir -p "/new$path"
  mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 "$tag" "/new$path"
done </shares
while read -r target path; do ln -s "$target" "/new$path"; done </links
mkdir -p /new/dev /new/proc /new/sys /new/run /new/tmp /new/var /new/root
chmod 1777 /new/tmp
ln -s /tmp /new/var/tmp
for each in dev proc sys; do mount --move "/$each" "/new/$each"; done
mkdir -p /new/dev/shm /new/dev/pts
mount -t tmpfs -o mode=1777 shm /new/dev/shm
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
ip link set lo up
echo 1 >/new/proc/sys/vm/overcommit_memory # as the kubelet sets it
cp /next /new/run/next
exec switch_root /new /bin/sh /run/next
