package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// inNamespace marks the process that runs in a network namespace of its own.
const inNamespace = "STRATA_BENCH_NAMESPACE"

// congestion is the congestion control of Linux as it comes. One that paces,
// such as bbr, measures its own timers on a loopback interface.
const congestion = "cubic"

// isolate runs this program again in a network namespace of its own, where TCP
// is as Linux comes whatever the machine is set to, and returns how that ended.
// It returns false where the caller has to go on itself: because it is that
// process, or has no right to make one.
func isolate() (code int, done bool) {
	if os.Getenv(inNamespace) != "" || os.Geteuid() != 0 {
		return 0, false
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), true
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: no network namespace, TCP is as this machine is set:", err)
		return 0, false
	}
	return 0, true
}

// setUpNetwork makes a new network namespace usable. Outside of one it does
// nothing.
func setUpNetwork() error {
	if os.Getenv(inNamespace) == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	return os.WriteFile(congestionPath, []byte(congestion), 0)
}

const congestionPath = "/proc/sys/net/ipv4/tcp_congestion_control"
