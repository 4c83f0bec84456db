// Package e2e holds the tests of the whole program against other people's:
// libnbd, QEMU, nbdkit, nbd-server, nbd-client, fio, GnuTLS, OpenSSL and the
// Linux kernel. The program runs as users run it, as a process of its own.
package e2e
