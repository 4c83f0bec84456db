#!/bin/busybox sh
# The first process of a virtual machine: it starts the system on its disk. With "check"
# in the words for the kernel the file system must be sound before that, when its log has
# been read.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/bin
mkdir -p /proc /sys /dev /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
dmesg -n 1

must() {
	"$@" >/out 2>&1 && return
	cat /out
	dmesg | tail -n 20
	echo "GUEST FAILED: $*"
	poweroff -f
}

for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
	must insmod /modules/$module.ko
done
must mount -t ext4 /dev/vda /root
if grep -q check /proc/cmdline; then
	must umount /root
	must e2fsck -fn /dev/vda
	echo "GUEST SOUND"
	must mount -t ext4 /dev/vda /root
fi
mount --move /dev /root/dev
umount /proc /sys
exec switch_root /root /sbin/init
