#!/bin/busybox sh
# The first process of a virtual machine that does what it is told: each line
# that comes is a piece of shell, and its status is said after its output.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/bin DM_DISABLE_UDEV=1
mkdir -p /proc /sys /dev /run /tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
dmesg -n 1
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -opost

for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk dm-mod dm-bufio dm-snapshot; do
	insmod /modules/$module.ko || poweroff -f
done
echo
echo STATUS READY
while read -r line; do
	(eval "$line")
	status=$?
	echo
	echo STATUS $status
done
poweroff -f
