#!/bin/busybox sh
# The first process of the virtual machine: it uses the disks that the server
# at 10.0.2.100 has as Linux users do, and says on the console what came of it.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/bin
mkdir -p /proc /sys /dev /mnt /tmp /run /var/lib
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
dmesg -n 1

finish() {
	echo "GUEST $*"
	poweroff -f
}

must() {
	"$@" >/tmp/out 2>&1 && return
	cat /tmp/out
	dmesg | tail -n 20
	finish "FAILED: $*"
}

equal() {
	[ "$1" = "$2" ] || finish "FAILED: $3: $1, expected $2"
}

for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net nbd; do
	must insmod /modules/$module.ko
done
must ip link set lo up
must ip link set eth0 up
must ip addr add 10.0.2.15/24 dev eth0

attach() { # DEVICE EXPORT CONNECTIONS
	must nbd-client 10.0.2.100 10809 /dev/$1 -N $2 -C $3
}

# A file system is made and filled through four connections.
attach nbd0 disk 4
equal "$(blockdev --getsize64 /dev/nbd0)" 67108864 "the size"
must /usr/sbin/mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 /dev/nbd0
must mount -t ext4 -o discard /dev/nbd0 /mnt
for i in 1 2 3 4 5 6; do
	must mkdir -p /mnt/dir$i
	must dd if=/dev/urandom of=/mnt/dir$i/file bs=1000 count=$((i * 300))
done
(cd /mnt && sha256sum dir*/file) >/sums
must cp /sums /mnt/sums
must sync
must rm /mnt/dir6/file # freed blocks are discarded
must fstrim /mnt
must umount /mnt
must e2fsck -fn /dev/nbd0
must nbd-client -d /dev/nbd0
grep -v dir6 /sums >/kept
while read -r line; do echo "SUM $line"; done </kept

# Another device finds it as it was left, through one connection.
attach nbd1 disk 1
must mount -t ext4 -o ro /dev/nbd1 /mnt
must cmp /sums /mnt/sums
cd /mnt
must sha256sum -c /kept
cd /
must umount /mnt
must nbd-client -d /dev/nbd1

# What is discarded is gone, what is beside it is not.
attach nbd2 scratch 2
yes strata | head -c 8388608 >/pattern
must dd if=/pattern of=/dev/nbd2 bs=1M oflag=direct
must blkdiscard -o 1048576 -l 2097152 /dev/nbd2
must blockdev --flushbufs /dev/nbd2
head -c 1048576 /pattern >/expected
head -c 2097152 /dev/zero >>/expected
tail -c 5242880 /pattern >>/expected
must dd if=/dev/nbd2 of=/got bs=1M count=8 iflag=direct
must cmp /expected /got
must nbd-client -d /dev/nbd2

# A disk that may only be read is one for the kernel, too.
attach nbd3 fixed 1
equal "$(blockdev --getro /dev/nbd3)" 1 "read-only"
dd if=/pattern of=/dev/nbd3 bs=4k count=1 2>/dev/null && finish "FAILED: a read-only disk is written"
must dd if=/dev/nbd3 of=/dev/null bs=1M count=1
must nbd-client -d /dev/nbd3

finish PASSED
