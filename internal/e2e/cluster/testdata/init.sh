#!/bin/busybox sh
# The system on a volume. It writes files and says which are durable, without end; or with
# "check=N" in the words for the kernel it looks for the first N of them.
export PATH=/bin
mount -t proc proc /proc
exec </dev/ttyS0 >/dev/ttyS0 2>&1

finish() {
	echo "GUEST $*"
	sync
	poweroff -f
}

wanted=$(sed -n 's/.*check=\([0-9]*\).*/\1/p' /proc/cmdline)
if [ -z "$wanted" ]; then
	i=0
	while :; do
		head -c 50000 /dev/urandom >/log/$i || finish "FAILED: writing file $i"
		sha256sum /log/$i >/log/$i.sum || finish "FAILED: reading file $i"
		sync
		echo "GUEST WROTE $i"
		i=$((i + 1))
		sleep 1
	done
fi
i=0
while [ $i -lt $wanted ]; do
	sha256sum -c /log/$i.sum >/dev/null || finish "FAILED: file $i"
	i=$((i + 1))
done
[ -e /born ] && finish "FAILED: somebody was here"
echo "of the clone" >/born
sync
finish PASSED
